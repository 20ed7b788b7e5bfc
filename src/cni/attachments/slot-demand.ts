import type { Clock } from '../../common/clock.ts';

interface SlotDemandOptions {
  /** Slots that are always wanted. */
  readonly least: number;
  /** Slots that are wanted at most. */
  readonly most: number;
  readonly clock: Clock;
}

/** Milliseconds within which slots count as taken by one burst. */
const BURST_MS = 30_000;
/** Milliseconds until half of a burst is forgotten. */
const MEMORY_MS = 3_600_000;
/** Milliseconds without a taken slot after which a burst counts as over. */
const QUIET_MS = 2_000;

/**
 * Number of slots that a node keeps ready: the least, and on top as many as the largest burst of the last hour took, where
 * the least was too few for that.
 */
export class SlotDemand {
  readonly least: number;
  readonly #most: number;
  readonly #clock: Clock;
  /** Monotonic milliseconds of what was taken within the last burst, no more of them than count. */
  #taken: readonly number[] = [];
  #burst = 0;
  #burstAt = 0;

  constructor({ clock, least, most }: SlotDemandOptions) {
    this.least = least;
    this.#most = Math.max(least, most);
    this.#clock = clock;
  }

  /** Slots that are to be ready now. */
  get wanted(): number {
    const past = Math.floor((this.#clock.monotonic() - this.#burstAt) / MEMORY_MS);
    const burst = Math.floor(this.#burst / 2 ** past);
    return burst <= this.least ? this.least : Math.min(this.#most, this.least + burst);
  }

  /** Milliseconds until the burst that goes on is over; 0 where none does. */
  get quietInMs(): number {
    const last = this.#taken.at(-1);
    return last === undefined ? 0 : Math.max(0, last + QUIET_MS - this.#clock.monotonic());
  }

  /** Notes that a slot was asked for. */
  note(): void {
    const now = this.#clock.monotonic();
    this.#taken = [...this.#taken, now].filter((at) => at > now - BURST_MS).slice(-this.#most);
    this.#remember(this.#taken.length);
  }

  /** Takes over the slots of an earlier run, as if a burst had taken them. */
  takeOver(ready: number): void {
    this.#remember(Math.max(0, ready - this.least));
  }

  #remember(burst: number): void {
    if (this.least + burst >= this.wanted) {
      this.#burst = burst;
      this.#burstAt = this.#clock.monotonic();
    }
  }
}
