import { type Rate, TokenBucket } from '../../common/bounds/token-bucket.ts';
import type { Clock } from '../../common/clock.ts';

/** Rate of Events, and the clock that measures it. */
interface Pace extends Rate {
  readonly clock: Clock;
}

/** Spaces the writes of one writer, after those of a burst. */
export class RateLimiter {
  readonly #pace: Pace;
  readonly #bucket: TokenBucket;
  readonly #hurried = Promise.withResolvers<void>();
  #isHurried = false;

  constructor(pace: Pace) {
    this.#pace = pace;
    this.#bucket = new TokenBucket(pace, pace.clock.monotonic());
  }

  /** Resolves when one more write may follow. */
  async turn(): Promise<void> {
    const { clock } = this.#pace;
    const waitMs = this.#bucket.waitMs(clock.monotonic());
    this.#bucket.take();
    if (waitMs > 0 && !this.#isHurried) {
      const waited = Promise.withResolvers<void>();
      const timer = clock.setTimer(waited.resolve, waitMs);
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
  readonly #pace: Pace;
  readonly #buckets = new Map<string, TokenBucket>();

  constructor(pace: Pace) {
    this.#pace = pace;
  }

  /** Whether the object may have one more Event, which is then counted. */
  spend(subject: string): boolean {
    const now = this.#pace.clock.monotonic();
    const bucket = this.#buckets.get(subject) ?? new TokenBucket(this.#pace, now);
    this.#buckets.set(subject, bucket);
    if (bucket.waitMs(now) > 0) {
      return false;
    }
    bucket.take();
    return true;
  }

  /** Forgets objects that may have a whole burst again. */
  forget(): void {
    const now = this.#pace.clock.monotonic();
    for (const [subject, bucket] of this.#buckets) {
      if (bucket.isFull(now)) {
        this.#buckets.delete(subject);
      }
    }
  }
}
