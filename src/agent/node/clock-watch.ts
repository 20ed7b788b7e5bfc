import type { Clock } from '../../common/clock.ts';
import type { Health } from '../../common/health.ts';

/** Milliseconds by which the wall clock may drift between two looks: the rate at which time daemons slew. */
const toleranceMs = 2_000;
/** Milliseconds for which a step is shown. */
const shownMs = 60_000;

/** Reports steps of the wall clock to people. Durations are measured on a clock that does not step. */
export class ClockWatch {
  readonly #clock: Clock;
  #offset: number;
  #step: { readonly at: number; readonly byMs: number } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#offset = clock.now() - clock.monotonic();
  }

  /** Compares both clocks; call it every few seconds. */
  check(): Health {
    const monotonic = this.#clock.monotonic();
    const offset = this.#clock.now() - monotonic;
    const byMs = offset - this.#offset;
    // Slow drift does not matter: each look starts from the one before.
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
