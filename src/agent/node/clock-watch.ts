import type { Clock } from '../../common/clock.ts';
import type { Health } from '../../common/health.ts';

/** Milliseconds by which the wall clock may run off between two looks: what time daemons do when they slew. */
const toleranceMs = 2_000;
/** How long a step is shown. */
const shownMs = 60_000;

/** Notices steps of the wall clock, for people: every duration of ours is measured on a clock that does not step. */
export class ClockWatch {
  readonly #clock: Clock;
  #offset: number;
  #step: { readonly at: number; readonly byMs: number } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#offset = clock.now() - clock.monotonic();
  }

  /** Looks at both clocks; to be called every few seconds. */
  check(): Health {
    const monotonic = this.#clock.monotonic();
    const offset = this.#clock.now() - monotonic;
    const byMs = offset - this.#offset;
    // Slow drift is nobody's concern: each look starts from the one before.
    this.#offset = offset;
    if (Math.abs(byMs) > toleranceMs) {
      this.#step = { at: monotonic, byMs };
    }
    if (this.#step === undefined || monotonic - this.#step.at > shownMs) {
      return { ok: true };
    }
    const seconds = (this.#step.byMs / 1000).toFixed(0);
    return {
      ok: false,
      reason: 'ClockStepped',
      message: `the wall clock stepped by ${this.#step.byMs > 0 ? '+' : ''}${seconds} s; stamps may be off, durations are not`,
    };
  }
}
