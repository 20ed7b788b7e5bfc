/**
 * How a node is doing by its Lease:
 * - `fresh`: renewed lately;
 * - `quiet`: overdue, and nothing follows from that yet;
 * - `lost`: overdue for so long, while others were heard, that its workers are to be served elsewhere.
 */
export type Liveness = 'fresh' | 'quiet' | 'lost';

/** The result of one successful read of all Leases. */
export interface LeaseReading {
  /** Monotonic milliseconds at which the answer was there. */
  readonly at: number;
  readonly nodes: readonly string[];
  /** By node, a value that differs with each renewal, such as a resourceVersion. Never read as a time. */
  readonly stamps: ReadonlyMap<string, string>;
}

/** Silent milliseconds up to which a node is fresh: two renewals of an agent. */
const FRESH_FOR_MS = 20_000;
/** Overdue milliseconds after which a node is lost: four renewals. */
const LOST_AFTER_MS = 40_000;
/**
 * Most milliseconds that the time between two reads counts: an absent or frozen API server, or a stopped controller,
 * ages a node by no more.
 */
const LONGEST_GAP_MS = 10_000;

interface Track {
  readonly stamp: string | undefined;
  /** Counted milliseconds since the last renewal. */
  readonly silentMs: number;
  /** The part of them in which another node was heard: only that part counts against this node. */
  readonly overdueMs: number;
  readonly liveness: Liveness;
}

/**
 * Judges nodes by this controller's own observations: only the time between its successful reads counts, by its own
 * monotonic clock; the times in Leases are ignored. When no node renews, the fault lies with the API server or this
 * controller, and the clock stands still for all nodes.
 */
export class NodeLiveness {
  #tracks: ReadonlyMap<string, Track> = new Map();
  #lastReadAt: number | undefined;

  /** `fresh` for nodes that have not been part of a reading yet. */
  of(node: string): Liveness {
    return this.#tracks.get(node)?.liveness ?? 'fresh';
  }

  /**
   * Takes in one reading.
   *
   * @returns the nodes whose liveness has changed
   */
  observe(reading: LeaseReading): readonly string[] {
    const gap = Math.min(Math.max(0, reading.at - (this.#lastReadAt ?? reading.at)), LONGEST_GAP_MS);
    this.#lastReadAt = reading.at;
    const heard = new Map(reading.nodes.map((node) => [node, this.#hear(node, reading.stamps.get(node), gap)]));
    // A lost node says nothing about the API server.
    const witnesses = reading.nodes.filter((node) => this.of(node) !== 'lost').length;
    const anyFresh = [...heard.values()].some(({ silentMs }) => silentMs < FRESH_FOR_MS);
    const clockRuns = anyFresh || witnesses === 1;

    const tracks = new Map<string, Track>();
    const changed: string[] = [];
    for (const [node, { silentMs, isRenewed }] of heard) {
      const before = this.#tracks.get(node);
      const overdueMs = isRenewed ? 0 : (before?.overdueMs ?? 0) + (clockRuns ? gap : 0);
      const ifHeard = silentMs < FRESH_FOR_MS ? 'fresh' : 'quiet';
      const liveness = overdueMs >= LOST_AFTER_MS ? 'lost' : ifHeard;
      if (liveness !== (before?.liveness ?? 'fresh')) {
        changed.push(node);
      }
      tracks.set(node, { stamp: reading.stamps.get(node) ?? before?.stamp, silentMs, overdueMs, liveness });
    }
    this.#tracks = tracks;
    return changed;
  }

  #hear(
    node: string,
    stamp: string | undefined,
    gap: number,
  ): { readonly silentMs: number; readonly isRenewed: boolean } {
    const before = this.#tracks.get(node);
    // A Lease seen for the first time may be days old: its age counts from now.
    const isRenewed = before === undefined || (stamp !== undefined && stamp !== before.stamp);
    return { silentMs: isRenewed ? 0 : before.silentMs + gap, isRenewed };
  }
}
