import type { Clock } from '../../common/clock.ts';

export interface RateLimiterOptions {
  /** Writes at once, before they are spaced. */
  readonly burst: number;
  /** Milliseconds between two writes from then on. */
  readonly everyMs: number;
  readonly clock: Clock;
}

/** Spaces the writes of one writer, after those of a burst. */
export interface RateLimiter {
  /** Resolves when one more may be written. */
  turn(): Promise<void>;
  /** Ends the present wait and every later one. */
  hurry(): void;
}

export function createRateLimiter({ burst, everyMs, clock }: RateLimiterOptions): RateLimiter {
  const hurried = Promise.withResolvers<void>();
  let isHurried = false;
  let tokens = burst;
  let at = clock.monotonic();
  return {
    async turn() {
      const now = clock.monotonic();
      tokens = Math.min(burst, tokens + (now - at) / everyMs) - 1;
      at = now;
      if (tokens < 0 && !isHurried) {
        const waited = Promise.withResolvers<void>();
        const timer = clock.setTimer(waited.resolve, -tokens * everyMs);
        await Promise.race([waited.promise, hurried.promise]);
        timer.cancel();
      }
    },
    hurry() {
      isHurried = true;
      hurried.resolve();
    },
  };
}
