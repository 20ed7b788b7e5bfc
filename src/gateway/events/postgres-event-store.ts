import { randomUUID } from 'node:crypto';
import pg from 'pg';
import type { Clock } from '../../common/clock.ts';
import { EsbError, hasCode, messageOf } from '../../common/errors.ts';
import type { Health } from '../../common/health.ts';
import type { Logger } from '../../common/logger.ts';
import { repeat } from '../../common/repeat.ts';
import { TaskGroup } from '../../common/task-group.ts';
import {
  type Claimed,
  type ClaimedEvent,
  type ClaimLimits,
  decodeClaim,
  type EventLimits,
  type EventLoad,
  type EventPartition,
  type EventProgress,
  type EventStore,
  encodeHead,
  type Fullness,
  fullnessFor,
  NO_LOAD,
  PARK_MS,
  partitionOf,
  type StoredEvent,
  storeFull,
  storeUnavailable,
  storeUncertain,
} from './event-store.ts';
import { prepareEventSchema } from './postgres-event-schema.ts';

/** Connections of one gateway. */
const MAX_CONNECTIONS = 8;
/** Milliseconds that connecting, a statement, and a statement with the way to and fro may take. */
const CONNECT_MS = 5_000;
const STATEMENT_MS = 10_000;
const QUERY_MS = 15_000;
/** Milliseconds between two counts of the events: other gateways put events in too. */
const COUNT_MS = 1_000;
/** Milliseconds between two looks for events when none of this gateway's own is due. */
const POLL_MS = 1_000;

export interface PostgresEventStoreOptions {
  /** `postgres://…`. A secret: no message and no log has it. */
  readonly connectionString: string;
  /** Kubernetes namespace: gateways of several may share a database. */
  readonly namespace: string;
  readonly limits: EventLimits;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface RecentPut {
  readonly partition: string;
  readonly bytes: number;
  isDone: boolean;
}

interface ClaimedRow {
  readonly id: string;
  readonly head: string;
  readonly progress: string;
  readonly accepted_at: string;
  readonly payload: Buffer;
}

/**
 * Events in a PostgreSQL database, for several gateways of a namespace. Times are the database's, so the clocks of
 * gateways need not agree. Claims skip rows that another gateway is claiming (`SKIP LOCKED`), and lapse by themselves.
 *
 * The limits apply to the count of a second ago plus the puts of this gateway since: together, gateways may exceed them
 * by the events that they take in a second.
 */
export class PostgresEventStore implements EventStore {
  readonly pollMs = POLL_MS;
  readonly limits: EventLimits;
  readonly #pool: pg.Pool;
  readonly #options: PostgresEventStoreOptions;
  readonly #tasks: TaskGroup;
  readonly #owner = randomUUID();
  /** Settled once the events were counted, or could not be. */
  readonly #firstCount = Promise.withResolvers<void>();
  #counted: EventLoad = NO_LOAD;
  /** Counted events by partition. */
  #countedByPartition: ReadonlyMap<string, EventLoad> = new Map();
  /** Puts that the last count may not have seen. */
  readonly #recent = new Set<RecentPut>();
  #recentBytes = 0;
  /** Whether some of these were under way at the last count, which may have seen them as well. */
  #mayCountTwice = false;
  #counting: Promise<void> | undefined;
  #claims = 0;
  #prepared: Promise<void> | undefined;
  /** The reason for which the database was no use the last time that it was asked. */
  #failure: EsbError | undefined;

