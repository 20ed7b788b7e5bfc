import { closeSync, fsyncSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { EsbError, hasCode } from '../../common/errors.ts';
import { isDamage, isDiskFull, type SqliteEventTable } from './sqlite-event-table.ts';

export type TableMethod =
  | 'put'
  | 'partitions'
  | 'claim'
  | 'renew'
  | 'note'
  | 'finish'
  | 'postpone'
  | 'park'
  | 'exchange';

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

/** Bytes of the reserve that are written at once. */
const PIECE_BYTES = 1024 * 1024;
/** Milliseconds between two attempts to take the reserve again on a full disk. */
const RETAKE_MS = 5_000;

/**
 * Runs tasks on a table, and keeps room on the disk for the ends of events. On a full disk the desk gives up the
 * reserve: events under way still end, and no event is taken until the disk has room for the reserve again.
 */
export class SqliteEventDesk {
  readonly #table: SqliteEventTable;
  readonly #reserve: DiskReserve;
  #isDiskFull: boolean;
  #retakeAt = 0;

  constructor(table: SqliteEventTable, reserve: DiskReserve) {
    this.#table = table;
    this.#reserve = reserve;
    this.#isDiskFull = !reserve.take();
    this.#retakeAt = performance.now() + RETAKE_MS;
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
    this.#retakeAt = performance.now() + RETAKE_MS;
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
          return { number, error: { code: 'EventStoreDiskFull', message: 'the disk of the event store is full' } };
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
    if (this.#isDiskFull && performance.now() >= this.#retakeAt) {
      this.#isDiskFull = !this.#reserve.take();
      this.#retakeAt = performance.now() + RETAKE_MS;
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

/**
 * Disk space for the ends of events: a file of zeros, removed when the disk is full. The end of an event frees space in
 * the store, and needs some first.
 *
 * Synchronous, for a thread of its own.
 */
export class DiskReserve {
  readonly #file: string;
  readonly #bytes: number;

  /** @param bytes kept free */
  constructor(file: string, bytes: number) {
    this.#file = file;
    this.#bytes = bytes;
  }

  /** Takes the room, unless it is taken. Returns false when the disk has none. */
  take(): boolean {
    if (statSync(this.#file, { throwIfNoEntry: false })?.size === this.#bytes) {
      return true;
    }
    // Under another name until it is whole.
    const fresh = `${this.#file}.new`;
    try {
      const handle = openSync(fresh, 'w', 0o600);
      try {
        const piece = Buffer.alloc(Math.min(PIECE_BYTES, this.#bytes));
        for (let left = this.#bytes; left > 0; ) {
          left -= writeSync(handle, piece, 0, Math.min(left, piece.length));
        }
        fsyncSync(handle);
      } finally {
        closeSync(handle);
      }
      renameSync(fresh, this.#file);
      return true;
    } catch {
      rmSync(fresh, { force: true });
      return false;
    }
  }

  /** Gives the room back to the disk. */
  release(): void {
    rmSync(this.#file, { force: true });
  }
}
