/**
 * The thread of an SQLite event store: writes wait for the disk, and calls must not. Tasks that arrive while the disk
 * is busy are one transaction, so that many events cost as much as one.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { EventLimits, EventLoad } from './event-store.ts';
import {
  DiskReserve,
  type SentError,
  SqliteEventDesk,
  type SqliteOutcome,
  type SqliteTask,
  sentError,
} from './sqlite-event-desk.ts';
import { SqliteEventTable } from './sqlite-event-table.ts';

/** Bytes on the disk that are reserved for the ends of events. */
const RESERVE_BYTES = 8 * 1024 * 1024;

export interface SqliteThreadData {
  readonly file: string;
  readonly limits: EventLimits;
  /** Name of this process. */
  readonly owner: string;
  readonly isSuspect: boolean;
}

export type ToSqliteThread = SqliteTask | 'Close';

export type FromSqliteThread =
  | { readonly kind: 'NotOpened'; readonly error: SentError }
  /** Sent after the opening, without outcomes, and after each transaction. */
  | {
      readonly kind: 'Done';
      readonly outcomes: readonly SqliteOutcome[];
      readonly load: EventLoad;
      readonly diskFull: boolean;
    };

function serve(port: NonNullable<typeof parentPort>, data: SqliteThreadData): void {
  const send = (message: FromSqliteThread): void => port.postMessage(message);
  let table: SqliteEventTable;
  try {
    table = new SqliteEventTable(data.file, data.limits, Date.now, data.owner, data.isSuspect);
  } catch (error) {
    send({ kind: 'NotOpened', error: sentError(error) });
    return;
  }
  const reserve = new DiskReserve(`${data.file}.reserve`, RESERVE_BYTES);
  const desk = new SqliteEventDesk(table, reserve);
  const done = (outcomes: readonly SqliteOutcome[]): void =>
    send({ kind: 'Done', outcomes, load: table.load, diskFull: desk.isDiskFull });
  let waiting: SqliteTask[] = [];
  const flush = (): void => {
    const tasks = waiting;
    waiting = [];
    if (tasks.length > 0) {
      let outcomes: readonly SqliteOutcome[];
      try {
        outcomes = desk.run(tasks);
      } catch (error) {
        // Ends the thread, with this error as the reason for all that wait.
        table.close();
        throw error;
      }
      done(outcomes);
    }
  };
  port.on('message', (message: ToSqliteThread) => {
    if (message === 'Close') {
      flush();
      table.close();
      port.close();
    } else if (waiting.push(message) === 1) {
      setImmediate(flush);
    }
  });
  done([]);
}

if (parentPort !== null) {
  serve(parentPort, workerData as SqliteThreadData);
}
