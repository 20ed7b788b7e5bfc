/** How waits between attempts grow. */
export interface BackoffPolicy {
  /** Milliseconds after the first failure; each wait is twice the one before. */
  readonly firstMs: number;
  /** The most milliseconds, jitter included. */
  readonly maxMs: number;
  /** Failures that are forgiven: the next attempt comes at once. Default 0. */
  readonly free?: number;
  /** Share of a wait that chance may take away, so that many clients spread out. Default 0. */
  readonly jitter?: number;
  /** Gives numbers from 0 to 1. */
  readonly random?: () => number;
}

/** Milliseconds to wait after so many failures in a row; 0 after none that counts. */
export function backoffDelay(failures: number, policy: BackoffPolicy): number {
  const { firstMs, maxMs, free = 0, jitter = 0, random = Math.random } = policy;
  const counted = failures - free;
  if (counted < 1) {
    return 0;
  }
  const delayMs = Math.min(maxMs, firstMs * 2 ** Math.min(counted - 1, 50));
  return jitter === 0 ? delayMs : delayMs * (1 - jitter * (1 - random()));
}

/** Counts failures in a row, and gives the wait after each. */
export class Backoff {
  readonly #policy: BackoffPolicy;
  #failures = 0;

  constructor(policy: BackoffPolicy) {
    this.#policy = policy;
  }

  /** Failures since the last {@link Backoff.reset}. */
  get failures(): number {
    return this.#failures;
  }

  /** Counts a failure; gives the milliseconds to wait before the next attempt. */
  next(): number {
    this.#failures += 1;
    return backoffDelay(this.#failures, this.#policy);
  }

  reset(): void {
    this.#failures = 0;
  }
}
