import type { Clock } from '../../common/clock.ts';
import type { Action } from './plan.ts';

/** First and longest delay in milliseconds before an action that failed is tried again. */
const retryFirstMs = 100;
const retryMaxMs = 30_000;
/** Longest such delay while the runtime cannot be reached: it may be back at any moment. */
export const unavailableRetryMs = 1_000;

/**
 * Puts off actions that failed. A failure puts off the same action only: a pause that failed must not hold up the call
 * that comes next.
 */
export class ActionRetry {
  readonly #clock: Clock;
  #failures = 0;
  #retryAt = Number.NEGATIVE_INFINITY;
  #retryKind: Action['kind'] | undefined;
  #inspectAt = Number.NEGATIVE_INFINITY;
  #failingSince: number | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Actions that failed since one worked. */
  get failures(): number {
    return this.#failures;
  }

  /** Monotonic milliseconds since when nothing has worked. */
  get failingSince(): number | undefined {
    return this.#failingSince;
  }

  /** Monotonic milliseconds at which something that was put off may be tried. */
  get times(): readonly number[] {
    return [this.#retryAt, this.#inspectAt];
  }

  notBefore(kind: Action['kind']): number {
    if (kind === 'Inspect') {
      return this.#inspectAt;
    }
    return kind === this.#retryKind ? this.#retryAt : Number.NEGATIVE_INFINITY;
  }

  putOff(kind: Action['kind'], delayMs: number): void {
    const at = this.#clock.monotonic() + delayMs;
    if (kind === 'Inspect') {
      this.#inspectAt = at;
    } else {
      this.#retryKind = kind;
      this.#retryAt = at;
    }
  }

  /**
   * Counts a failure.
   *
   * @param down whether the runtime did not answer
   * @returns milliseconds until the next attempt should come
   */
  failed(down: boolean): number {
    this.#failingSince ??= this.#clock.monotonic();
    this.#failures += 1;
    return Math.min(
      retryFirstMs * 2 ** Math.min(this.#failures - 1, 16),
      down ? unavailableRetryMs : retryMaxMs,
    );
  }

  succeeded(): void {
    this.#failures = 0;
    this.#failingSince = undefined;
  }

  /** What waits need not wait any longer, whatever is still broken. */
  hurry(): void {
    this.#retryAt = Number.NEGATIVE_INFINITY;
  }

  /** Everything that was put off may be tried now. */
  now(): void {
    this.#retryAt = Number.NEGATIVE_INFINITY;
    this.#inspectAt = Number.NEGATIVE_INFINITY;
  }
}
