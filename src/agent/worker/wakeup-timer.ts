import type { Clock, Timer } from '../../common/clock.ts';

/** Timer for the next moment at which a decision changes without an event. */
export class WakeupTimer {
  readonly #clock: Clock;
  readonly #ring: () => void;
  #set: { readonly timer: Timer; readonly at: number } | undefined;

  constructor(clock: Clock, ring: () => void) {
    this.#clock = clock;
    this.#ring = ring;
  }

  /** @param at monotonic milliseconds; infinite for never */
  wakeAt(at: number): void {
    if (!Number.isFinite(at) || (this.#set !== undefined && this.#set.at <= at)) {
      // A timer that rings too early does no harm; a new one for each call would cost more.
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
