import type { Health } from '../../common/health.ts';
import {
  type Claimed,
  type ClaimedEvent,
  type ClaimLimits,
  decodeClaim,
  type EventLane,
  type EventLimits,
  type EventLoad,
  type EventProgress,
  type EventStore,
  encodeHead,
  laneOf,
  PARK_MS,
  type StoredEvent,
} from './event-store.ts';
import type { SqliteOperation, SqliteValue } from './sqlite-event-message.ts';
import type { ClaimedRow, NewRow } from './sqlite-event-table.ts';

/** Milliseconds between two looks when nothing is due: nobody else puts events into the file. */
const POLL_MS = 30_000;

/** The way to a table of events, which lives on a thread of its own. */
export interface SqliteChannel {
  /** Does one thing. Resolves once it is durable. Errors are those of {@link EventStore}. */
  run(operation: SqliteOperation): Promise<SqliteValue>;
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
    const row = newRow(event);
    await this.#channel.run({ kind: 'Put', row });
  }

  async lanes(): Promise<readonly EventLane[]> {
    return (await this.#channel.run({ kind: 'Lanes' })) as readonly EventLane[];
  }

  async claim(lane: string, limits: ClaimLimits, leaseMs: number): Promise<Claimed> {
    const rows = (await this.#channel.run({ kind: 'Claim', lane, limits, leaseMs })) as readonly ClaimedRow[];
    const claimed = decodeClaim(rows);
    const unreadable = new Set(claimed.unreadable.map(({ requestId }) => requestId));
    for (const { id, claim } of rows.filter((row) => unreadable.has(row.id))) {
      await this.#channel.run({ kind: 'Park', id, claim, delayMs: PARK_MS });
    }
    return claimed;
  }

  async renew(claimed: readonly ClaimedEvent[], leaseMs: number): Promise<void> {
    const claims = claimed.map(({ event, claim }) => ({ id: event.requestId, claim }));
    await this.#channel.run({ kind: 'Renew', claims, leaseMs });
  }

  async finish(requestId: string): Promise<void> {
    await this.#channel.run({ kind: 'Finish', id: requestId });
  }

  async postpone({ event, claim }: ClaimedEvent, progress: EventProgress, delayMs: number): Promise<void> {
    await this.#channel.run({
      kind: 'Postpone',
      id: event.requestId,
      claim,
      progress: JSON.stringify(progress),
      delayMs,
    });
  }

  async exchange({ event, claim }: ClaimedEvent, successor: StoredEvent): Promise<void> {
    await this.#channel.run({ kind: 'Exchange', id: event.requestId, claim, successor: newRow(successor) });
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

/** With a payload of its own: what is sent to a thread is copied together with all that it is a part of. */
function newRow(event: StoredEvent): NewRow {
  return {
    id: event.requestId,
    lane: laneOf(event.target),
    head: encodeHead(event),
    progress: JSON.stringify(event.progress),
    acceptedAt: event.acceptedAt,
    payload: new Uint8Array(event.payload),
  };
}