  /**
   * Connects when it is first asked, and makes the tables where they are not there.
   *
   * @throws {EsbError} `EventStoreUnreadable` when the connection string is none
   */
  constructor(options: PostgresEventStoreOptions) {
    this.#options = options;
    this.limits = options.limits;
    this.#pool = new pg.Pool({
      connectionString: checked(options.connectionString),
      application_name: 'esb-gateway',
      max: MAX_CONNECTIONS,
      connectionTimeoutMillis: CONNECT_MS,
      statement_timeout: STATEMENT_MS,
      query_timeout: QUERY_MS,
      idle_in_transaction_session_timeout: STATEMENT_MS,
      keepAlive: true,
      // A database or a role may have the setting off, or wait for no standby: then an accepted event could be lost
      // with the server. The pool waits for the returned promise, which its types do not say.
      onConnect: (client): unknown =>
        client.query(
          "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')",
        ),
    });
    this.#pool.on('error', (error) => {
      options.logger.warn({ reason: error.message }, 'connection to the event database was lost');
    });
    // The query reports the error; without a listener the event would end the process.
    this.#pool.on('connect', (client) => void client.on('error', () => undefined));
    this.#tasks = new TaskGroup((_name, error) => {
      options.logger.error({ err: error }, 'counting events failed');
    });
    this.#tasks.run('count events', (signal) =>
      repeat({ clock: options.clock, everyMs: COUNT_MS, onError: () => undefined }, signal, async () => {
        await this.#recount();
        this.#firstCount.resolve();
      }),
    );
  }

  async put(event: StoredEvent): Promise<void> {
    const { limits, namespace } = this.#options;
    // Before the first count a full store would look empty, and an event put meanwhile would be counted twice.
    await this.#firstCount.promise;
    const put: RecentPut = { partition: partitionOf(event.target), bytes: event.payload.length, isDone: false };
    const fullness = (): Fullness | undefined =>
      fullnessFor(limits, this.load(), this.#loadOf(put.partition), put.bytes);
    // Twice, since the first count may have been under way already.
    for (let count = 0; count < 2 && fullness() !== undefined; count += 1) {
      if (!this.#mayCountTwice) {
        break;
      }
      await this.#recount();
    }
    const full = fullness();
    if (full !== undefined) {
      throw storeFull(full, limits);
    }
    this.#recent.add(put);
    this.#recentBytes += put.bytes;
    try {
      await this.#query(
        'INSERT INTO esb_events (namespace, id, lane, accepted_at, head, progress, payload) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING',
        [namespace, ...valuesOf(event)],
      );
    } catch (error) {
      if (hasCode(error, 'EventStoreUnavailable') && this.#recent.delete(put)) {
        this.#recentBytes -= put.bytes;
      }
      throw error;
    } finally {
      put.isDone = true;
    }
  }

  async partitions(): Promise<readonly EventPartition[]> {
    // From partition to partition along the index, however many events each has.
    const rows = await this.#query<{ readonly lane: string; readonly due: number }>(
      `WITH RECURSIVE known (lane) AS (
         SELECT min(lane) FROM esb_events WHERE namespace = $1
         UNION ALL
         SELECT (SELECT min(lane) FROM esb_events WHERE namespace = $1 AND lane > known.lane)
         FROM known WHERE known.lane IS NOT NULL
       )
       SELECT lane, (extract(epoch FROM (
         SELECT min(visible_at) FROM esb_events e WHERE e.namespace = $1 AND e.lane = known.lane
       ) - now()) * 1000)::float8 AS due
       FROM known WHERE lane IS NOT NULL`,
      [this.#options.namespace],
    );
    return rows.map(({ lane, due }) => ({ partition: lane, dueInMs: due }));
  }

  async claim(partition: string, limits: ClaimLimits, leaseMs: number): Promise<Claimed> {
    this.#claims += 1;
    const claim = `${this.#owner}:${this.#claims}`;
    const rows = await this.#query<ClaimedRow>(
      `WITH due AS MATERIALIZED (
         SELECT seq, visible_at, octet_length(payload) AS bytes FROM esb_events
         WHERE namespace = $1 AND lane = $2 AND visible_at <= now()
         ORDER BY visible_at, seq LIMIT $3 FOR UPDATE SKIP LOCKED
       ), fitting AS (
         SELECT seq, visible_at FROM (
           SELECT seq, visible_at, sum(bytes) OVER (ORDER BY visible_at, seq) AS total FROM due
         ) AS counted WHERE total <= $6
       ), taken AS (
         UPDATE esb_events e SET visible_at = now() + $4 * interval '1 millisecond', claim = $5
         FROM fitting WHERE e.seq = fitting.seq
         RETURNING e.seq, fitting.visible_at AS was_due, e.id, e.head, e.progress, e.accepted_at, e.payload
       )
       SELECT id, head, progress, accepted_at, payload FROM taken ORDER BY was_due, seq`,
      [this.#options.namespace, partition, limits.events, leaseMs, claim, limits.bytes],
    );
    const claimed = decodeClaim(
      rows.map(({ accepted_at, ...row }) => ({ ...row, claim, acceptedAt: Number(accepted_at) })),
    );
    if (claimed.unreadable.length > 0) {
      await this.#query(
        `UPDATE esb_events SET visible_at = now() + $3 * interval '1 millisecond', claim = NULL
         WHERE id = ANY($1::text[]) AND claim = $2`,
        [claimed.unreadable.map(({ requestId }) => requestId), claim, PARK_MS],
      );
    }
    return claimed;
  }

  async renew(claimed: readonly ClaimedEvent[], leaseMs: number): Promise<void> {
    await this.#query(
      `UPDATE esb_events e SET visible_at = now() + $3 * interval '1 millisecond'
       FROM unnest($1::text[], $2::text[]) AS mine (id, claim) WHERE e.id = mine.id AND e.claim = mine.claim`,
      [claimed.map(({ event }) => event.requestId), claimed.map(({ claim }) => claim), leaseMs],
    );
  }

  /** Nothing: a try of a gateway that was killed is made again. */
  async note(): Promise<void> {}

  async finish(requestId: string): Promise<void> {
    await this.#query('DELETE FROM esb_events WHERE id = $1', [requestId]);
  }

  async postpone({ event, claim }: ClaimedEvent, progress: EventProgress, delayMs: number): Promise<boolean> {
    const rows = await this.#query(
      `UPDATE esb_events SET visible_at = now() + $4 * interval '1 millisecond', progress = $3, claim = NULL
       WHERE id = $1 AND claim = $2 RETURNING id`,
      [event.requestId, claim, JSON.stringify(progress), delayMs],
    );
    return rows.length > 0;
  }

  async exchange({ event, claim }: ClaimedEvent, successor: StoredEvent): Promise<boolean> {
    // One statement, so that it is one transaction.
    const rows = await this.#query(
      `WITH gone AS (DELETE FROM esb_events WHERE id = $1 AND claim = $2 RETURNING namespace)
       INSERT INTO esb_events (namespace, id, lane, accepted_at, head, progress, payload)
       SELECT namespace, $3, $4, $5, $6, $7, $8 FROM gone RETURNING id`,
      [event.requestId, claim, ...valuesOf(successor)],
    );
    return rows.length > 0;
  }

  load(): EventLoad {
    const { events, bytes } = this.#counted;
    return { events: events + this.#recent.size, bytes: bytes + this.#recentBytes };
  }

  health(): Health {
    return this.#failure === undefined
      ? { ok: true }
      : { ok: false, reason: this.#failure.code, message: this.#failure.message };
  }

  #loadOf(partition: string): EventLoad {
    const counted = this.#countedByPartition.get(partition) ?? NO_LOAD;
    const recent = [...this.#recent].filter((put) => put.partition === partition);
    return {
      events: counted.events + recent.length,
      bytes: counted.bytes + recent.reduce((sum, { bytes }) => sum + bytes, 0),
    };
  }

  async close(): Promise<void> {
    await this.#tasks.stop();
    await this.#pool.end();
  }

  /** Counts the events, once for all callers meanwhile. Never rejects. */
  #recount(): Promise<void> {
    this.#counting ??= this.#count()
      .catch((error: unknown) => {
        this.#options.logger.warn({ err: error }, 'events were not counted');
      })
      .finally(() => {
        this.#counting = undefined;
      });
    return this.#counting;
  }

  async #count(): Promise<void> {
    const seen = [...this.#recent].filter(({ isDone }) => isDone);
    const rows = await this.#query<{
      readonly lane: string;
      readonly events: string;
      readonly bytes: string;
    }>(
      `SELECT lane, count(*) AS events, coalesce(sum(octet_length(payload)), 0) AS bytes
       FROM esb_events WHERE namespace = $1 GROUP BY lane`,
      [this.#options.namespace],
    );
    const byPartition = new Map(
      rows.map(({ lane, events, bytes }) => [lane, { events: Number(events), bytes: Number(bytes) }]),
    );
    this.#countedByPartition = byPartition;
    this.#counted = [...byPartition.values()].reduce(
      (sum, { events, bytes }) => ({ events: sum.events + events, bytes: sum.bytes + bytes }),
      NO_LOAD,
    );
    for (const put of seen) {
      if (this.#recent.delete(put)) {
        this.#recentBytes -= put.bytes;
      }
    }
    this.#mayCountTwice = this.#recent.size > 0;
  }

  /** Asks the database. Foreign errors end here. */
  async #query<T extends object>(text: string, values: readonly unknown[]): Promise<readonly T[]> {
    let client: pg.PoolClient;
    try {
      await this.#prepare();
      client = await this.#pool.connect();
    } catch (error) {
      this.#failure =
        error instanceof EsbError
          ? error
          : storeUnavailable(`the event database cannot be used: ${messageOf(error)}`, error);
      throw this.#failure;
    }
    try {
      const { rows } = await client.query<T>(text, [...values]);
      client.release();
      this.#failure = undefined;
      return rows;
    } catch (error) {
      client.release(error instanceof pg.DatabaseError ? undefined : (error as Error));
      this.#failure = queryError(error);
      throw this.#failure;
    }
  }

  /** Makes the tables, once; after a failure again at the next call. */
  #prepare(): Promise<void> {
    this.#prepared ??= prepareEventSchema(this.#pool).catch((error: unknown) => {
      this.#prepared = undefined;
      throw error;
    });
    return this.#prepared;
  }
}

/** A statement that the server refused did not happen; the outcome of one that was lost on the way is unknown. */
function queryError(error: unknown): EsbError {
  const message = `the event database cannot be used: ${messageOf(error)}`;
  return error instanceof pg.DatabaseError ? storeUnavailable(message, error) : storeUncertain(message, error);
}

/** @throws {EsbError} without the text, which is a secret */
function checked(connectionString: string): string {
  const text = connectionString.trim();
  if (!/^postgres(?:ql)?:\/\//.test(text) || !URL.canParse(text)) {
    throw new EsbError('the connection string of the event database is no postgres://… address', {
      code: 'EventStoreUnreadable',
    });
  }
  return text;
}

function valuesOf(event: StoredEvent): readonly unknown[] {
  return [
    event.requestId,
    partitionOf(event.target),
    event.acceptedAt,
    encodeHead(event),
    JSON.stringify(event.progress),
    event.payload,
  ];
}
