/**
 * Most milliseconds that the time between two reads of Leases counts: a stopped controller or an absent API server ages
 * a silence by no more.
 */
const LONGEST_GAP_MS = 10_000;

interface Track {
  stamp: string | undefined;
  silentMs: number;
}

/**
 * How long nodes were not heard, as far as this controller has seen it itself: from the first question about a node on,
 * by its own clock, and by reads that were answered. Never longer than in truth.
 */
export class Silence {
  readonly #tracks = new Map<string, Track>();
  #stamps: ReadonlyMap<string, string> = new Map();
  #lastReadAt: number | undefined;
  /** Monotonic milliseconds at which the last answered read began. */
  #lastBeganAt = Number.NEGATIVE_INFINITY;

  /**
   * Takes in one answered read of all Leases.
   *
   * @param stamps by node, a value that differs with each renewal
   */
  observe(beganAt: number, readAt: number, stamps: ReadonlyMap<string, string>): void {
    const gap = Math.min(Math.max(0, beganAt - (this.#lastReadAt ?? beganAt)), LONGEST_GAP_MS);
    this.#lastReadAt = readAt;
    this.#lastBeganAt = beganAt;
    this.#stamps = stamps;
    for (const [node, track] of this.#tracks) {
      const stamp = stamps.get(node);
      const isHeard = stamp !== undefined && stamp !== track.stamp;
      track.silentMs = isHeard ? 0 : track.silentMs + gap;
      track.stamp = stamp ?? track.stamp;
    }
  }

  /**
   * Milliseconds for which a node was not heard, by a read that began after `since`, in monotonic milliseconds; 0 before
   * such a read.
   */
  of(node: string, since: number): number {
    const track = this.#tracks.get(node);
    if (track === undefined) {
      this.#tracks.set(node, { stamp: this.#stamps.get(node), silentMs: 0 });
      return 0;
    }
    return this.#lastBeganAt >= since ? track.silentMs : 0;
  }
}
