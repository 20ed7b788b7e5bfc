import { AbortedError, isAborted } from './deadline.ts';

/**
 * Owns long-running tasks: each gets one signal, and {@link TaskGroup.stop} ends and awaits them all. A task that
 * throws is reported to `onError`; it never becomes an unhandled rejection.
 */
export class TaskGroup {
  readonly #controller = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #onError: (name: string, error: unknown) => void;

  constructor(onError: (name: string, error: unknown) => void) {
    this.#onError = onError;
  }

  /** Fires when the group is stopped. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Starts `task` and owns it until it settles. After {@link TaskGroup.stop} it is not started. */
  run(name: string, task: (signal: AbortSignal) => Promise<void>): void {
    if (this.#controller.signal.aborted) {
      return;
    }
    const running = this.#guard(name, task).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Ends every task and waits for all of them. Never throws. */
  async stop(): Promise<void> {
    this.#controller.abort(new AbortedError('task group'));
    while (this.#running.size > 0) {
      await Promise.all(this.#running);
    }
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
