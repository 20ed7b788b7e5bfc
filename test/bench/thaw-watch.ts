import { closeSync, openSync, readSync } from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { FreezerFile } from '../support/freezer.ts';

/** Milliseconds between two looks at what is still frozen: the most that a thaw is told late. */
const EVERY_MS = 5;
/** Milliseconds after which a watch gives up. */
const DEADLINE_MS = 60_000;

/** Looks at the freezers of containers from a thread of its own, so that the work of the callers does not delay it. */
export class ThawWatch {
  readonly #thread: Worker;
  readonly #last: Promise<number>;

  private constructor(thread: Worker) {
    this.#thread = thread;
    this.#last = new Promise((resolve, reject) => {
      thread.on('error', reject);
      thread.on('message', (message: number | string) => {
        if (typeof message === 'number') {
          resolve(message);
        } else if (message !== 'ready') {
          reject(new Error(message));
        }
      });
    });
    this.#last.catch(() => undefined);
  }

  /** Begins a watch. All containers are frozen. */
  static async over(files: readonly FreezerFile[]): Promise<ThawWatch> {
    const thread = new Worker(import.meta.filename, { workerData: files });
    const watch = new ThawWatch(thread);
    const ready = new Promise((resolve) => thread.once('message', resolve));
    await Promise.race([ready, watch.#last]);
    return watch;
  }

  /** The last thaw, in milliseconds of the clock of `process.hrtime`. Rejects where a container stays frozen. */
  async last(): Promise<number> {
    return await this.#last;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread.terminate();
  }
}

/** Reads the open files until none is frozen. */
function watch(files: readonly FreezerFile[]): number {
  const nowMs = (): number => Number(process.hrtime.bigint()) / 1e6;
  const pause = new Int32Array(new SharedArrayBuffer(4));
  const buffer = Buffer.alloc(64);
  let frozen = files.map(({ path, thawed }) => ({ descriptor: openSync(path, 'r'), thawed }));
  const descriptors = frozen.map(({ descriptor }) => descriptor);
  const look = (): void => {
    frozen = frozen.filter(
      ({ descriptor, thawed }) =>
        !buffer.toString('latin1', 0, readSync(descriptor, buffer, 0, 64, 0)).includes(thawed),
    );
  };
  try {
    look();
    if (frozen.length < files.length) {
      throw new Error(`${files.length - frozen.length} containers are not frozen before the burst`);
    }
    parentPort?.postMessage('ready');
    const end = nowMs() + DEADLINE_MS;
    while (frozen.length > 0) {
      if (nowMs() > end) {
        throw new Error(`${frozen.length} containers stay frozen for ${DEADLINE_MS} ms`);
      }
      Atomics.wait(pause, 0, 0, EVERY_MS);
      look();
    }
    return nowMs();
  } finally {
    descriptors.forEach(closeSync);
  }
}

if (!isMainThread && Array.isArray(workerData)) {
  try {
    parentPort?.postMessage(watch(workerData as readonly FreezerFile[]));
  } catch (error) {
    parentPort?.postMessage(String(error));
  }
}
