/**
 * The thread that an SQLite event store lives on: writing waits for the disk, and calls must not. What has come in while the disk
 * was busy is one transaction, so that many events are as dear as one.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { unreachable } from '../../common/errors.ts';
import { DiskReserve } from './disk-reserve.ts';
import { SqliteEventDesk, sentError } from './sqlite-event-desk.ts';
import type {
  FromSqliteThread,
  SqliteOutcome,
  SqliteTask,
  SqliteThreadData,
  ToSqliteThread,
} from './sqlite-event-message.ts';
import { SqliteEventTable } from './sqlite-event-table.ts';

/** Bytes on the disk that are kept for the ends of events. */
const RESERVE_BYTES = 8 * 1024 * 1024;

function serve(port: NonNullable<typeof parentPort>, data: SqliteThreadData): void {
  const send = (message: FromSqliteThread): void => port.postMessage(message);
  let table: SqliteEventTable;
  try {
    table = new SqliteEventTable(data.file, data.limits, Date.now, data.isSuspect);
  } catch (error) {
    send({ kind: 'NotOpened', error: sentError(error) });
    return;
  }
  const reserve = new DiskReserve(`${data.file}.reserve`, RESERVE_BYTES);
  const desk = new SqliteEventDesk(table, reserve, () => performance.now());
  let waiting: SqliteTask[] = [];
  const flush = (): void => {
    const tasks = waiting;
    waiting = [];
    if (tasks.length > 0) {
      let outcomes: readonly SqliteOutcome[];
      try {
        outcomes = desk.run(tasks);
      } catch (error) {
        // Ends the thread, and whoever waits is told why.
        table.close();
        throw error;
      }
      send({ kind: 'Done', outcomes, load: table.load, diskFull: desk.isDiskFull });
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
  send({ kind: 'Opened', load: table.load, diskFull: desk.isDiskFull });
}

if (parentPort !== null) {
  serve(parentPort, workerData as SqliteThreadData);
}
