import type { NodeStateReasons } from '../../api/condition.ts';
import { unreachable } from '../../common/errors.ts';
import { LossBrake, type SilentNode, type ZoneCount } from './loss-brake.ts';

/**
 * How a node is doing by its Lease:
 * - `fresh`: renewed lately;
 * - `quiet`: overdue, and nothing follows from that yet;
 * - `unreachable`: overdue for so long that it gets no more workers; those that it has stay for now;
 * - `lost`: its workers are to be served elsewhere.
 */
export type Liveness = 'fresh' | 'quiet' | 'unreachable' | 'lost';

/**
 * Why the workers of an unreachable node stay:
 * - `AgentStarting`: the Pod of its agent is being started;
 * - `ManyUnreachable`: so many nodes of its zone are silent that the fault is hardly theirs;
 * - `NoNodeHeard`: no other node was heard for long enough to tell that the fault is its own;
 * - `RateLimited`: one node is lost after the other.
 */
export type StayReason = NodeStateReasons['Unreachable'];

export type NodeLife =
  | { readonly kind: 'fresh' | 'quiet' }
  | { readonly kind: 'unreachable'; readonly because: StayReason }
  /** Not confirmed is a loss that the leader before has found: the node may have come back, and no worker moves yet. */
  | { readonly kind: 'lost'; readonly isConfirmed: boolean };

/** Whether nothing has been heard of a node for so long that it gets no more workers. */
export function isSilent(liveness: Liveness): boolean {
  return liveness === 'unreachable' || liveness === 'lost';
}

/** A node of a reading. */
export interface ReadNode {
  readonly name: string;
  /** Nodes of one zone tend to fail together. */
  readonly zone: string;
  /** Whether the Pod of its agent is being started, by the word of a kubelet that is alive. */
  readonly agentStarting: boolean;
  /** Whether its workers leave it in any case: it was retired, or its Node was deleted. Then no brake holds. */
  readonly isLeft: boolean;
}

/** The result of one successful read of all Leases. */
export interface LeaseReading {
  /** Monotonic milliseconds at which the answer was there. */
  readonly at: number;
  readonly nodes: readonly ReadNode[];
  /** By node, a value that differs with each renewal, such as a resourceVersion. Never read as a time. */
  readonly stamps: ReadonlyMap<string, string>;
  /**
   * Nodes whose last renewal lies far behind those of others, by the clocks of the agents. The first reading takes them
   * for quiet until they are heard; nothing else follows from that.
   */
  readonly late?: ReadonlySet<string>;
}

/** The finding of an earlier leader about one node. */
export interface EarlierLife {
  readonly life: NodeLife;
  /** Milliseconds since the finding. */
  readonly forMs: number;
}

/** Silent milliseconds up to which a node is fresh: two renewals of an agent. */
const FRESH_FOR_MS = 20_000;
/** Overdue milliseconds after which a node is lost: four renewals. */
const LOST_AFTER_MS = 40_000;
/** Overdue milliseconds while the agent's Pod is being started: as long as Kubernetes leaves Pods on a silent node. */
const LOST_AFTER_START_MS = 300_000;
/**
 * Most milliseconds that the time between two reads counts: an absent or frozen API server, or a stopped controller,
 * ages a node by no more.
 */
const LONGEST_GAP_MS = 10_000;

const fresh: NodeLife = { kind: 'fresh' };

interface Track {
  /** Undefined while there is no Lease; `unread` before the first reading of a node that an earlier leader knew. */
  readonly stamp: string | { readonly kind: 'unread' } | undefined;
  /** Counted milliseconds since the last renewal. */
  readonly silentMs: number;
  /** The part of them in which another node was heard: only that part counts against this node. */
  readonly overdueMs: number;
  readonly life: NodeLife;
}

type Sign = Omit<Track, 'life'> & { readonly isRenewed: boolean };

/**
 * Judges nodes by this controller's own observations: only the time between its successful reads counts, by its own
 * monotonic clock; the times in Leases make no node lost. When no node renews, the fault lies with the API server or
 * this controller, and the clock stands still for all nodes. When many nodes are silent, {@link LossBrake} says which
 * of them are lost.
 */
export class NodeLiveness {
  readonly #brake = new LossBrake();
  #tracks: ReadonlyMap<string, Track>;
  #lastReadAt: number | undefined;

  /** @param earlier findings of the leader before, by node */
  constructor(earlier: ReadonlyMap<string, EarlierLife> = new Map()) {
    this.#tracks = new Map([...earlier].map(([name, life]) => [name, restored(life)]));
  }

  /** `fresh` for nodes that have not been part of a reading yet. */
  of(node: string): Liveness {
    return this.life(node).kind;
  }

  /** Life of a node, with the reason why the workers of an unreachable node stay. */
  life(node: string): NodeLife {
    return this.#tracks.get(node)?.life ?? fresh;
  }

