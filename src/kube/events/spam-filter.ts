import type { Clock } from '../../common/clock.ts';

export interface SpamFilterOptions {
  /** Events of one object at once. */
  readonly burst: number;
  /** Milliseconds until an object may have one more. */
  readonly refillMs: number;
  readonly clock: Clock;
}

/** Bounds the Events of one object, after client-go's spam filter. */
export class SpamFilter {
  readonly #options: SpamFilterOptions;
  readonly #buckets = new Map<string, { tokens: number; at: number }>();

  constructor(options: SpamFilterOptions) {
    this.#options = options;
  }

  /** Whether the object may have one more Event, which is then counted. */
  spend(subject: string): boolean {
    const { burst, clock, refillMs } = this.#options;
    const now = clock.monotonic();
    const bucket = this.#buckets.get(subject) ?? { tokens: burst, at: now };
    bucket.tokens = Math.min(burst, bucket.tokens + (now - bucket.at) / refillMs);
    bucket.at = now;
    this.#buckets.set(subject, bucket);
    if (bucket.tokens < 1) {
      return false;
    }
    bucket.tokens -= 1;
    return true;
  }

  /** Forgets objects that may have a whole burst again. */
  forget(): void {
    const { burst, clock, refillMs } = this.#options;
    const now = clock.monotonic();
    for (const [subject, bucket] of this.#buckets) {
      if (bucket.tokens + (now - bucket.at) / refillMs >= burst) {
        this.#buckets.delete(subject);
      }
    }
  }
}
