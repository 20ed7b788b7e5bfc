import type { Phase } from '../../protocol/generated/agent.ts';

/** The report of a worker by the connected agent of its node. */
export interface Holding {
  readonly epoch: number;
  readonly phase: Phase;
  /** Calls in the worker or waiting for it that are not this gateway's own. */
  readonly foreignInFlight: number;
  /** Of these, the ones that have its places. */
  readonly foreignPlaces: number;
  /** Whether a call may lift it out of its resting state. */
  readonly callable: boolean;
  /** Calls that it takes at once; at least one. */
  readonly places: number;
}

export interface RoutableAssignment {
  readonly nodeName: string;
  readonly epoch: number;
  /** Calls that the worker may run at once, of those that are reserved for its function; absent where none are. */
  readonly share?: number;
}

/** Cost that no running worker with a free place has. */
const RESTING = 1;
/** Costs from which a call waits at the agent, and from which the worker may not come to take it. */
const QUEUED = 30_000;
const FAILING = 40_000;
/** Phases of a start, which may take as long as a function's own init. */
const STARTING: ReadonlySet<Phase | undefined> = new Set<Phase>(['PHASE_PENDING', 'PHASE_CREATING']);
/** Phases of a worker that takes a further call once one has ended, or its start is over. */
const COMING: ReadonlySet<Phase> = new Set<Phase>([
  'PHASE_CREATING',
  'PHASE_RUNNING',
  'PHASE_PAUSING',
  'PHASE_PAUSED',
  'PHASE_RESUMING',
]);

/** All that is known of one worker of a function. */
export interface RoutableWorker {
  readonly uid: string;
  readonly name: string;
  /** From the resource; absent when the controller has not placed it. */
  readonly assignment: RoutableAssignment | undefined;
  /** From the agent of the assigned node alone: reports of other agents have no effect. */
  readonly holding: Holding | undefined;
  /** Calls that this gateway itself has under way to it. */
  readonly outstanding: number;
  /** The turn of its function in which this gateway called it last; 0 for never. */
  readonly lastTurn: number;
}

export interface Route {
  readonly uid: string;
  readonly name: string;
  readonly nodeName: string;
  readonly epoch: number;
  /**
   * Whether the call would wait at the agent: all places of the worker are taken, it has to get its image first, or it is
   * being started and another one may be free before.
   */
  readonly isQueued: boolean;
}

/** Why a worker cannot be called at the moment, though it may be soon. */
export type Obstacle =
  /** The controller has not assigned it. */
  | 'Unassigned'
  /** There is no connection to the agent of its node. */
  | 'AgentUnreachable'
  /** Its agent has not taken over the assignment yet. */
  | 'NotTakenOver'
  /** The worker has no share of the reserved concurrency of its function. */
  | 'NoShare';

/**
 * The best worker to call now: of the running ones with a free place the one with most of its places free, then a paused
 * one, then one that has to be started, then the full one with the shortest queue for its places; last a failed one and
 * one that its owner keeps at rest, whose agent gives the reason. One without a share is not called. Of equal workers at
 * rest the one that was called last is chosen, which has most to remember; others alternate by `rotation`. Only the node
 * in the resource is chosen, and only where its agent holds the worker under the very epoch of the resource: an agent may
 * lag, or lie.
 *
 * @param tried epochs in which workers have refused this call, by uid
 * @param busy the same of those that have refused it for want of a place, and may be waited for
 * @returns undefined when no worker is left
 */
export function chooseRoute(
  workers: readonly RoutableWorker[],
  tried: ReadonlyMap<string, number> | undefined,
  rotation: number,
  busy?: ReadonlyMap<string, number>,
): Route | undefined {
  let best: RoutableWorker | undefined;
  let bestCost = Number.POSITIVE_INFINITY;
  const count = workers.length;
  for (let step = 0; step < count; step += 1) {
    const worker = workers[(rotation + step) % count];
    if (worker === undefined) {
      continue;
    }
    const { assignment } = worker;
    const holding = currentHolding(worker);
    if (assignment === undefined || holding === undefined || !isSharer(assignment) || hasRefused(worker, tried)) {
      continue;
    }
    const { share } = assignment;
    const places = share === undefined ? holding.places : Math.min(holding.places, share);
    const cost = costOf(holding, loadOf(worker, holding, places, hasRefused(worker, busy)));
    const isMoreRecent = cost === bestCost && worker.lastTurn > (best?.lastTurn ?? 0) && isAtRest(cost);
    if (cost < bestCost || isMoreRecent) {
      best = worker;
      bestCost = cost;
    }
  }
  if (best?.assignment === undefined) {
    return undefined;
  }
  const { assignment, holding, name, uid } = best;
  const isOvertaken =
    bestCost < QUEUED &&
    STARTING.has(holding?.phase) &&
    workers.some((other) => other.uid !== uid && !hasRefused(other, tried) && isComing(other));
  const started = isOvertaken ? workers.filter((other) => !STARTING.has(other.holding?.phase)) : [];
  const sooner = started.length === 0 ? undefined : chooseRoute(started, tried, rotation, busy);
  if (sooner?.isQueued === true) {
    return sooner;
  }
  return {
    uid,
    name,
    nodeName: assignment.nodeName,
    epoch: assignment.epoch,
    isQueued: bestCost >= QUEUED ? bestCost < FAILING : isOvertaken,
  };
}

/**
 * As {@link chooseRoute}; a worker at whose agent the call has waited is the last choice of those without a free place.
 *
 * @param left the worker that the call was taken back from
 */
