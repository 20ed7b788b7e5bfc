/** A token bucket: how fast it fills, and how much it holds. */
export interface RateLimit {
  /** Requests a second; 0 for no limit. */
  readonly perSecond: number;
  /** Requests that may come at once after a rest; at least 1. */
  readonly burst: number;
}

/**
 * Milliseconds until a bucket has a token: 0 for one at once.
 *
 * A bucket is kept as one number: the monotonic time at which it will be full again (the generic cell rate algorithm of ATM). One that was never
 * used is full.
 */
export function waitForToken(fullAt: number, now: number, limit: RateLimit): number {
  const perToken = 1000 / limit.perSecond;
  return Math.max(0, fullAt - now - (limit.burst - 1) * perToken);
}

/** The bucket after a token was taken from it. */
export function tokenTaken(fullAt: number, now: number, limit: RateLimit): number {
  return Math.max(fullAt, now) + 1000 / limit.perSecond;
}

/**
 * The buckets of all callers, in a table of bounded size. It has two generations: when the younger is full, it becomes the elder and that one is
 * forgotten. A caller who was forgotten begins with a full bucket, so that nobody is refused for what others do.
 */
export class CallerRates {
  readonly #limit: RateLimit;
  readonly #perGeneration: number;
  #young = new Map<string, number>();
  #old = new Map<string, number>();

  /** @param maxCallers size of the table */
  constructor(limit: RateLimit, maxCallers: number) {
    this.#limit = limit;
    this.#perGeneration = Math.max(1, Math.floor(maxCallers / 2));
  }

  /** Whether callers are limited at all. */
  get enabled(): boolean {
    return this.#limit.perSecond > 0;
  }

  /** Callers that are remembered. */
  get size(): number {
    return this.#young.size + this.#old.size;
  }

  /** Milliseconds until a caller will have a token; 0 when it has one, which stays there. */
  look(caller: string, now: number): number {
    return this.enabled ? waitForToken(this.#fullAt(caller), now, this.#limit) : 0;
  }

  /**
   * Takes a token of a caller, if it has one.
   *
   * @param now monotonic milliseconds
   * @returns milliseconds until it will have one; 0 when it was taken
   */
  take(caller: string, now: number): number {
    if (!this.enabled) {
      return 0;
    }
    const fullAt = this.#fullAt(caller);
    const wait = waitForToken(fullAt, now, this.#limit);
    // Also of one who is refused, or he would be forgotten, and begin anew, by asking for long enough.
    this.#store(caller, wait === 0 ? tokenTaken(fullAt, now, this.#limit) : fullAt);
    return wait;
  }

  #fullAt(caller: string): number {
    return this.#young.get(caller) ?? this.#old.get(caller) ?? 0;
  }

  #store(caller: string, fullAt: number): void {
    if (this.#young.size >= this.#perGeneration && !this.#young.has(caller)) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(caller, fullAt);
    this.#old.delete(caller);
  }
}
