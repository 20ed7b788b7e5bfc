import { type CallOptions, withDeadline } from '../../common/deadline.ts';
import type { WorkerView } from '../model/worker-state.ts';

interface Waiter {
  readonly check: (view: WorkerView) => boolean;
  readonly resolve: (view: WorkerView) => void;
  readonly reject: (error: unknown) => void;
}

/** Those who wait until a worker looks as they want it. */
export class ViewWaiters {
  readonly #waiting = new Set<Waiter>();

  /** @throws {EsbError} `DeadlineExceeded`, `Aborted`, or what {@link ViewWaiters.reject} was given */
  async until(
    what: string,
    options: CallOptions & { readonly deadlineMs: number },
    check: (view: WorkerView) => boolean,
  ): Promise<WorkerView> {
    return await withDeadline(what, options.deadlineMs, options.signal, async () => {
      const { promise, resolve, reject } = Promise.withResolvers<WorkerView>();
      const waiter: Waiter = { check, resolve, reject };
      this.#waiting.add(waiter);
      const forget = (): void => {
        this.#waiting.delete(waiter);
      };
      options.signal?.addEventListener('abort', forget, { once: true });
      try {
        return await promise;
      } finally {
        forget();
        options.signal?.removeEventListener('abort', forget);
      }
    });
  }

  /** Called at every change, so it is quick when nobody waits. */
  show(view: WorkerView): void {
    if (this.#waiting.size > 0) {
      for (const waiter of this.#waiting) {
        if (waiter.check(view)) {
          waiter.resolve(view);
        }
      }
    }
  }

  reject(error: unknown): void {
    for (const waiter of this.#waiting) {
      waiter.reject(error);
    }
  }
}
