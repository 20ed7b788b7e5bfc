/** How waits between attempts grow. */
export interface BackoffPolicy {
  /** Milliseconds after the first failure. */
  readonly firstMs: number;
  /** The most milliseconds, jitter included. */
  readonly maxMs: number;
  /** Each wait is so many times the one before. Default 2. */
  readonly factor?: number;
  /** Share of a wait that chance may take away, so that many clients spread out. Default 0. */
  readonly jitter?: number;
  /** Gives numbers from 0 to 1. */
  readonly random?: () => number;
}

/** Milliseconds to wait after so many failures in a row; 0 after none. */
export function backoffDelay(failures: number, policy: BackoffPolicy): number {
  const { firstMs, maxMs, factor = 2, jitter = 0, random = Math.random } = policy;
  if (failures < 1) {
    return 0;
  }
  const delayMs = Math.min(maxMs, firstMs * factor ** Math.min(failures - 1, 50));
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
