import { AbortedError, type CallOptions, withDeadline } from './deadline.ts';

interface Task {
  readonly kind: string | undefined;
  readonly controller: AbortController;
  readonly done: Promise<unknown>;
  waiters: number;
}

export interface QueuedCall extends CallOptions {
  /** Names the task in errors. */
  readonly what: string;
  /** Milliseconds that this caller waits. */
  readonly deadlineMs: number;
}

/**
 * Runs tasks of one key one after another, and one task for several callers: a call of the same kind as the last task
 * of its key waits for that task. A caller may leave early. The signal of a task fires when its last caller has left;
 * the next task of the key begins only after its end.
 */
export class KeyedQueue {
  readonly #tasks = new Map<string, Task[]>();

  /**
   * Waits for a task of `kind` on `key`, begun by this call or by an earlier one. Without a kind the task is this
   * call's own.
   *
   * @throws {DeadlineError} or {AbortedError} when this caller's time is over; otherwise the error of the task
   */
  async run<T>(
    key: string,
    kind: string | undefined,
    call: QueuedCall,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const last = this.#tasks.get(key)?.at(-1);
    const joins = kind !== undefined && last?.kind === kind && !last.controller.signal.aborted;
    const task = joins ? last : this.#begin(key, kind, call.what, work);
    task.waiters += 1;
    try {
      return (await withDeadline(call.what, call.deadlineMs, call.signal, () => task.done)) as T;
    } finally {
      task.waiters -= 1;
      if (task.waiters === 0) {
        // Without effect on a task that has ended.
        task.controller.abort(new AbortedError(call.what));
      }
    }
  }

  /** Whether a task of a key runs or waits. */
  has(key: string): boolean {
    return this.#tasks.has(key);
  }

  /** Keys with a task that runs or waits. */
  keys(): Iterable<string> {
    return this.#tasks.keys();
  }

  /** Fires the signals of the tasks of a key whose kind `matches`. */
  cancel(key: string, matches: (kind: string) => boolean, what: string): void {
    for (const { controller, kind } of this.#tasks.get(key) ?? []) {
      if (kind !== undefined && matches(kind)) {
        controller.abort(new AbortedError(what));
      }
    }
  }

  cancelAll(what: string): void {
    for (const { controller } of [...this.#tasks.values()].flat()) {
      controller.abort(new AbortedError(what));
    }
  }

  /** Waits until no task runs or waits. */
  async idle(): Promise<void> {
    while (this.#tasks.size > 0) {
      await Promise.allSettled([...this.#tasks.values()].flatMap((tasks) => tasks.map(({ done }) => done)));
      // A task leaves the queue in a reaction that was queued before this one.
      await Promise.resolve();
    }
  }

  #begin(key: string, kind: string | undefined, what: string, work: (signal: AbortSignal) => Promise<unknown>): Task {
    const tasks = this.#tasks.get(key) ?? [];
    this.#tasks.set(key, tasks);
    const before = tasks.at(-1)?.done;
    const controller = new AbortController();
    const { signal } = controller;
    const perform = async (): Promise<unknown> => {
      await before?.catch(() => undefined);
      if (signal.aborted) {
        throw new AbortedError(what, signal.reason);
      }
      return await work(signal);
    };
    const done = perform().finally(() => {
      tasks.splice(tasks.indexOf(task), 1);
      if (tasks.length === 0) {
        this.#tasks.delete(key);
      }
    });
    // All callers may leave before the end.
    done.catch(() => undefined);
    const task: Task = { kind, controller, done, waiters: 0 };
    tasks.push(task);
    return task;
  }
}