  /**
   * Takes in one reading.
   *
   * @returns the nodes whose liveness has changed
   */
  observe(reading: LeaseReading): readonly string[] {
    const gap = Math.min(Math.max(0, reading.at - (this.#lastReadAt ?? reading.at)), LONGEST_GAP_MS);
    const isFirst = this.#lastReadAt === undefined;
    this.#lastReadAt = reading.at;
    const signs = reading.nodes.map((node) => [node, this.#hear(node.name, reading, gap, isFirst)] as const);
    // A lost node says nothing about the API server.
    const witnesses = reading.nodes.filter(({ name }) => this.of(name) !== 'lost').length;
    const clockRuns = witnesses === 1 || signs.some(([, { silentMs }]) => silentMs < FRESH_FOR_MS);
    const aged = signs.map(([node, sign]) => {
      const overdueMs = sign.isRenewed ? 0 : sign.overdueMs + (clockRuns ? gap : 0);
      return [node, { ...sign, overdueMs }] as const;
    });
    const admitted = this.#admit(aged, gap);

    const tracks = new Map<string, Track>();
    const changed: string[] = [];
    for (const [node, sign] of aged) {
      const life = this.#judge(node, sign, admitted);
      if (!isSame(life, this.life(node.name))) {
        changed.push(node.name);
      }
      const { stamp, silentMs, overdueMs } = sign;
      tracks.set(node.name, { stamp, silentMs, overdueMs, life });
    }
    this.#tracks = tracks;
    return changed;
  }

  #hear(name: string, { stamps, late }: LeaseReading, gap: number, isFirst: boolean): Sign {
    const before = this.#tracks.get(name);
    const stamp = stamps.get(name);
    if (before === undefined) {
      // A Lease seen for the first time may be days old: its age counts from now.
      const isLate = isFirst && late?.has(name) === true;
      return { stamp, silentMs: isLate ? FRESH_FOR_MS : 0, overdueMs: 0, isRenewed: !isLate };
    }
    const isRenewed = stamp !== undefined && stamp !== before.stamp && typeof before.stamp !== 'object';
    const { overdueMs } = before;
    return { stamp: stamp ?? before.stamp, silentMs: isRenewed ? 0 : before.silentMs + gap, overdueMs, isRenewed };
  }

  /** Chooses the nodes that are lost now. */
  #admit(aged: readonly (readonly [ReadNode, Sign])[], gap: number): ReadonlySet<string> {
    const zones = new Map<string, ZoneCount>();
    const silent: SilentNode[] = [];
    for (const [node, sign] of aged) {
      const { name, zone, isLeft } = node;
      if (isLeft) {
        continue;
      }
      const isLost = !sign.isRenewed && this.of(name) === 'lost';
      // A node that is quiet counts as silent: nodes that fail at once are overdue one after the other.
      const isSilent = isLost || sign.silentMs >= FRESH_FOR_MS;
      const { heard, silent: others } = zones.get(zone) ?? { heard: 0, silent: 0 };
      zones.set(zone, isSilent ? { heard, silent: others + 1 } : { heard: heard + 1, silent: others });
      if (!isLost && isOverdue(node, sign)) {
        silent.push({ name, zone, silentMs: sign.overdueMs });
      }
    }
    return this.#brake.admit(gap, zones, silent);
  }

  #judge(node: ReadNode, sign: Sign, admitted: ReadonlySet<string>): NodeLife {
    if (sign.isRenewed) {
      return fresh;
    }
    const { name, zone, isLeft } = node;
    if (admitted.has(name) || (isLeft && isOverdue(node, sign))) {
      return { kind: 'lost', isConfirmed: true };
    }
    const before = this.life(name);
    if (before.kind === 'lost') {
      return { kind: 'lost', isConfirmed: before.isConfirmed || sign.silentMs >= LOST_AFTER_MS + FRESH_FOR_MS };
    }
    if (sign.silentMs >= LOST_AFTER_MS) {
      return { kind: 'unreachable', because: this.#staysBecause(node, sign, this.#brake.isHeld(zone)) };
    }
    return sign.silentMs < FRESH_FOR_MS ? fresh : { kind: 'quiet' };
  }

  #staysBecause(node: ReadNode, sign: Sign, isHeld: boolean): StayReason {
    if (node.agentStarting && !isOverdue(node, sign)) {
      return 'AgentStarting';
    }
    if (sign.overdueMs < LOST_AFTER_MS) {
      const before = this.life(node.name);
      return before.kind === 'unreachable' ? before.because : 'NoNodeHeard';
    }
    return isHeld ? 'ManyUnreachable' : 'RateLimited';
  }
}

function isOverdue({ agentStarting }: ReadNode, { overdueMs }: Sign): boolean {
  return overdueMs >= (agentStarting ? LOST_AFTER_START_MS : LOST_AFTER_MS);
}

function isSame(one: NodeLife, other: NodeLife): boolean {
  return detailOf(one) === detailOf(other);
}

function detailOf(life: NodeLife): string {
  switch (life.kind) {
    case 'fresh':
    case 'quiet':
      return life.kind;
    case 'unreachable':
      return `${life.kind} ${life.because}`;
    case 'lost':
      return `${life.kind} ${life.isConfirmed}`;
    default:
      return unreachable(life);
  }
}

/** The start of a node that an earlier leader knew. A node that has come back meanwhile gets the time to say so. */
function restored({ life, forMs }: EarlierLife): Track {
  return { stamp: { kind: 'unread' }, silentMs: LOST_AFTER_MS, overdueMs: restoredOverdueMs(life, forMs), life };
}

function restoredOverdueMs(life: NodeLife, forMs: number): number {
  if (life.kind !== 'unreachable' || life.because === 'NoNodeHeard') {
    return 0;
  }
  const least = LOST_AFTER_MS - FRESH_FOR_MS;
  return life.because === 'AgentStarting'
    ? Math.min(least + Math.max(0, forMs), LOST_AFTER_START_MS - FRESH_FOR_MS)
    : least;
}
