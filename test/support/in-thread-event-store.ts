import type { EventStore } from '../../src/gateway/events/event-store.ts';
import { type SqliteChannel, sqliteEventStore } from '../../src/gateway/events/sqlite-event-store.ts';
import { SqliteEventTable } from '../../src/gateway/events/sqlite-event-table.ts';

export interface InThreadEventStoreOptions {
  /** Wall-clock milliseconds. */
  readonly now?: () => number;
  /** A file in place of the memory, and the name of the process that opens it. */
  readonly file?: string;
  readonly owner?: string;
  readonly maxEvents?: number;
  readonly maxBytes?: number;
  /** Called before each thing that is asked: throws to have it fail. */
  readonly before?: (method: string) => void;
}

/** The store of a gateway with its table in memory and on the test's own thread. */
export function inThreadEventStore(options: InThreadEventStoreOptions = {}): EventStore {
  const limits = { maxEvents: options.maxEvents ?? 1_000, maxBytes: options.maxBytes ?? 64 * 2 ** 20 };
  const { file = ':memory:', now = Date.now, owner = 'test' } = options;
  const table = new SqliteEventTable(file, limits, now, owner);
  const channel: SqliteChannel = {
    run: async (method, ...args) => {
      options.before?.(method);
      return table.transaction(() => Reflect.apply(table[method], table, args));
    },
    load: () => table.load,
    health: () => ({ ok: true }),
    close: async () => table.close(),
  };
  return sqliteEventStore(channel, limits);
}