export function chooseBeside(
  left: Pick<Route, 'uid'> | undefined,
  workers: readonly RoutableWorker[],
  refused: { readonly workers: ReadonlyMap<string, number>; readonly busy: ReadonlyMap<string, number> } | undefined,
  rotation: number,
): Route | undefined {
  const best = chooseRoute(workers, refused?.workers, rotation, refused?.busy);
  if (left === undefined || best?.uid !== left.uid) {
    return best;
  }
  const others = workers.filter(({ uid }) => uid !== left.uid);
  const beside = chooseRoute(others, refused?.workers, rotation, refused?.busy);
  return beside?.isQueued === true ? beside : best;
}

/**
 * Calls for each place of a worker. Of one without a free place those alone that wait there for this gateway: an agent
 * has the one go first that has waited longest, so each gateway has calls at all workers, whose turn it may be.
 */
function loadOf(
  { outstanding }: RoutableWorker,
  { foreignInFlight, foreignPlaces }: Holding,
  places: number,
  isBusy: boolean,
): number {
  const load = (foreignInFlight + outstanding) / places;
  return load < 1 && !isBusy ? load : 1 + Math.max(0, outstanding + foreignPlaces - places) / places;
}

function hasRefused({ assignment, uid }: RoutableWorker, tried: ReadonlyMap<string, number> | undefined): boolean {
  return tried?.has(uid) === true && tried.get(uid) === assignment?.epoch;
}

/** Whether a worker takes a further call once one has ended, or its start is over. */
function isComing(worker: RoutableWorker): boolean {
  const holding = currentHolding(worker);
  return (
    holding !== undefined && isSharer(worker.assignment) && COMING.has(holding.phase) && costOf(holding, 0) < FAILING
  );
}

/** Whether calls can be sent to a worker, as far as its assignment and the connection to its agent tell. */
export function isReached(worker: RoutableWorker): boolean {
  return isSharer(worker.assignment) && currentHolding(worker) !== undefined;
}

/**
 * Calls that a worker takes at once, be it that the first has to wake or start it. Where a call would have to wait for
 * something else, and while it is being started, those alone that wait there: others go to whichever worker is free first.
 */
export function readyPlacesOf(worker: RoutableWorker): number {
  const holding = currentHolding(worker);
  if (holding === undefined) {
    return worker.outstanding;
  }
  const places = Math.min(holding.places, worker.assignment?.share ?? Number.POSITIVE_INFINITY);
  const isReady = costOf(holding, 0) < QUEUED && !STARTING.has(holding.phase);
  return isReady ? places : Math.min(places, worker.outstanding + holding.foreignInFlight);
}

/** Ready places of a worker that calls of other gateways have. */
export function foreignPlacesOf(worker: RoutableWorker): number {
  return Math.min(currentHolding(worker)?.foreignPlaces ?? 0, readyPlacesOf(worker));
}

/** Calls of other gateways that are in a worker or wait for it. */
export function foreignOf(worker: RoutableWorker): number {
  return currentHolding(worker)?.foreignInFlight ?? 0;
}

/** Whether a worker may run calls, as far as its assignment tells. */
export function isSharer(assignment: RoutableAssignment | undefined): boolean {
  return assignment !== undefined && assignment.share !== 0;
}

/**
 * Why a worker is no candidate for {@link chooseRoute}; undefined when it is one.
 *
 * @param connected whether there is a connection to the agent of a node
 */
export function obstacleOf(worker: RoutableWorker, connected: (nodeName: string) => boolean): Obstacle | undefined {
  if (worker.assignment?.share === 0) {
    return 'NoShare';
  }
  if (currentHolding(worker) !== undefined) {
    return undefined;
  }
  if (worker.assignment === undefined) {
    return 'Unassigned';
  }
  return connected(worker.assignment.nodeName) ? 'NotTakenOver' : 'AgentUnreachable';
}

/** The report of the assigned agent, if the agent has taken over this very assignment. */
function currentHolding({ assignment, holding }: RoutableWorker): Holding | undefined {
  return holding !== undefined && holding.epoch === assignment?.epoch ? holding : undefined;
}

function isAtRest(cost: number): boolean {
  return cost > RESTING && cost < QUEUED;
}

/**
 * Lower is better. A step of 10,000 is more than any queue. A worker that is woken or started for a call is the choice for
 * the next ones until its places are taken.
 */
function costOf(holding: Holding, load: number): number {
  const isFree = load < 1;
  if (!holding.callable && load === 0 && holding.phase !== 'PHASE_RUNNING') {
    return 60_000;
  }
  switch (holding.phase) {
    case 'PHASE_RUNNING':
      return isFree ? load : 30_000 + load;
    case 'PHASE_PAUSING':
    case 'PHASE_PAUSED':
    case 'PHASE_RESUMING':
      return isFree ? 10_000 - load : 30_000 + load;
    case 'PHASE_UNSPECIFIED':
    case 'PHASE_PENDING':
    case 'PHASE_CREATING':
    case 'PHASE_ABSENT':
      return isFree ? 20_000 - load : 30_000 + load;
    case 'PHASE_PULLING':
      // A pull may take minutes: a short queue is the better choice.
      return 30_004 + load;
    case 'PHASE_TERMINATING':
    case 'PHASE_UNKNOWN':
      return 40_000 + load;
    case 'PHASE_FAILED':
      return 50_000 + load;
    default:
      return 55_000;
  }
}
