import type { WorkerReasons } from '../../api/condition.ts';
import type { NodeAmounts } from '../../api/lambda-node.ts';
import type { TaintVerdict } from './taint.ts';
import { TopologyParts, type TopologySpread } from './topology.ts';

export type ScheduledReason = WorkerReasons['Scheduled'];

/**
 * The reason why a healthy node gets no new workers:
 * - `cordoned`: people asked for that;
 * - `draining`: its workers are to leave, since its guard Pod was evicted or the node is about to go;
 * - `retired`: ESB leaves it;
 * - `unheld`: its kubelet finds no room for its reservation, so that Pods have the memory.
 */
export type Closure = 'cordoned' | 'draining' | 'retired' | 'unheld';

/** A node as placement sees it. */
export interface Candidate {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Reports itself ready, and is not lost. */
  readonly ready: boolean;
  /** Heard lately. A silent node is chosen only when there is no other. */
  readonly fresh: boolean;
  readonly closed?: Closure | undefined;
  readonly taints: TaintVerdict;
  readonly capacity: NodeAmounts;
  /** Promised to workers that have a container or soon will, paused and removed ones included. */
  readonly used: NodeAmounts;
  /** MiB for `/tmp` of workers on disk; absent where that is memory. */
  readonly disk?: { readonly capacityMiB: number; readonly usedMiB: number };
  /** Workers assigned, whether or not they have a container. */
  readonly assigned: number;
  /** MiB of memory that all of them would take at once. */
  readonly assignedMiB: number;
  /** Workers among them that serve the same function. */
  readonly sameFunction: number;
  readonly hasImage: boolean;
  /** The processor, as images name it, where known. */
  readonly architecture?: string | undefined;
}

/**
 * The node that is chosen among those that would do:
 * - `pack`: the fullest, so that few nodes have something reserved for workers, and an autoscaler may take the others;
 * - `spread`: the emptiest, so that the loss of a node takes few workers.
 */
export type PlacementStrategy = 'pack' | 'spread';

export interface PlacementRequest {
  readonly strategy: PlacementStrategy;
  /** MiB of memory that the worker may use beside `/tmp`. */
  readonly memoryMiB: number;
  /** MiB of its `/tmp`, which is memory as well on some nodes. */
  readonly tmpMiB: number;
  /** Thousandths of a core that it asks for. */
  readonly milliCPU: number;
  /** Whether a container is to exist now; a worker that rests Absent takes nothing until it is called. */
  readonly takesRoom: boolean;
  readonly nodeName?: string | undefined;
  readonly nodeSelector?: Readonly<Record<string, string>> | undefined;
  readonly spread?: TopologySpread | undefined;
  /** Processors that the image is not made for. */
  readonly unfitArchitectures?: readonly string[];
  /** A node that is ruled out, because it was lost or has no room. */
  readonly exclude?: string | undefined;
  /** The present node of the worker. */
  readonly leaves?: string | undefined;
}

export type Placement =
  | { readonly kind: 'placed'; readonly nodeName: string }
  | {
      readonly kind: 'refused';
      readonly reason: ScheduledReason;
      /** For the condition: without numbers of nodes, and the same while a few of many nodes come and go. */
      readonly message: string;
      /** For the Event: the same with numbers. */
      readonly detail: string;
      /** Whether ESB has no node or leaves each: then no controller may be left to release workers. */
      readonly leaving: boolean;
    };

/** The reason why a node is ruled out; the first that holds. */
type Obstacle = 'excluded' | 'selector' | 'architecture' | 'notReady' | 'tainted' | Closure | Shortage;
/** The reason why an open node cannot take the worker. */
type Shortage = 'tooSmall' | 'tooSlow' | 'diskTooSmall' | 'full' | 'busy' | 'diskFull' | 'tooFarAhead';

/** The share of all nodes from which on an obstacle is mentioned. */
const TOLD_SHARE = 0.2;
/** With fewer nodes than these, a single node is a share that is mentioned. */
const MANY_NODES = 6;

