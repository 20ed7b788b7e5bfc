import { EsbError, hasCode } from '../../common/errors.ts';
import type { DiskReserve } from './disk-reserve.ts';
import { isDamage, isDiskFull, type SqliteEventTable } from './sqlite-event-table.ts';

/** The methods of the table that a store calls. */
export type TableMethod = 'put' | 'partitions' | 'claim' | 'renew' | 'finish' | 'postpone' | 'park' | 'exchange';

/** A call of the table, with the number under which its outcome is reported. */
export interface SqliteTask {
  readonly number: number;
  readonly method: TableMethod;
  readonly args: readonly unknown[];
}

/** An error in the form in which it crosses between threads. */
export interface SentError {
  readonly code: EsbError['code'];
  readonly message: string;
}

/** The outcome of one task: an error, or the value that the method returned. */
export type SqliteOutcome =
  | { readonly number: number; readonly error: SentError }
  | { readonly number: number; readonly error?: undefined; readonly value: unknown };

/** Milliseconds between two attempts to take the reserve again on a full disk. */
const RETAKE_MS = 5_000;

/**
 * Runs tasks on a table, and keeps room on the disk for the ends of events. On a full disk the desk gives up the
 * reserve: events under way still end, and no event is taken until the disk has room for the reserve again.
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

  /** Whether events are refused because the disk is full. */
  get isDiskFull(): boolean {
    return this.#isDiskFull;
  }

  /**
   * Runs all tasks in one transaction. A refused task fails alone; a failed disk fails all.
   *
   * @throws {Error} when the file is damaged: an event put into it would not be found
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
      tasks.map(({ number, method, args }): SqliteOutcome => {
        if (method === 'put' && this.#isDiskFull) {
          return {
            number,
            error: { code: 'EventStoreDiskFull', message: 'the disk of the event store is full' },
          };
        }
        try {
          return { number, value: Reflect.apply(this.#table[method], this.#table, args) };
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

/** The form in which an error crosses between threads. */
export function sentError(error: unknown): SentError {
  const { code, message } = EsbError.from(error);
  return { code, message };
}

function failed(tasks: readonly SqliteTask[], error: unknown): readonly SqliteOutcome[] {
  return tasks.map(({ number }) => ({ number, error: sentError(error) }));
}
