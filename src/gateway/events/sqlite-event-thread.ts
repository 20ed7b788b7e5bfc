/**
 * The thread that an SQLite event store lives on: writing waits for the disk, and calls must not. What has come in while the disk
 * was busy is one transaction, so that many events are as dear as one.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { EsbError, hasCode, unreachable } from '../../common/errors.ts';
import {
  type FromSqliteThread,
  runOperation,
  type SentError,
  type SqliteOutcome,
  type SqliteThreadData,
  type ToSqliteThread,
} from './sqlite-event-message.ts';
import { SqliteEventTable } from './sqlite-event-table.ts';

type Task = Extract<ToSqliteThread, { readonly kind: 'Do' }>;

function serve(port: NonNullable<typeof parentPort>, data: SqliteThreadData): void {
  const send = (message: FromSqliteThread): void => port.postMessage(message);
  let table: SqliteEventTable;
  try {
    table = new SqliteEventTable(data.file, data.limits, Date.now);
  } catch (error) {
    send({ kind: 'NotOpened', error: sent(error) });
    return;
  }
  let waiting: Task[] = [];
  const flush = (): void => {
    const tasks = waiting;
    waiting = [];
    if (tasks.length > 0) {
      const outcomes = runAll(table, tasks);
      send({ kind: 'Done', outcomes, load: table.load });
    }
  };
  port.on('message', (message: ToSqliteThread) => {
    switch (message.kind) {
      case 'Do':
        if (waiting.push(message) === 1) {
          setImmediate(flush);
        }
        break;
      case 'Close':
        flush();
        table.close();
        port.close();
        break;
      default:
        unreachable(message);
    }
  });
  send({ kind: 'Opened', load: table.load });
}

/** All in one transaction. One that is refused does not take the others with it; a disk that fails does. */
function runAll(table: SqliteEventTable, tasks: readonly Task[]): readonly SqliteOutcome[] {
  try {
    return table.transaction(() =>
      tasks.map(({ number, operation }): SqliteOutcome => {
        try {
          return { number, value: runOperation(table, operation) };
        } catch (error) {
          if (hasCode(error, 'EventStoreFull')) {
            return { number, error: sent(error) };
          }
          throw error;
        }
      }),
    );
  } catch (error) {
    return tasks.map(({ number }) => ({ number, error: sent(error) }));
  }
}

function sent(error: unknown): SentError {
  const { code, message } = EsbError.from(error);
  return { code, message };
}

if (parentPort !== null) {
  serve(parentPort, workerData as SqliteThreadData);
}
