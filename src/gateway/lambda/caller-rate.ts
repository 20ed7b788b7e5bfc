/** A token bucket: its rate and its size. */
export interface RateLimit {
  /** Requests a second; 0 for no limit. */
  readonly perSecond: number;
  /** Requests that may come at once after a rest; at least 1. */
  readonly burst: number;
}

/**
 * Milliseconds until a bucket has a token; 0 when it has one.
 *
 * A bucket is kept as one number: the monotonic time at which it will be full again (the generic cell rate algorithm of
 * ATM). An unused bucket is full.
 */
function waitForToken(fullAt: number, now: number, limit: RateLimit): number {
  const perToken = 1000 / limit.perSecond;
  return Math.max(0, fullAt - now - (limit.burst - 1) * perToken);
}

/**
 * The buckets of all callers, in a table of bounded size: the caller that was seen least recently is forgotten first. A
 * forgotten caller begins with a full bucket, so that no caller is refused because of others.
 */
export class CallerRates {
  readonly #limit: RateLimit;
  readonly #maxCallers: number;
  /** In the order in which callers were seen last. */
  readonly #fullAt = new Map<string, number>();

  /** @param maxCallers size of the table */
  constructor(limit: RateLimit, maxCallers: number) {
    this.#limit = limit;
    this.#maxCallers = maxCallers;
  }

  /** Whether callers are limited at all. */
  get enabled(): boolean {
    return this.#limit.perSecond > 0;
  }

  /** Callers that are remembered. */
  get size(): number {
    return this.#fullAt.size;
  }

  /** Milliseconds until a caller will have a token; 0 when it has one, which stays in its bucket. */
  look(caller: string, now: number): number {
    return this.enabled ? waitForToken(this.#fullAt.get(caller) ?? 0, now, this.#limit) : 0;
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
    const fullAt = this.#fullAt.get(caller) ?? 0;
    const wait = waitForToken(fullAt, now, this.#limit);
    // A refused caller counts as seen as well; otherwise enough requests would make the table forget it.
    this.#fullAt.delete(caller);
    this.#fullAt.set(caller, wait === 0 ? Math.max(fullAt, now) + 1000 / this.#limit.perSecond : fullAt);
    if (this.#fullAt.size > this.#maxCallers) {
      const [oldest = ''] = this.#fullAt.keys();
      this.#fullAt.delete(oldest);
    }
    return wait;
  }
}
