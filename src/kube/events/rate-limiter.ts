import type { Clock } from '../../common/clock.ts';

export interface RateLimiterOptions {
  /** Writes at once, before they are spaced. */
  readonly burst: number;
  /** Milliseconds between two writes from then on. */
  readonly everyMs: number;
  readonly clock: Clock;
}

/** Spaces the writes of one writer, after those of a burst. */
export class RateLimiter {
  readonly #options: RateLimiterOptions;
  readonly #hurried = Promise.withResolvers<void>();
  #isHurried = false;
  #tokens: number;
  #at: number;

  constructor(options: RateLimiterOptions) {
    this.#options = options;
    this.#tokens = options.burst;
    this.#at = options.clock.monotonic();
  }

  /** Resolves when one more write may follow. */
  async turn(): Promise<void> {
    const { burst, clock, everyMs } = this.#options;
    const now = clock.monotonic();
    this.#tokens = Math.min(burst, this.#tokens + (now - this.#at) / everyMs) - 1;
    this.#at = now;
    if (this.#tokens < 0 && !this.#isHurried) {
      const waited = Promise.withResolvers<void>();
      const timer = clock.setTimer(waited.resolve, -this.#tokens * everyMs);
      await Promise.race([waited.promise, this.#hurried.promise]);
      timer.cancel();
    }
  }

  /** Ends the present wait and every later one. */
  hurry(): void {
    this.#isHurried = true;
    this.#hurried.resolve();
  }
}
