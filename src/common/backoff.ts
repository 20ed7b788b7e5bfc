/** Growing waits between tries. */
export interface Backoff {
  /** Counts a failure; gives the milliseconds to wait before the next try. */
  next(): number;
  /** Failures since the last {@link Backoff.reset}. */
  failures(): number;
  reset(): void;
}

export interface BackoffOptions {
  /** Milliseconds after the first failure. */
  readonly firstMs: number;
  /** The most milliseconds, jitter included. */
  readonly maxMs: number;
  /** Gives numbers from 0 to 1. */
  readonly random?: () => number;
}

/** Milliseconds to wait after the given number of failures in a row: doubling, then the same, no jitter. */
export function exponentialDelay(failures: number, firstMs: number, maxMs: number): number {
  return failures < 1 ? 0 : Math.min(maxMs, firstMs * 2 ** Math.min(failures - 1, 50));
}

/** Exponential, with jitter over the upper half of each wait so that many clients spread out. */
export function createBackoff({ firstMs, maxMs, random = Math.random }: BackoffOptions): Backoff {
  let failures = 0;
  return {
    next() {
      failures++;
      return exponentialDelay(failures, firstMs, maxMs) * (0.5 + random() / 2);
    },
    failures: () => failures,
    reset() {
      failures = 0;
    },
  };
}
