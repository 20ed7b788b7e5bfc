import { BoundedMap } from '../../common/bounds/bounded-map.ts';
import { TokenBucket } from '../../common/bounds/token-bucket.ts';

/** A token bucket: its rate and its size. */
export interface RateLimit {
  /** Requests a second; 0 for no limit. */
  readonly perSecond: number;
  /** Requests that may come at once after a rest; at least 1. */
  readonly burst: number;
}

/**
 * The buckets of all callers, in a table of bounded size: the caller that was seen least recently is forgotten first. A
 * forgotten caller begins with a full bucket, so that no caller is refused because of others.
 */
export class CallerRates {
  readonly #limit: RateLimit;
  /** In the order in which callers were seen last. */
  readonly #buckets: BoundedMap<string, TokenBucket>;

  /** @param maxCallers size of the table */
  constructor(limit: RateLimit, maxCallers: number) {
    this.#limit = limit;
    this.#buckets = new BoundedMap(maxCallers);
  }

  /** Whether callers are limited at all. */
  get enabled(): boolean {
    return this.#limit.perSecond > 0;
  }

  /** Callers that are remembered. */
  get size(): number {
    return this.#buckets.size;
  }

  /** Milliseconds until a caller will have a token; 0 when it has one, which stays in its bucket. */
  look(caller: string, now: number): number {
    return this.#buckets.get(caller)?.waitMs(now) ?? 0;
  }

  /**
   * Takes a token of a caller, if it has one.
   *
   * @param now monotonic milliseconds
   * @returns milliseconds until the caller will have a token; 0 when one was taken
   */
  take(caller: string, now: number): number {
    if (!this.enabled) {
      return 0;
    }
    const { burst, perSecond } = this.#limit;
    const bucket = this.#buckets.get(caller) ?? new TokenBucket({ burst, everyMs: 1_000 / perSecond }, now);
    // A refused caller counts as seen as well; otherwise enough requests would make the table forget it.
    this.#buckets.set(caller, bucket);
    const waitMs = bucket.waitMs(now);
    if (waitMs === 0) {
      bucket.take();
    }
    return waitMs;
  }
}
