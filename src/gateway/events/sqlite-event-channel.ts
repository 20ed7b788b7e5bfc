import { mkdir, open } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { withDeadline } from '../../common/deadline.ts';
import { EsbError, hasCode, messageOf } from '../../common/errors.ts';
import type { Health } from '../../common/health.ts';
import { type EventLimits, type EventLoad, storeUnavailable, storeUncertain } from './event-store.ts';
import type { SentError, TableMethod } from './sqlite-event-desk.ts';
import type { SqliteChannel } from './sqlite-event-store.ts';
import type { SqliteEventTable } from './sqlite-event-table.ts';
import type { FromSqliteThread, SqliteThreadData, ToSqliteThread } from './sqlite-event-thread.ts';

/** Name of the file in the state folder. */
const EVENTS_FILE = 'events.db';
/** Milliseconds that the disk may take for one task. */
const OPERATION_DEADLINE_MS = 30_000;

export interface SqliteEventChannelOptions {
  /** A folder that outlives a restart and belongs to one gateway alone. */
  readonly folder: string;
  readonly limits: EventLimits;
  /** Name of this process: the same each time that it opens the file. */
  readonly owner: string;
  readonly signal?: AbortSignal;
  /** Whether to check the whole file, because the store broke before. Default false. */
  readonly isSuspect?: boolean;
  /** Called when the thread has ended unasked. From then on every method throws. */
  readonly onBroken: (error: EsbError) => void;
}

type DoneMessage = Extract<FromSqliteThread, { readonly kind: 'Done' }>;

/** The gateway's end of the thread that owns the file of its events. */
export class SqliteEventChannel implements SqliteChannel {
  readonly #thread: Worker;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #ended = Promise.withResolvers<void>();
  #load: EventLoad;
  #diskFull: boolean;
  #next = 0;
  #broken: EsbError | undefined;
  #closing = false;

  private constructor(thread: Worker, opened: DoneMessage, onBroken: (error: EsbError) => void) {
    this.#thread = thread;
    this.#load = opened.load;
    this.#diskFull = opened.diskFull;
    thread.on('message', (message: DoneMessage) => this.#receive(message));
    thread.on('error', (error: Error) => {
      this.#broken ??= storeUnavailable(`the event store has failed: ${error.message}`, error);
    });
    thread.on('exit', () => {
      const broken = this.#broken ?? storeUnavailable('the event store is closed');
      this.#broken = broken;
      for (const waiting of this.#waiting.values()) {
        waiting.reject(broken);
      }
      this.#waiting.clear();
      this.#ended.resolve();
      if (!this.#closing) {
        onBroken(broken);
      }
    });
  }

  /**
   * Opens the file, or makes it, readable by its owner alone. Events that an earlier process had claimed are due at
   * once.
   *
   * @throws {EsbError} `EventStoreLocked` when another process has it, `EventStoreUnreadable` for anything else
   */
  static async open(options: SqliteEventChannelOptions): Promise<SqliteEventChannel> {
    const file = join(options.folder, EVENTS_FILE);
    await create(options.folder, file);
    const { limits, owner, isSuspect = false } = options;
    const data: SqliteThreadData = { file, limits, owner, isSuspect };
    const thread = new Worker(new URL(`./sqlite-event-thread${extname(import.meta.url)}`, import.meta.url), {
      name: 'event-store',
      workerData: data,
    });
    thread.unref();
    const opened = Promise.withResolvers<FromSqliteThread>();
    const onExit = (): void => opened.reject(storeUnavailable('the event store has not been opened'));
    thread.once('message', opened.resolve);
    thread.once('error', opened.reject);
    thread.once('exit', onExit);
    let message: FromSqliteThread;
    try {
      message = await withDeadline(
        'opening the event store',
        OPERATION_DEADLINE_MS,
        options.signal,
        () => opened.promise,
      );
    } catch (error) {
      await thread.terminate();
      throw error;
    }
    // One by one: removeAllListeners would take those of the Worker itself, which then hears no more from its thread.
    thread.off('error', opened.reject);
    thread.off('exit', onExit);
    if (message.kind === 'NotOpened') {
      await thread.terminate();
      throw new EsbError(message.error.message, { code: message.error.code });
    }
    return new SqliteEventChannel(thread, message, options.onBroken);
  }

  load(): EventLoad {
    return this.#load;
  }

  health(): Health {
    return this.#diskFull
      ? {
          ok: false,
          reason: 'EventStoreDiskFull',
          message: 'the disk of the event store is full: make room in the state folder, or give it a larger volume',
        }
      : { ok: true };
  }

  async close(): Promise<void> {
    if (!this.#closing) {
      this.#closing = true;
      // Keeps the process until the thread has ended.
      this.#thread.ref();
      this.#thread.postMessage('Close' satisfies ToSqliteThread);
    }
    await this.#ended.promise;
  }

  async run<Method extends TableMethod>(
    method: Method,
    ...args: Parameters<SqliteEventTable[Method]>
  ): Promise<ReturnType<SqliteEventTable[Method]>> {
    if (this.#broken !== undefined || this.#closing) {
      throw this.#broken ?? storeUnavailable('the event store is closed');
    }
    this.#next += 1;
    const number = this.#next;
    const waiting = Promise.withResolvers<unknown>();
    this.#waiting.set(number, waiting);
    this.#thread.postMessage({ number, method, args } satisfies ToSqliteThread);
    try {
      const value = await withDeadline('the event store', OPERATION_DEADLINE_MS, undefined, () => waiting.promise);
      return value as ReturnType<SqliteEventTable[Method]>;
    } catch (error) {
      if (error instanceof EsbError && error.code.startsWith('EventStore')) {
        throw error;
      }
      throw hasCode(error, 'DeadlineExceeded')
        ? storeUncertain(messageOf(error), error)
        : storeUnavailable(messageOf(error), error);
    } finally {
      this.#waiting.delete(number);
    }
  }

  #receive({ outcomes, load, diskFull }: DoneMessage): void {
    this.#load = load;
    this.#diskFull = diskFull;
    for (const outcome of outcomes) {
      const waiting = this.#waiting.get(outcome.number);
      if (outcome.error === undefined) {
        waiting?.resolve(outcome.value);
      } else {
        waiting?.reject(receivedError(outcome.error));
      }
    }
  }
}

async function create(folder: string, file: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const handle = await open(file, 'a', 0o600);
    await handle.close();
    // Makes the entry of the file durable, without which its content could be lost.
    const entry = await open(folder, 'r');
    try {
      await entry.sync();
    } finally {
      await entry.close();
    }
  } catch (error) {
    throw new EsbError(`cannot make the event store ${file}: ${messageOf(error)}`, {
      code: 'EventStoreUnreadable',
      cause: error,
    });
  }
}

function receivedError({ code, message }: SentError): EsbError {
  return code === 'EventStoreFull' || code === 'EventStoreDiskFull'
    ? new EsbError(message, { code, retryable: true })
    : storeUnavailable(`the event store has failed: ${message}`);
}
