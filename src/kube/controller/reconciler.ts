import { systemClock } from '../../common/clock.ts';
import { AbortedError, DeadlineError, isAborted } from '../../common/deadline.ts';
import { EsbError, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { TaskGroup } from '../../common/task-group.ts';
import { ApiError } from '../api/api-error.ts';
import type { CacheEvent, Informer, KubeObject } from '../api/types.ts';
import { createWorkQueue, type WorkQueueMetrics, type WorkQueueOptions } from './work-queue.ts';

export interface ReconcileResult {
  /** Milliseconds after which the key is worked on again. */
  readonly requeueAfterMs?: number;
}

/** A source of keys: calls `add` with each from now on, until the function that is returned is called. */
export type Watch = (add: (key: string) => void) => () => void;

/**
 * Source of the keys that changes of a cache concern. Each object that the cache has is a change at first.
 *
 * @param keysOf called with each change
 */
export function watchOf<T extends KubeObject>(
  informer: Pick<Informer<T>, 'subscribe'>,
  keysOf: (change: CacheEvent<T>) => Iterable<string>,
): Watch {
  return (add) =>
    informer.subscribe((change) => {
      for (const key of keysOf(change)) {
        add(key);
      }
    });
}

/** The outcome of one round of work. */
export type ReconcileOutcome = 'success' | 'requeued' | 'error';

export interface ReconcilerMetrics extends WorkQueueMetrics {
  reconciled?(name: string, outcome: ReconcileOutcome, ms: number): void;
}

export interface ReconcilerOptions extends WorkQueueOptions {
  /**
   * Brings the world to the desired state of a key, from any state. Never runs twice at a time for a key. The signal
   * fires when the reconciler stops or the deadline has passed; the work must then end.
   */
  readonly reconcile: (key: string, call: { readonly signal: AbortSignal }) => Promise<ReconcileResult | undefined>;
  /** Sources of keys, from the start to the end. */
  readonly watches?: readonly Watch[];
  readonly logger: Logger;
  /** Keys worked on at a time. Default 4. */
  readonly workers?: number;
  /** Milliseconds that one round may take. Default 60,000. */
  readonly deadlineMs?: number;
  readonly metrics?: ReconcilerMetrics;
}

export type Reconciler = ReturnType<typeof createReconciler>;

/** A loop that works on keys, and again on those that failed, with growing waits. */
export function createReconciler(options: ReconcilerOptions) {
  const { name, reconcile, workers = 4, deadlineMs = 60_000, clock = systemClock, metrics = {} } = options;
  const logger = options.logger.child({ reconciler: name });
  const queue = createWorkQueue(options);
  const tasks = new TaskGroup((task, error) => logger.error({ err: error, task }, 'reconciler worker failed'));
  let started = 0;
  let ends: readonly (() => void)[] = [];

  /** Runs one round; unlike `withDeadline` it waits until the round has really ended, so that none overlaps another. */
  const round = async (key: string, signal: AbortSignal): Promise<ReconcileResult | undefined> => {
    const ending = new AbortController();
    const onAbort = (): void => ending.abort(new AbortedError(name, signal.reason));
    signal.addEventListener('abort', onAbort, { once: true });
    const timer = clock.setTimer(() => ending.abort(new DeadlineError(`${name} ${key}`, deadlineMs)), deadlineMs);
    try {
      return await reconcile(key, { signal: ending.signal });
    } catch (error) {
      throw ending.signal.aborted && isAborted(error) ? ending.signal.reason : error;
    } finally {
      timer.cancel();
      signal.removeEventListener('abort', onAbort);
    }
  };

  const retryLater = (key: string, error: unknown): void => {
    const fields = { key, code: EsbError.from(error).code, error: messageOf(error) };
    queue.addRateLimited(key, error instanceof ApiError ? error.retryAfterMs : undefined);
    const failures = queue.failures(key);
    // Another writer was faster: the next round sees that write.
    if (error instanceof ApiError && error.code === 'Conflict' && failures < 3) {
      logger.debug({ ...fields, failures }, 'reconcile conflicted');
    } else if (error instanceof EsbError) {
      logger.warn({ ...fields, failures }, 'reconcile failed');
    } else {
      logger.error({ key, failures, err: error }, 'reconcile failed unexpectedly');
    }
  };

  const work = async (key: string, signal: AbortSignal): Promise<void> => {
    const startedAt = clock.monotonic();
    let outcome: ReconcileOutcome;
    try {
      const result = await round(key, signal);
      queue.forget(key);
      outcome = 'success';
      if (result?.requeueAfterMs !== undefined) {
        queue.addAfter(key, result.requeueAfterMs);
        outcome = 'requeued';
      }
    } catch (error) {
      if (signal.aborted) {
        return;
      }
      retryLater(key, error);
      outcome = 'error';
    } finally {
      queue.done(key);
    }
    metrics.reconciled?.(name, outcome, clock.monotonic() - startedAt);
  };

  const runWorker = async (signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      const key = await queue.take(signal);
      if (key === undefined) {
        return;
      }
      await work(key, signal);
    }
  };

  return {
    add: queue.add,
    addAfter: queue.addAfter,
    length: queue.length,
    start(): void {
      ends = started > 0 ? ends : (options.watches ?? []).map((watch) => watch(queue.add));
      for (; started < workers; started++) {
        tasks.run(`worker ${started + 1}`, runWorker);
      }
    },
    /** Ends running work and waits for its end. Waiting keys are dropped: the next start begins with a list. */
    async stop(): Promise<void> {
      for (const end of ends) {
        end();
      }
      queue.shutDown();
      await tasks.stop();
    },
  };
}
