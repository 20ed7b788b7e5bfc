import type { Clock } from '../../common/clock.ts';

export interface SpamFilterOptions {
  /** Events of one object at once. */
  readonly burst: number;
  /** Milliseconds until an object may have one more. */
  readonly refillMs: number;
  readonly clock: Clock;
}

/** Bounds the Events of one object, after client-go's spam filter. */
export interface SpamFilter {
  /** Whether the object may have one more Event, which is then counted. */
  spend(subject: string): boolean;
  /** Forgets objects that may have a whole burst again. */
  forget(): void;
}

export function createSpamFilter({ burst, refillMs, clock }: SpamFilterOptions): SpamFilter {
  const buckets = new Map<string, { tokens: number; at: number }>();
  return {
    spend(subject) {
      const now = clock.monotonic();
      const bucket = buckets.get(subject) ?? { tokens: burst, at: now };
      bucket.tokens = Math.min(burst, bucket.tokens + (now - bucket.at) / refillMs);
      bucket.at = now;
      buckets.set(subject, bucket);
      if (bucket.tokens < 1) {
        return false;
      }
      bucket.tokens--;
      return true;
    },
    forget() {
      const now = clock.monotonic();
      for (const [subject, bucket] of buckets) {
        if (bucket.tokens + (now - bucket.at) / refillMs >= burst) {
          buckets.delete(subject);
        }
      }
    },
  };
}
