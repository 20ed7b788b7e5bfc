import {
  decodeClaim,
  type EventLimits,
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
export interface SqliteChannel extends Pick<EventStore, 'load' | 'health' | 'close'> {
  /** Calls a method of the table. Resolves once its effect is durable. Errors are those of {@link EventStore}. */
  run<Method extends TableMethod>(
    method: Method,
    ...args: Parameters<SqliteEventTable[Method]>
  ): Promise<ReturnType<SqliteEventTable[Method]>>;
}

/**
 * Events in an SQLite file in the gateway's state folder, for a gateway that is the only one of its namespace.
 *
 * @param limits those of the channel's table
 */
export function sqliteEventStore(channel: SqliteChannel, limits: EventLimits): EventStore {
  return {
    pollMs: POLL_MS,
    limits,
    put: (event) => channel.run('put', newRow(event)),
    partitions: () => channel.run('partitions'),
    async claim(partition, most, leaseMs) {
      const rows = await channel.run('claim', partition, most, leaseMs);
      const claimed = decodeClaim(rows);
      const unreadable = new Set(claimed.unreadable.map(({ requestId }) => requestId));
      for (const { id, claim } of rows.filter((row) => unreadable.has(row.id))) {
        await channel.run('park', id, claim, PARK_MS);
      }
      return claimed;
    },
    renew(claimed, leaseMs) {
      const claims = claimed.map(({ event, claim }) => ({ id: event.requestId, claim }));
      return channel.run('renew', claims, leaseMs);
    },
    note: ({ event, claim }, sent) => channel.run('note', event.requestId, claim, JSON.stringify(sent)),
    finish: (requestId) => channel.run('finish', requestId),
    postpone: ({ event, claim }, progress, delayMs) =>
      channel.run('postpone', event.requestId, claim, JSON.stringify(progress), delayMs),
    exchange: ({ event, claim }, successor) => channel.run('exchange', event.requestId, claim, newRow(successor)),
    load: () => channel.load(),
    health: () => channel.health(),
    close: () => channel.close(),
  };
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
