import type { Clock } from '../../common/clock.ts';

export interface RestartBackoffOptions {
  readonly clock: Clock;
  /** Milliseconds of the first real delay; each one after it is twice as long. */
  readonly firstMs: number;
  readonly maxMs: number;
  /** Failures that are forgiven: what fails for the first time is tried again at once. */
  readonly free: number;
}

/** What is kept of a backoff on disk. */
export interface BackoffSnapshot {
  readonly failures: number;
  /** Wall-clock milliseconds; only ever read as "at most one delay from now". */
  readonly until: number;
}

/** An exited worker starts again at once, then after 10 s doubling to 5 min, as in Kubernetes. */
export const crashBackoff = { firstMs: 10_000, maxMs: 300_000, free: 1 } as const;
/** Milliseconds of health after which an exit counts as the first one again. */
export const healthyMs = 600_000;
/** A start that fails (image, registry, network) is tried again sooner: it costs little, and its cause is outside. */
export const startBackoff = { firstMs: 2_000, maxMs: 60_000, free: 0 } as const;
/** A process that ran and did not listen has cost a start and a minute: it is put off as one that exits. */
export const silenceBackoff = { firstMs: 10_000, maxMs: 300_000, free: 0 } as const;

/** Puts off what keeps failing, for longer and longer. */
export class RestartBackoff {
  readonly #options: RestartBackoffOptions;
  #failures = 0;
  #until = Number.NEGATIVE_INFINITY;

  constructor(options: RestartBackoffOptions) {
    this.#options = options;
  }

  get failures(): number {
    return this.#failures;
  }

  /** Milliseconds until the next attempt; 0 when it may come now. */
  get remainingMs(): number {
    return Math.max(0, this.#until - this.#options.clock.monotonic());
  }

  fail(): void {
    this.#failures += 1;
    this.#until = this.#options.clock.monotonic() + this.#delay();
  }

  reset(): void {
    this.#failures = 0;
    this.#until = Number.NEGATIVE_INFINITY;
  }

  snapshot(): BackoffSnapshot {
    return { failures: this.#failures, until: this.#options.clock.now() + this.remainingMs };
  }

  restore(snapshot: BackoffSnapshot): void {
    this.#failures = snapshot.failures;
    // The wall clock may have stepped in between: never wait longer than the delay itself.
    const remaining = Math.min(Math.max(0, snapshot.until - this.#options.clock.now()), this.#delay());
    this.#until = this.#options.clock.monotonic() + remaining;
  }

  #delay(): number {
    const counted = this.#failures - this.#options.free;
    return counted <= 0 ? 0 : Math.min(this.#options.firstMs * 2 ** (counted - 1), this.#options.maxMs);
  }
}
