import type { Clock } from '../common/clock.ts';
import { type CallOptions, isAborted, sleep } from '../common/deadline.ts';
import { waitingClock } from './wait.ts';

export interface RetryOptions extends Pick<CallOptions, 'signal'> {
  /** Attempts in all. Default 4. */
  readonly attempts?: number;
  /** Milliseconds before the second attempt; each further one waits three times as long. Default 2,000. */
  readonly firstDelayMs?: number;
  /** Whether another attempt makes sense after this error. Default: always. */
  readonly worthRetrying?: (error: unknown) => boolean;
  /** Called with an error that another attempt follows. */
  readonly onRetry?: (error: unknown, delayMs: number) => void;
  /** Runs after the wait and before the next attempt; its failure does not matter. */
  readonly beforeRetry?: () => Promise<void>;
  readonly clock?: Clock;
}

/** Repeats `work` when it fails, for work that depends on foreign servers. Throws the last error. */
export async function retry<T>(work: () => Promise<T>, options: RetryOptions = {}): Promise<T> {
  const attempts = options.attempts ?? 4;
  let delayMs = options.firstDelayMs ?? 2_000;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      const hopeless = isAborted(error) || !(options.worthRetrying?.(error) ?? true);
      if (hopeless || attempt >= attempts || options.signal?.aborted === true) {
        throw error;
      }
      options.onRetry?.(error, delayMs);
      await sleep(options.clock ?? waitingClock, delayMs, options.signal);
      delayMs *= 3;
      await options.beforeRetry?.().catch(() => undefined);
    }
  }
}
