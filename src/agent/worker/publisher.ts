import { type CallOptions, withDeadline } from '../../common/deadline.ts';
import type { FleetListener } from '../model/fleet.ts';
import type { WorkerView } from '../model/worker-state.ts';

interface Waiter {
  readonly check: (view: WorkerView) => boolean;
  readonly resolve: (view: WorkerView) => void;
  readonly reject: (error: unknown) => void;
}

/** Shows the view of one worker to all that watch the node, and to those that wait for a state. */
export class Publisher {
  readonly #feed: ViewFeed;
  readonly #waiting = new Set<Waiter>();

  constructor(feed: ViewFeed) {
    this.#feed = feed;
  }

  show(view: WorkerView): void {
    for (const waiter of this.#waiting) {
      if (waiter.check(view)) {
        waiter.resolve(view);
      }
    }
    this.#feed.changed(view);
  }

  /**
   * The next view of which `check` holds.
   *
   * @throws {EsbError} `DeadlineExceeded`, `Aborted`, or what {@link Publisher.reject} was given
   */
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

  reject(error: unknown): void {
    for (const waiter of this.#waiting) {
      waiter.reject(error);
    }
  }
}

/** Tells of all changes of the workers of a node, in the order in which listeners came. */
export class ViewFeed {
  readonly #listeners = new Set<FleetListener>();

  subscribe(listener: FleetListener): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  changed(view: WorkerView): void {
    for (const listener of this.#listeners) {
      listener.changed(view);
    }
  }

  /** Nothing is left of a worker that was released. */
  removed(uid: string): void {
    for (const listener of this.#listeners) {
      listener.removed(uid);
    }
  }
}
