import {
  type ClaimedEvent,
  decodeEvent,
  type EventLane,
  type EventLoad,
  type EventProgress,
  type EventStore,
  encodeHead,
  laneOf,
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
  close(): Promise<void>;
}

/** Events in an SQLite file in the gateway's state folder, for a gateway that is the only one of its namespace. */
export class SqliteEventStore implements EventStore {
  readonly pollMs = POLL_MS;
  readonly #channel: SqliteChannel;

  constructor(channel: SqliteChannel) {
    this.#channel = channel;
  }

  async put(event: StoredEvent): Promise<void> {
    const row = newRow(event);
    await this.#channel.run({ kind: 'Put', row });
  }

  async lanes(): Promise<readonly EventLane[]> {
    return (await this.#channel.run({ kind: 'Lanes' })) as readonly EventLane[];
  }

  async claim(lane: string, limit: number, leaseMs: number): Promise<readonly ClaimedEvent[]> {
    const rows = (await this.#channel.run({ kind: 'Claim', lane, limit, leaseMs })) as readonly ClaimedRow[];
    return rows.map((row) => ({ event: decodeEvent(row), claim: row.claim }));
  }

  async renew(claimed: readonly ClaimedEvent[], leaseMs: number): Promise<void> {
    const claims = claimed.map(({ event, claim }) => ({ id: event.requestId, claim }));
    await this.#channel.run({ kind: 'Renew', claims, leaseMs });
  }

  async finish({ event }: ClaimedEvent): Promise<void> {
    await this.#channel.run({ kind: 'Finish', id: event.requestId });
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
