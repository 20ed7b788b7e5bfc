import { backoffDelay } from '../../common/backoff.ts';
import { type Clock, systemClock, type Timer } from '../../common/clock.ts';
import { abortable } from '../../common/deadline.ts';

/** Counters of a queue; each is optional. */
export interface WorkQueueMetrics {
  /** @param depth keys that wait, after the change */
  depth?(queue: string, depth: number): void;
  added?(queue: string): void;
  retried?(queue: string): void;
  /** @param ms from the moment when a key was due until it was taken */
  waited?(queue: string, ms: number): void;
}

export interface WorkQueueOptions {
  /** For logs and metrics. */
  readonly name: string;
  readonly clock?: Clock;
  /** Gives numbers from 0 to 1, for jitter. */
  readonly random?: () => number;
  /** Milliseconds after the first failure of a key; each wait is twice the one before. Default 20. */
  readonly backoffFirstMs?: number;
  /** The most milliseconds after a failure. Default 60,000. */
  readonly backoffMaxMs?: number;
  readonly metrics?: WorkQueueMetrics;
}

/**
 * Queue of keys with work to do, after client-go's. A key waits at most once, and is never worked on twice at a time:
 * added while it is worked on, it waits until that is done.
 */
export function createWorkQueue(options: WorkQueueOptions) {
  const {
    name,
    clock = systemClock,
    random = Math.random,
    backoffFirstMs: firstMs = 20,
    backoffMaxMs: maxMs = 60_000,
    metrics = {},
  } = options;
  /** When each key was added, in order. */
  const waiting = new Map<string, number>();
  const working = new Set<string>();
  /** Added while they were worked on. */
  const again = new Set<string>();
  const delayed = new Map<string, { readonly at: number; readonly timer: Timer }>();
  const failures = new Map<string, number>();
  const takers = new Set<(key: string | undefined) => void>();
  const policy = { firstMs, maxMs, jitter: 0.25, random };
  let closed = false;

  const begin = (key: string, since: number): void => {
    waiting.delete(key);
    working.add(key);
    metrics.depth?.(name, waiting.size);
    metrics.waited?.(name, clock.monotonic() - since);
  };

  const enqueue = (key: string): void => {
    const [taker] = takers;
    const now = clock.monotonic();
    if (taker === undefined) {
      waiting.set(key, now);
      metrics.depth?.(name, waiting.size);
      return;
    }
    takers.delete(taker);
    begin(key, now);
    taker(key);
  };

  const add = (key: string): void => {
    if (closed || waiting.has(key) || again.has(key)) {
      return;
    }
    metrics.added?.(name);
    if (working.has(key)) {
      again.add(key);
      return;
    }
    enqueue(key);
  };

  const addAfter = (key: string, delayMs: number): void => {
    if (closed) {
      return;
    }
    if (delayMs <= 0) {
      add(key);
      return;
    }
    const at = clock.monotonic() + delayMs;
    const before = delayed.get(key);
    if (before !== undefined && before.at <= at) {
      return;
    }
    before?.timer.cancel();
    const timer = clock.setTimer(() => {
      delayed.delete(key);
      add(key);
    }, delayMs);
    delayed.set(key, { at, timer });
  };

  return {
    add,
    /** Adds the key in `delayMs` milliseconds; of several such times the first counts. */
    addAfter,
    /** Adds the key after a wait that grows with each failure since `forget`. At least `atLeastMs`. */
    addRateLimited(key: string, atLeastMs = 0): void {
      if (closed) {
        return;
      }
      const count = (failures.get(key) ?? 0) + 1;
      failures.set(key, count);
      metrics.retried?.(name);
      addAfter(key, Math.max(atLeastMs, backoffDelay(count, policy)));
    },
    /** The key's work has succeeded: its next failure is the first one again. */
    forget(key: string): void {
      failures.delete(key);
    },
    failures: (key: string): number => failures.get(key) ?? 0,
    /**
     * Takes the next key, when there is one; `done` must follow. Undefined once the queue is shut down and empty.
     *
     * @throws {AbortedError} when `signal` fires first
     */
    take(signal?: AbortSignal): Promise<string | undefined> {
      return abortable('a wait for work', signal, (give) => {
        const [first] = waiting;
        if (first !== undefined) {
          const [key, since] = first;
          begin(key, since);
          give(key);
        } else if (closed) {
          give(undefined);
        } else {
          takers.add(give);
        }
        return () => takers.delete(give);
      });
    },
    done(key: string): void {
      if (working.delete(key) && again.delete(key)) {
        // Asked for before a shutdown, so it is still owed.
        enqueue(key);
      }
    },
    /** Keys that wait, those with a delay not counted. */
    length: (): number => waiting.size,
    /** Adds no more keys and cancels delays; waiting keys are still given out. */
    shutDown(): void {
      closed = true;
      for (const { timer } of delayed.values()) {
        timer.cancel();
      }
      delayed.clear();
      // A worker that still has a key takes what that key's end may add.
      for (const taker of takers) {
        taker(undefined);
      }
      takers.clear();
    },
  };
}
