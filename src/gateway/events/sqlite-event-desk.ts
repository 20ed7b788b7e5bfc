import { EsbError, hasCode } from '../../common/errors.ts';
import type { DiskReserve } from './disk-reserve.ts';
import { runOperation, type SentError, type SqliteOutcome, type SqliteTask } from './sqlite-event-message.ts';
import { isDamage, isDiskFull, type SqliteEventTable } from './sqlite-event-table.ts';

/** Milliseconds between two attempts to take the reserve again on a full disk. */
const RETAKE_MS = 5_000;

/**
 * Runs what is asked of a table, and keeps room on the disk for the ends of events. On a full disk the reserve is given up: events
 * under way still end, and no event comes in until the disk has room for the reserve again.
 */
export class SqliteEventDesk {
  readonly #table: SqliteEventTable;
  readonly #reserve: DiskReserve;
  readonly #monotonic: () => number;
  #isDiskFull: boolean;
  #retakeAt = 0;

  /** @param monotonic milliseconds */
  constructor(table: SqliteEventTable, reserve: DiskReserve, monotonic: () => number) {
    this.#table = table;
    this.#reserve = reserve;
    this.#monotonic = monotonic;
    this.#isDiskFull = !reserve.take();
    this.#retakeAt = monotonic() + RETAKE_MS;
  }

  /** Whether events are refused since the disk is full. */
  get isDiskFull(): boolean {
    return this.#isDiskFull;
  }

  /**
   * Runs all in one transaction. A task that is refused does not take the others with it; a disk that fails does.
   *
   * @throws {Error} where the file is damaged: what is put into it would not be found
   */
  run(tasks: readonly SqliteTask[]): readonly SqliteOutcome[] {
    this.#retake();
    try {
      return this.#transact(tasks);
    } catch (error) {
      if (isDamage(error)) {
        throw error;
      }
      if (!isDiskFull(error) || this.#isDiskFull) {
        return failed(tasks, error);
      }
    }
    this.#isDiskFull = true;
    this.#retakeAt = this.#monotonic() + RETAKE_MS;
    this.#reserve.release();
    try {
      return this.#transact(tasks);
    } catch (error) {
      return failed(tasks, error);
    }
  }

  #transact(tasks: readonly SqliteTask[]): readonly SqliteOutcome[] {
    return this.#table.transaction(() =>
      tasks.map(({ number, operation }): SqliteOutcome => {
        if (operation.kind === 'Put' && this.#isDiskFull) {
          return {
            number,
            error: { code: 'EventStoreDiskFull', message: 'the disk of the event store is full' },
          };
        }
        try {
          return { number, value: runOperation(this.#table, operation) };
        } catch (error) {
          if (hasCode(error, 'EventStoreFull')) {
            return { number, error: sentError(error) };
          }
          throw error;
        }
      }),
    );
  }

  #retake(): void {
    if (this.#isDiskFull && this.#monotonic() >= this.#retakeAt) {
      this.#isDiskFull = !this.#reserve.take();
      this.#retakeAt = this.#monotonic() + RETAKE_MS;
    }
  }
}

/** An error as it crosses between threads. */
export function sentError(error: unknown): SentError {
  const { code, message } = EsbError.from(error);
  return { code, message };
}

function failed(tasks: readonly SqliteTask[], error: unknown): readonly SqliteOutcome[] {
  return tasks.map(({ number }) => ({ number, error: sentError(error) }));
}
