import type { Clock } from '../../common/clock.ts';

export interface Rate {
  /** So many at once, before they are spaced. */
  readonly burst: number;
  /** Milliseconds between two from then on. */
  readonly everyMs: number;
  readonly clock: Clock;
}

class TokenBucket {
  readonly #rate: Rate;
  #tokens: number;
  #at: number;

  constructor(rate: Rate) {
    this.#rate = rate;
    this.#tokens = rate.burst;
    this.#at = rate.clock.monotonic();
  }

  /** Tokens by now; below 0 for those that were taken in advance. */
  level(): number {
    const { burst, clock, everyMs } = this.#rate;
    const now = clock.monotonic();
    this.#tokens = Math.min(burst, this.#tokens + (now - this.#at) / everyMs);
    this.#at = now;
    return this.#tokens;
  }

  take(): void {
    this.#tokens -= 1;
  }
}

/** Spaces the writes of one writer, after those of a burst. */
export class RateLimiter {
  readonly #rate: Rate;
  readonly #bucket: TokenBucket;
  readonly #hurried = Promise.withResolvers<void>();
  #isHurried = false;

  constructor(rate: Rate) {
    this.#rate = rate;
    this.#bucket = new TokenBucket(rate);
  }

  /** Resolves when one more write may follow. */
  async turn(): Promise<void> {
    const { clock, everyMs } = this.#rate;
    const left = this.#bucket.level() - 1;
    this.#bucket.take();
    if (left < 0 && !this.#isHurried) {
      const waited = Promise.withResolvers<void>();
      const timer = clock.setTimer(waited.resolve, -left * everyMs);
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

/** Bounds the Events of one object, after client-go's spam filter. */
export class SpamFilter {
  readonly #rate: Rate;
  readonly #buckets = new Map<string, TokenBucket>();

  constructor(rate: Rate) {
    this.#rate = rate;
  }

  /** Whether the object may have one more Event, which is then counted. */
  spend(subject: string): boolean {
    const bucket = this.#buckets.get(subject) ?? new TokenBucket(this.#rate);
    this.#buckets.set(subject, bucket);
    if (bucket.level() < 1) {
      return false;
    }
    bucket.take();
    return true;
  }

  /** Forgets objects that may have a whole burst again. */
  forget(): void {
    for (const [subject, bucket] of this.#buckets) {
      if (bucket.level() >= this.#rate.burst) {
        this.#buckets.delete(subject);
      }
    }
  }
}