// One function's workers are its concurrency: spreading them counts more than having the image, and than packing.
// Otherwise the node of a function's first worker would get all the others.
const SPREAD_WEIGHT = 4;
const IMAGE_WEIGHT = 1;
const ROOM_WEIGHT = 1;

export function matchesLabels(
  labels: Readonly<Record<string, string>>,
  selector: Readonly<Record<string, string>>,
): boolean {
  return Object.entries(selector).every(([name, value]) => labels[name] === value);
}

/** The reason why the node is closed to the worker, apart from its room. */
function closedTo(candidate: Candidate, request: PlacementRequest): Exclude<Obstacle, Shortage> | undefined {
  if (candidate.name === request.exclude) {
    return 'excluded';
  }
  if (!matchesLabels(candidate.labels, request.nodeSelector ?? {})) {
    return 'selector';
  }
  if (candidate.architecture !== undefined && request.unfitArchitectures?.includes(candidate.architecture) === true) {
    return 'architecture';
  }
  if (!candidate.ready) {
    return 'notReady';
  }
  return candidate.taints === 'barred' ? 'tainted' : candidate.closed;
}

function obstacleOf(
  candidate: Candidate,
  request: PlacementRequest,
  parts: TopologyParts | undefined,
): Obstacle | undefined {
  const { capacity, disk, used } = candidate;
  const closed = closedTo(candidate, request);
  if (closed !== undefined) {
    return closed;
  }
  const memoryMiB = memoryOn(candidate, request);
  if (memoryMiB > capacity.memoryMiB || capacity.workers < 1) {
    return 'tooSmall';
  }
  if (disk !== undefined && request.tmpMiB > disk.capacityMiB) {
    return 'diskTooSmall';
  }
  if (request.takesRoom && (used.memoryMiB + memoryMiB > capacity.memoryMiB || used.workers >= capacity.workers)) {
    return 'full';
  }
  if (request.milliCPU > capacity.milliCPU) {
    return 'tooSlow';
  }
  if (request.takesRoom && used.milliCPU + request.milliCPU > capacity.milliCPU) {
    return 'busy';
  }
  if (request.takesRoom && disk !== undefined && disk.usedMiB + request.tmpMiB > disk.capacityMiB) {
    return 'diskFull';
  }
  const isStrict = request.spread?.whenUnsatisfiable === 'DoNotSchedule';
  return isStrict && parts?.isTooFarAhead(candidate) === true ? 'tooFarAhead' : undefined;
}

/** MiB of memory that the worker takes of that node. */
function memoryOn({ disk }: Candidate, { memoryMiB, tmpMiB }: PlacementRequest): number {
  return memoryMiB + (disk === undefined ? tmpMiB : 0);
}

/** The share of a node, 0 to 1, that stays free: of memory, of CPU or of places, the least. */
function roomLeft(candidate: Candidate, request: PlacementRequest): number {
  const { capacity, used } = candidate;
  const memory = used.memoryMiB + (request.takesRoom ? memoryOn(candidate, request) : 0);
  const workers = used.workers + (request.takesRoom ? 1 : 0);
  const cpu = used.milliCPU + (request.takesRoom ? request.milliCPU : 0);
  return Math.min(
    1 - memory / capacity.memoryMiB,
    1 - workers / capacity.workers,
    capacity.milliCPU === 0 ? 1 : 1 - cpu / capacity.milliCPU,
  );
}

function scoreOf(candidate: Candidate, request: PlacementRequest, mostOfFunction: number): number {
  const fewer = mostOfFunction - candidate.sameFunction;
  // One worker fewer counts more than image and room together, and many fewer more than one.
  const spread = fewer === 0 ? 0 : (1 + fewer / mostOfFunction) / 2;
  const left = roomLeft(candidate, request);
  const room = request.strategy === 'pack' ? 1 - left : left;
  return SPREAD_WEIGHT * spread + IMAGE_WEIGHT * (candidate.hasImage ? 1 : 0) + ROOM_WEIGHT * room;
}

