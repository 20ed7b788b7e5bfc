import type { Health } from '../../common/health.ts';
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
  PARK_MS,
  partitionOf,
  type StoredEvent,
} from './event-store.ts';
import type { TableMethod } from './sqlite-event-desk.ts';
import type { NewRow, SqliteEventTable } from './sqlite-event-table.ts';

/** Milliseconds between two polls when nothing is due: this gateway alone puts events into the file. */
const POLL_MS = 30_000;

/** Calls a table of events on another thread. */
export interface SqliteChannel {
  /** Calls a method of the table. Resolves once its effect is durable. Errors are those of {@link EventStore}. */
  run<Method extends TableMethod>(
    method: Method,
    ...args: Parameters<SqliteEventTable[Method]>
  ): Promise<ReturnType<SqliteEventTable[Method]>>;
  load(): EventLoad;
  /** Whether events can be kept. */
  health(): Health;
  close(): Promise<void>;
}

/** Events in an SQLite file in the gateway's state folder, for a gateway that is the only one of its namespace. */
export class SqliteEventStore implements EventStore {
  readonly pollMs = POLL_MS;
  readonly limits: EventLimits;
  readonly #channel: SqliteChannel;

  /** @param limits those of the channel's table */
  constructor(channel: SqliteChannel, limits: EventLimits) {
    this.limits = limits;
    this.#channel = channel;
  }

  async put(event: StoredEvent): Promise<void> {
    await this.#channel.run('put', newRow(event));
  }

  partitions(): Promise<readonly EventPartition[]> {
    return this.#channel.run('partitions');
  }

  async claim(partition: string, limits: ClaimLimits, leaseMs: number): Promise<Claimed> {
    const rows = await this.#channel.run('claim', partition, limits, leaseMs);
    const claimed = decodeClaim(rows);
    const unreadable = new Set(claimed.unreadable.map(({ requestId }) => requestId));
    for (const { id, claim } of rows.filter((row) => unreadable.has(row.id))) {
      await this.#channel.run('park', id, claim, PARK_MS);
    }
    return claimed;
  }

  renew(claimed: readonly ClaimedEvent[], leaseMs: number): Promise<void> {
    const claims = claimed.map(({ event, claim }) => ({ id: event.requestId, claim }));
    return this.#channel.run('renew', claims, leaseMs);
  }

  finish(requestId: string): Promise<void> {
    return this.#channel.run('finish', requestId);
  }

  postpone({ event, claim }: ClaimedEvent, progress: EventProgress, delayMs: number): Promise<void> {
    return this.#channel.run('postpone', event.requestId, claim, JSON.stringify(progress), delayMs);
  }

  exchange({ event, claim }: ClaimedEvent, successor: StoredEvent): Promise<void> {
    return this.#channel.run('exchange', event.requestId, claim, newRow(successor));
  }

  load(): EventLoad {
    return this.#channel.load();
  }

  health(): Health {
    return this.#channel.health();
  }

  close(): Promise<void> {
    return this.#channel.close();
  }
}

/** The row of an event, with a copy of the payload: a message to a thread carries the whole buffer behind a view. */
function newRow(event: StoredEvent): NewRow {
  return {
    id: event.requestId,
    partition: partitionOf(event.target),
    head: encodeHead(event),
    progress: JSON.stringify(event.progress),
    acceptedAt: event.acceptedAt,
    payload: new Uint8Array(event.payload),
  };
}
