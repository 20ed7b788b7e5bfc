/** A timer that was set; cancelling one that has fired does nothing. */
export interface Timer {
  cancel(): void;
}

/** Source of time, so that tests can move it. */
export interface Clock {
  /** Wall-clock time in milliseconds since the epoch. For stamps only: it can step. */
  now(): number;
  /** Milliseconds on a clock that never steps. For every duration. */
  monotonic(): number;
  /**
   * Calls `callback` once after `delayMs` milliseconds. The timer does not keep the process alive, and what `callback`
   * throws does not end it: the process emits it as a warning.
   */
  setTimer(callback: () => void, delayMs: number): Timer;
}

/** The longest time that a timer of Node.js counts, in milliseconds: it fires at once for a longer one. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The machine's own clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  setTimer(callback, delayMs) {
    const guarded = (): void => {
      try {
        callback();
      } catch (error) {
        process.emitWarning(error instanceof Error ? error : String(error));
      }
    };
    const handle = setTimeout(guarded, Math.min(Math.max(0, delayMs), LONGEST_TIMER_MS));
    handle.unref();
    return { cancel: () => clearTimeout(handle) };
  },
};

/** One timer for the earliest of several times. */
export class WakeupTimer {
  readonly #clock: Pick<Clock, 'monotonic' | 'setTimer'>;
  readonly #ring: () => void;
  #set: { readonly timer: Timer; readonly at: number } | undefined;

  constructor(clock: Pick<Clock, 'monotonic' | 'setTimer'>, ring: () => void) {
    this.#clock = clock;
    this.#ring = ring;
  }

  /**
   * Rings at a time, or before: a timer that rings too early does no harm, and a new one for each time would cost more.
   *
   * @param at monotonic milliseconds; infinite for never
   */
  wakeAt(at: number): void {
    if (!Number.isFinite(at) || (this.#set !== undefined && this.#set.at <= at)) {
      return;
    }
    this.cancel();
    const timer = this.#clock.setTimer(() => {
      this.#set = undefined;
      this.#ring();
    }, at - this.#clock.monotonic());
    this.#set = { timer, at };
  }

  cancel(): void {
    this.#set?.timer.cancel();
    this.#set = undefined;
  }
}