/** Whether all workers of the node could be there at once, those that rest Absent included, and the new one. */
function hasRoomForAll(candidate: Candidate, request: PlacementRequest): boolean {
  const { assigned, assignedMiB, capacity } = candidate;
  return assignedMiB + memoryOn(candidate, request) <= capacity.memoryMiB && assigned < capacity.workers;
}

interface Scored {
  readonly node: Candidate;
  readonly score: number;
}

/** Orders nodes by score, then by the most workers or the fewest, then by name. */
function rank(a: Scored, b: Scored, strategy: PlacementStrategy): number {
  const fewer = a.node.assigned - b.node.assigned;
  return b.score - a.score || (strategy === 'pack' ? -fewer : fewer) || (a.node.name < b.node.name ? -1 : 1);
}

/** The candidates that pass the test, or all where none does. */
function preferred(pool: readonly Candidate[], test: (one: Candidate) => boolean): readonly Candidate[] {
  const better = pool.filter(test);
  return better.length > 0 ? better : pool;
}

function best(
  fitting: readonly Candidate[],
  request: PlacementRequest,
  parts: TopologyParts | undefined,
): Candidate | undefined {
  let pool = preferred(fitting, (candidate) => candidate.fresh);
  pool = preferred(pool, (candidate) => candidate.taints === 'free');
  // Workers that rest take nothing, until all of them are called.
  pool = preferred(pool, (candidate) => hasRoomForAll(candidate, request));
  if (parts !== undefined && request.spread?.whenUnsatisfiable === 'ScheduleAnyway') {
    const fewest = Math.min(...pool.map((candidate) => parts.count(candidate)));
    pool = pool.filter((candidate) => parts.count(candidate) === fewest);
  }
  const mostOfFunction = Math.max(0, ...pool.map((candidate) => candidate.sameFunction));
  let winner: Scored | undefined;
  for (const node of pool) {
    const one = { node, score: scoreOf(node, request, mostOfFunction) };
    winner = winner === undefined || rank(one, winner, request.strategy) < 0 ? one : winner;
  }
  return winner?.node;
}

/** Each obstacle in the order in which a refusal names them: the reason that it stands for, and its words. */
const obstacles: Readonly<
  Record<
    Obstacle,
    readonly [reason: ScheduledReason, describe: (request: PlacementRequest, memoryMiB: number) => string]
  >
> = {
  excluded: ['NoneReady', () => 'out of the question now'],
  selector: ['NoneMatches', () => 'without the labels of spec.nodeSelector'],
  architecture: [
    'WrongArchitecture',
    ({ unfitArchitectures = [] }) =>
      `with a processor that the image is not made for (${unfitArchitectures.join(', ')})`,
  ],
  notReady: ['NoneReady', () => 'not ready'],
  tainted: ['NoneTolerated', () => 'with a taint that spec.tolerations does not name'],
  cordoned: ['AllCordoned', () => 'cordoned'],
  draining: ['AllCordoned', () => 'being drained'],
  retired: ['AllCordoned', () => 'retired'],
  unheld: ['NoneHeld', () => 'whose reservation finds no room'],
  tooSmall: ['NoneFits', (_, memoryMiB) => `smaller than ${memoryMiB} MiB`],
  tooSlow: ['NoneFits', ({ milliCPU }) => `with less CPU than ${milliCPU}m`],
  diskTooSmall: ['NoneFits', ({ tmpMiB }) => `with a disk too small for ${tmpMiB} MiB of /tmp`],
  full: ['NoneFits', (_, memoryMiB) => `without ${memoryMiB} MiB to spare`],
  busy: ['NoneFits', ({ milliCPU }) => `without ${milliCPU}m of CPU to spare`],
  diskFull: ['NoneFits', ({ tmpMiB }) => `without ${tmpMiB} MiB of disk to spare for /tmp`],
  tooFarAhead: [
    'SpreadUnmet',
    ({ spread }) => `without ${spread?.topologyKey ?? 'a part'} or by more than ${spread?.maxSkew ?? 1} ahead in it`,
  ],
};

