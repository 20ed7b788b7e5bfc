/** Size of a token bucket, and how fast it fills. */
export interface Rate {
  /** Tokens of a full bucket: so many things at once after a rest. */
  readonly burst: number;
  /** Milliseconds until one more token is there. */
  readonly everyMs: number;
}

/** Part of a token that rounding may cost: a wait that has ended is never followed by another one. */
const ROUNDING = 1e-6;

/** Bucket of tokens that come back over time; a new bucket is full. Times are monotonic milliseconds. */
export class TokenBucket {
  readonly #burst: number;
  #everyMs: number;
  #tokens: number;
  #at: number;

  constructor({ burst, everyMs }: Rate, now: number) {
    this.#burst = burst;
    this.#everyMs = everyMs;
    this.#tokens = burst;
    this.#at = now;
  }

  /** Milliseconds until one more token is there. */
  get everyMs(): number {
    return this.#everyMs;
  }

  /** Tokens by now; below 0 after tokens were taken in advance. */
  level(now: number): number {
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#at) / this.#everyMs);
    this.#at = now;
    return this.#tokens;
  }

  /** Whether the bucket is full, so that it holds nothing to remember. */
  isFull(now: number): boolean {
    return this.level(now) >= this.#burst;
  }

  /** Milliseconds until one token is there; 0 while there is one. */
  waitMs(now: number): number {
    const missing = 1 - this.level(now);
    return missing > ROUNDING ? missing * this.#everyMs : 0;
  }

  /** Takes tokens, also those that are not there yet. Below 0, gives them back. */
  take(count = 1): void {
    this.#tokens = Math.min(this.#burst, this.#tokens - count);
  }

  /** Fills at another rate from now on. */
  fillEvery(everyMs: number, now: number): void {
    this.level(now);
    this.#everyMs = everyMs;
  }
}
