import { type CallOptions, withDeadline } from '../../common/deadline.ts';
import { networkFailure } from '../spec/network-error.ts';
import type { TaskTracker } from './task-tracker.ts';

/** Lets what is asked of one container happen one after the other. */
export class KeyedMutex {
  readonly #work: TaskTracker;
  readonly #last = new Map<string, Promise<unknown>>();

  constructor(work: TaskTracker) {
    this.#work = work;
  }

  /** Whether anything is under way for a container. */
  has(containerId: string): boolean {
    return this.#last.has(containerId);
  }

  /**
   * Runs `call` after everything else of the same container. The caller may leave early; the call itself goes on to a
   * consistent end, told by `signal` that nobody waits for its outcome.
   */
  async run<T>(
    containerId: string,
    what: string,
    options: CallOptions & { readonly deadlineMs: number },
    call: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const left = new AbortController();
    const before = this.#last.get(containerId) ?? Promise.resolve();
    const running = this.#work.own(
      before.then(
        () => call(left.signal),
        () => call(left.signal),
      ),
    );
    this.#last.set(containerId, running);
    const forget = (): void => {
      if (this.#last.get(containerId) === running) {
        this.#last.delete(containerId);
      }
    };
    running.then(forget, forget);
    try {
      return await withDeadline(`${what} ${containerId}`, options.deadlineMs, options.signal, () => running);
    } catch (error) {
      left.abort();
      throw networkFailure(`${what} ${containerId}`, error);
    }
  }
}