/** From the most to the least specific. */
const reasonOrder: readonly ScheduledReason[] = [
  'SpreadUnmet',
  'NoneFits',
  'NoneHeld',
  'AllCordoned',
  'NoneTolerated',
  'NoneReady',
  'WrongArchitecture',
  'NoneMatches',
];

/** The share of the nodes that an obstacle rules out, in a stable word; undefined for a few. */
function portion(count: number, total: number): 'all' | 'all or nearly all' | 'most' | 'some' | undefined {
  const share = count / total;
  if (total >= MANY_NODES && share > 1 - TOLD_SHARE) {
    return 'all or nearly all';
  }
  if (share === 1) {
    return 'all';
  }
  if (share >= 0.5) {
    return 'most';
  }
  return share >= TOLD_SHARE ? 'some' : undefined;
}

function refusal(
  candidates: readonly Candidate[],
  reason: ScheduledReason,
  message: string,
  detail: string = message,
): Placement {
  return { kind: 'refused', reason, message, detail, leaving: candidates.every(({ closed }) => closed === 'retired') };
}

function refuse(
  candidates: readonly Candidate[],
  request: PlacementRequest,
  parts: TopologyParts | undefined,
): Placement {
  if (candidates.length === 0) {
    return refusal(candidates, 'NoNodes', 'there is no LambdaNode: no agent has registered yet');
  }
  const total = candidates.length;
  const refused = Map.groupBy(candidates, (candidate) => obstacleOf(candidate, request, parts));
  const hurdles = Object.entries(obstacles).flatMap(([obstacle, [stands, describe]]) => {
    const nodes = refused.get(obstacle as Obstacle);
    const least = Math.min(...(nodes ?? []).map((candidate) => memoryOn(candidate, request)));
    return nodes === undefined ? [] : [{ stands, count: nodes.length, what: describe(request, least) }];
  });
  // The last hurdle that any node failed at: with one node full and another not ready, room is missing.
  const reason = reasonOrder.find((one) => hurdles.some(({ stands }) => stands === one)) ?? 'NoneMatches';
  const told = hurdles.flatMap(({ stands, count, what }) => {
    const part = portion(count, total) ?? (stands === reason ? 'few' : undefined);
    return part === undefined ? [] : [`${part} ${what}`];
  });
  const detail = hurdles.map(({ count, what }) => `${count} ${what}`).join(', ');
  return refusal(
    candidates,
    reason,
    `no node will do: ${told.join(', ')}`,
    `none of ${total} nodes will do: ${detail}`,
  );
}

function placePinned(name: string, candidates: readonly Candidate[], request: PlacementRequest): Placement {
  const candidate = candidates.find((one) => one.name === name);
  if (candidate === undefined) {
    return refusal(
      candidates,
      'PinnedNodeMissing',
      `spec.nodeName is ${name}, and there is no LambdaNode of that name`,
    );
  }
  // A pin leaves nothing to spread.
  const obstacle = obstacleOf(candidate, request, undefined);
  if (obstacle === undefined) {
    return { kind: 'placed', nodeName: name };
  }
  return refusal(
    candidates,
    'PinnedNodeUnfit',
    `spec.nodeName is ${name}, which is ${obstacles[obstacle][1](request, memoryOn(candidate, request))}`,
  );
}

/**
 * Chooses a node. Candidates are ready, open to new workers, have the labels, room and no taint that bars the worker,
 * and keep the spread that the function asks for. The best has the best spread of the function, the image, and the least
 * room left or the most. The same input always gives the same answer.
 */
export function place(request: PlacementRequest, candidates: readonly Candidate[]): Placement {
  if (request.nodeName !== undefined) {
    return placePinned(request.nodeName, candidates, request);
  }
  const parts =
    request.spread === undefined
      ? undefined
      : new TopologyParts(
          request.spread,
          candidates,
          (candidate) => closedTo(candidate, request) === undefined,
          request.leaves,
        );
  const fitting = candidates.filter((candidate) => obstacleOf(candidate, request, parts) === undefined);
  const winner = best(fitting, request, parts);
  return winner === undefined ? refuse(candidates, request, parts) : { kind: 'placed', nodeName: winner.name };
}
