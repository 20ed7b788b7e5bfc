import type { Clock } from '../common/clock.ts';

export interface ReplacementLimits {
  /** Workers that rest, replaced at once. Each takes memory twice, and processors that those at work could use. */
  readonly resting: number;
  /** Workers that do not rest, replaced at once. */
  readonly active: number;
}

interface Claim {
  readonly resting: boolean;
  /** Told when there may be a turn. */
  readonly again: () => void;
}

/** Bounds how many workers of a node have their container replaced at the same time. First come, first served. */
export class ReplacementTurns {
  readonly #limits: ReplacementLimits;
  readonly #clock: Clock;
  readonly #taken = new Map<string, Claim>();
  readonly #waiting = new Map<string, Claim>();
  #told = false;

  constructor(limits: ReplacementLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /** Whether a worker has its turn. One that has keeps it, whatever it does then; one that has not is told later. */
  take(uid: string, resting: boolean, again: () => void): boolean {
    if (this.#taken.has(uid)) {
      return true;
    }
    if (this.#isFull(resting)) {
      this.#waiting.set(uid, { resting, again });
      return false;
    }
    this.#waiting.delete(uid);
    this.#taken.set(uid, { resting, again });
    return true;
  }

  /** It needs no turn, or no longer. */
  give(uid: string): void {
    this.#waiting.delete(uid);
    if (this.#taken.delete(uid) && this.#waiting.size > 0 && !this.#told) {
      this.#told = true;
      this.#clock.setTimer(() => this.#tell(), 0);
    }
  }

  #isFull(resting: boolean): boolean {
    const alike = [...this.#taken.values()].filter((claim) => claim.resting === resting);
    return alike.length >= (resting ? this.#limits.resting : this.#limits.active);
  }

  #tell(): void {
    this.#told = false;
    for (const { resting, again } of [...this.#waiting.values()]) {
      if (!this.#isFull(resting)) {
        again();
      }
    }
  }
}
