import { AbortedError } from './deadline.ts';

/** Lets a bounded number of tasks run at once; the others wait in order. */
export class Semaphore {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(size: number) {
    this.#free = size;
  }

  /** Whether the next task has to wait. */
  get isFull(): boolean {
    return this.#free === 0;
  }

  /**
   * Runs `task` as soon as there is room.
   *
   * @throws {AbortedError} when `signal` fires before that
   */
  async run<T>(signal: AbortSignal, task: () => Promise<T>): Promise<T> {
    await this.#enter(signal);
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) {
        this.#free += 1;
      } else {
        next();
      }
    }
  }

  async #enter(signal: AbortSignal): Promise<void> {
    if (signal.aborted) {
      throw new AbortedError('waiting for room', signal.reason);
    }
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    const turn = Promise.withResolvers<void>();
    const enter = (): void => turn.resolve();
    const leave = (): void => {
      const index = this.#waiting.indexOf(enter);
      if (index >= 0) {
        this.#waiting.splice(index, 1);
        turn.reject(new AbortedError('waiting for room', signal.reason));
      }
    };
    this.#waiting.push(enter);
    signal.addEventListener('abort', leave, { once: true });
    try {
      await turn.promise;
    } finally {
      signal.removeEventListener('abort', leave);
    }
  }
}
