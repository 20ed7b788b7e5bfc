import type { Clock } from '../../common/clock.ts';

export interface ReplacementLimits {
  /** Workers that rest, replaced at once. Each takes memory twice, and processors that those at work could use. */
  readonly resting: number;
  /** Workers that do not rest, replaced at once. */
  readonly active: number;
}

/** A worker that is to be replaced. */
export interface Replaced {
  readonly namespace: string;
  readonly resting: boolean;
}

interface Claim extends Replaced {
  /** Told when there may be a turn. */
  readonly again: () => void;
  /** Whether it waits for a registry or a port, and lets others have its turn meanwhile. */
  waits: boolean;
}

/**
 * Bounds how many workers of a node have their container replaced at the same time. The next one is of the namespace
 * that has the fewest; of one namespace, first come, first served. Turns of those that wait for others go on to other
 * namespaces, and as many to the same one.
 */
export class RolloutLimiter {
  readonly #limits: ReplacementLimits;
  readonly #clock: Clock;
  readonly #taken = new Map<string, Claim>();
  readonly #waiting = new Map<string, Claim>();
  #told = false;

  constructor(limits: ReplacementLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /** Whether a worker has its turn, or may take one. */
  mayTake(uid: string, replaced: Replaced): boolean {
    return this.#taken.has(uid) || !this.#isFull(replaced);
  }

  /** The worker takes its turn, and keeps it until it gives it back. */
  take(uid: string, replaced: Replaced, again: () => void): void {
    this.#waiting.delete(uid);
    if (!this.#taken.has(uid)) {
      this.#taken.set(uid, { ...replaced, again, waits: false });
    }
  }

  /** The worker waits for a turn. `again` is called when there may be one, and takes it before it returns. */
  await(uid: string, replaced: Replaced, again: () => void): void {
    this.#waiting.set(uid, { ...replaced, again, waits: false });
  }

  /** The holder waits for a registry or a port. Without a turn this does nothing. */
  wait(uid: string): void {
    const claim = this.#taken.get(uid);
    if (claim !== undefined && !claim.waits) {
      claim.waits = true;
      this.#tellSoon();
    }
  }

  /** The holder works again, though that makes one more than the bound for a while. */
  goOn(uid: string): void {
    const claim = this.#taken.get(uid);
    if (claim !== undefined) {
      claim.waits = false;
    }
  }

  /** The worker needs no turn, or no longer. */
  give(uid: string): void {
    this.#waiting.delete(uid);
    if (this.#taken.delete(uid)) {
      this.#tellSoon();
    }
  }

  #tellSoon(): void {
    if (this.#waiting.size > 0 && !this.#told) {
      this.#told = true;
      this.#clock.setTimer(() => this.#tell(), 0);
    }
  }

  #isFull({ namespace, resting }: Replaced): boolean {
    const limit = resting ? this.#limits.resting : this.#limits.active;
    const alike = [...this.#taken.values()].filter((claim) => claim.resting === resting);
    // A worker that waits holds memory for two: a namespace has no more of those than there are turns.
    const waits = alike.filter((claim) => claim.waits && claim.namespace === namespace);
    return alike.filter((claim) => !claim.waits).length >= limit || waits.length >= limit;
  }

  #tell(): void {
    this.#told = false;
    const queues = Map.groupBy(
      this.#waiting.values(),
      ({ namespace, resting }) => `${namespace} ${resting ? 'resting' : 'active'}`,
    );
    for (;;) {
      const counts = new Map<string, number>();
      for (const { namespace } of this.#taken.values()) {
        counts.set(namespace, (counts.get(namespace) ?? 0) + 1);
      }
      const fewest = (claim: Claim | undefined): number => counts.get(claim?.namespace ?? '') ?? 0;
      const [next] = [...queues.values()]
        .filter(([first]) => first !== undefined && !this.#isFull(first))
        .toSorted(([a], [b]) => fewest(a) - fewest(b));
      if (next === undefined) {
        return;
      }
      next.shift()?.again();
    }
  }
}
