import type { Clock, Timer } from '../../common/clock.ts';

/** Goes off when what was decided last would come out otherwise by itself. */
export class WakeupTimer {
  readonly #clock: Clock;
  readonly #ring: () => void;
  #set: { readonly timer: Timer; readonly at: number } | undefined;
  #decidedAt = 0;
  #changesAt: readonly number[] = [];

  constructor(clock: Clock, ring: () => void) {
    this.#clock = clock;
    this.#ring = ring;
  }

  /**
   * Called before anything is decided: what changes between the decision and the alarm would else never be looked at.
   *
   * @param decidedAt monotonic milliseconds
   * @param changesAt when the decision may come out otherwise
   */
  decided(decidedAt: number, changesAt: readonly number[]): void {
    this.#decidedAt = decidedAt;
    this.#changesAt = changesAt;
  }

  /** @param more when else something changes, in monotonic milliseconds */
  arm(more: readonly number[]): void {
    const at = Math.min(...[...this.#changesAt, ...more].filter((time) => time > this.#decidedAt));
    if (!Number.isFinite(at) || (this.#set !== undefined && this.#set.at <= at)) {
      // An alarm that comes too early does no harm; one for each call would cost more.
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
