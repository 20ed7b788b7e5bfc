import { AbortedError, isAborted } from './deadline.ts';

/** Keeps promises until they settle, so that a component that stops can wait for its work. */
export class TaskTracker {
  readonly #running = new Set<Promise<unknown>>();

  own<T>(promise: Promise<T>): Promise<T> {
    const forget = (): void => {
      this.#running.delete(promise);
    };
    this.#running.add(promise);
    promise.then(forget, forget);
    return promise;
  }

  /** Waits until nothing is under way, work that began meanwhile included. */
  async settled(): Promise<void> {
    while (this.#running.size > 0) {
      await Promise.allSettled(this.#running);
    }
  }
}

/**
 * Owns long-running tasks: each gets one signal, and {@link TaskGroup.stop} ends and awaits them all. A task that
 * throws is reported to `onError`; a failure never becomes an unhandled rejection.
 */
export class TaskGroup {
  readonly #controller = new AbortController();
  readonly #running = new TaskTracker();
  readonly #onError: (name: string, error: unknown) => void;

  constructor(onError: (name: string, error: unknown) => void) {
    this.#onError = onError;
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Starts `task` and owns it until it settles. Does nothing after {@link TaskGroup.stop}. */
  run(name: string, task: (signal: AbortSignal) => Promise<void>): void {
    if (!this.#controller.signal.aborted) {
      void this.#running.own(this.#guard(name, task));
    }
  }

  /** Ends every task and waits for all of them. Never throws. */
  async stop(): Promise<void> {
    this.#controller.abort(new AbortedError('task group'));
    await this.#running.settled();
  }

  async #guard(name: string, task: (signal: AbortSignal) => Promise<void>): Promise<void> {
    try {
      await task(this.#controller.signal);
    } catch (error) {
      if (!(this.#controller.signal.aborted && isAborted(error))) {
        this.#onError(name, error);
      }
    }
  }
}
