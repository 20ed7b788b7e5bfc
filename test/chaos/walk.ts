import { unreachable } from '../../src/common/errors.ts';
import { Random } from './random.ts';
import { type Action, type Fault, type FaultKind, hasInit, type Step, type Target, type Wish } from './step.ts';

export interface WalkOptions {
  readonly seed: number;
  /** How many workers there may be at once. */
  readonly workers: number;
  /** Kinds of faults that occur. */
  readonly faults: readonly FaultKind[];
  /** Milliseconds; no fault lasts longer, but a shim that is stopped for good. */
  readonly longestFaultMs: number;
  /** Waits between steps are that many times as long as the shortest walk has them. */
  readonly pace: number;
}

/** Faults that come by chance. The others last too long for that: one of them has a step of its own. */
type FrequentKind = Exclude<FaultKind, 'hang' | 'outage'>;
const weights: Readonly<Record<FrequentKind, number>> = {
  kill: 44,
  stop: 34,
  plugin: 12,
  disk: 5,
  clock: 5,
  init: 24,
};
/** Steps from one shim that is stopped for good to the next one. */
const HANG_EVERY = 40;
/** Steps from one outage of containerd to the next one; the first one comes after half as many. */
const OUTAGE_EVERY = 150;
const OUTAGE_MS = 60_000;

const nodes = ['node-1', 'node-2'] as const;
/** An exit counts against a worker for ten minutes, and puts its next start off for longer each time. */
const MOST_VIOLENT_ENDS = 3;

interface Known {
  readonly wish: Wish;
  /** Ends by force since it was created. */
  readonly ends: number;
}

/**
 * The steps of a walk, without end. They follow from the options alone: not from what becomes of any step. A longer
 * walk begins as a shorter one does.
 */
export function* walk(options: WalkOptions): Generator<Step, never> {
  const random = new Random(options.seed);
  const names = Array.from({ length: options.workers }, (_, index) => `chaos-${String(index + 1).padStart(2, '0')}`);
  const known = new Map<string, Known>();
  for (let number = 1; ; number += 1) {
    const waitMs = random.chance(0.3) ? 0 : random.between(20, 300);
    const action = longFault(random, number, known, options) ?? nextAction(random, names, known, options);
    remember(known, action);
    yield { number, waitMs: waitMs * options.pace, action };
  }
}

/** The fault that has this step for itself, if there is one. */
function longFault(
  random: Random,
  number: number,
  known: ReadonlyMap<string, Known>,
  { faults, longestFaultMs }: WalkOptions,
): Action | undefined {
  if (faults.includes('outage') && number % OUTAGE_EVERY === OUTAGE_EVERY / 2) {
    const forMs = Math.min(OUTAGE_MS, longestFaultMs);
    return { kind: 'fault', fault: { kind: 'outage', node: random.pick(nodes), forMs } };
  }
  if (!faults.includes('hang') || number % HANG_EVERY !== 0) {
    return undefined;
  }
  // A worker that rests Absent has a shim for as long as a call takes only.
  const resting = mild(known).filter((name) => {
    const wish = known.get(name)?.wish;
    return wish?.desiredState !== 'Absent' && wish?.removeAfter === undefined;
  });
  return resting.length === 0 ? undefined : { kind: 'fault', fault: { kind: 'hang', worker: random.pick(resting) } };
}

/** Workers that may be ended by force once more. */
function mild(known: ReadonlyMap<string, Known>): readonly string[] {
  return [...known].filter(([, { ends }]) => ends < MOST_VIOLENT_ENDS).map(([name]) => name);
}

function nextAction(
  random: Random,
  names: readonly string[],
  known: ReadonlyMap<string, Known>,
  options: WalkOptions,
): Action {
  const frequent = options.faults.filter((kind) => kind !== 'hang' && kind !== 'outage');
  if (frequent.length > 0 && random.chance(0.09)) {
    return { kind: 'fault', fault: nextFault(random, known, frequent, options.longestFaultMs) };
  }
  const worker = random.pick(names);
  const now = known.get(worker);
  if (now === undefined) {
    return { kind: 'create', worker, wish: nextWish(random, 1) };
  }
  const gateway = random.between(1, 2);
  const kind = random.weighted({ call: 58, rest: 20, change: 6, delete: 10, crash: 2 });
  switch (kind) {
    case 'call':
      return {
        kind,
        worker,
        gateway,
        count: random.chance(0.2) ? random.between(2, 6) : 1,
        sleepMs: random.chance(0.25) ? random.between(50, 1_500) : 0,
      };
    case 'rest':
      return { kind, worker, wish: nextWish(random, now.wish.revision) };
    case 'change':
      return { kind, worker, wish: { ...now.wish, revision: now.wish.revision + 1 } };
    case 'delete':
      return { kind, worker };
    case 'crash':
      return now.ends < MOST_VIOLENT_ENDS
        ? { kind, worker, gateway }
        : { kind: 'call', worker, gateway, count: 1, sleepMs: 0 };
    default:
      return unreachable(kind);
  }
}

function nextWish(random: Random, revision: number): Wish {
  const desiredState = random.weighted({ Running: 45, Paused: 43, Absent: 12 });
  const wakePolicy = random.chance(0.08) ? 'Never' : 'OnInvoke';
  const idle = desiredState !== 'Running' || random.chance(0.4);
  const pauseAfter = random.between(1, 3);
  return {
    desiredState,
    wakePolicy,
    revision,
    ...(idle ? { pauseAfter } : {}),
    ...(idle && random.chance(0.15) ? { removeAfter: pauseAfter + random.between(1, 5) } : {}),
  };
}

function nextFault(
  random: Random,
  known: ReadonlyMap<string, Known>,
  kinds: readonly FrequentKind[],
  longestMs: number,
): Fault {
  const kind = random.weighted(
    Object.fromEntries(kinds.map((each) => [each, weights[each]])) as Record<FrequentKind, number>,
  );
  const forMs = duration(random, longestMs);
  switch (kind) {
    case 'init': {
      const names = mild(known).filter(hasInit);
      return names.length === 0
        ? { kind: 'kill', target: nextTarget(random, known) }
        : { kind, worker: random.pick(names), how: random.pick(['alone', 'with-agent', 'runtime']) };
    }
    case 'kill':
      return { kind, target: nextTarget(random, known) };
    case 'stop':
      return { kind, target: nextTarget(random, known), forMs };
    case 'plugin':
      return {
        kind,
        plugin: random.pick(['bridge', 'host-local']),
        how: random.pick(['fails', 'fails-late', 'hangs', 'garbage']),
        forMs,
      };
    case 'disk':
      return { kind, node: random.pick(nodes), forMs };
    case 'clock':
      return { kind, seconds: random.pick([-7_200, -30, 30, 7_200]), forMs };
    default:
      return unreachable(kind);
  }
}

/** Mostly short, sometimes longer than deadlines, now and then longer than the Lease of a node. */
function duration(random: Random, longestMs: number): number {
  const length = random.weighted({ short: 80, middle: 18, long: 2 });
  const wanted = {
    short: random.between(100, 2_500),
    middle: random.between(3_000, 12_000),
    long: random.between(42_000, 50_000),
  }[length];
  return Math.min(wanted, longestMs);
}

function nextTarget(random: Random, known: ReadonlyMap<string, Known>): Target {
  const kind = random.weighted({
    agent: 24,
    containerd: 16,
    shim: 14,
    worker: 16,
    gateway: 12,
    controller: 10,
    apiserver: 8,
  });
  switch (kind) {
    case 'agent':
    case 'containerd':
      return { kind, node: random.pick(nodes) };
    case 'shim':
    case 'worker': {
      const names = mild(known);
      return names.length === 0 ? { kind: 'agent', node: random.pick(nodes) } : { kind, worker: random.pick(names) };
    }
    case 'gateway':
    case 'controller':
      return { kind, number: random.between(1, 2) };
    case 'apiserver':
      return { kind };
    default:
      return unreachable(kind);
  }
}

/** Knowledge of the walk after a step: only wishes, never results. */
function remember(known: Map<string, Known>, action: Action): void {
  const ended = (worker: string): void => {
    const now = known.get(worker);
    if (now !== undefined) {
      known.set(worker, { ...now, ends: now.ends + 1 });
    }
  };
  switch (action.kind) {
    case 'create':
      known.set(action.worker, { wish: action.wish, ends: 0 });
      return;
    case 'rest':
    case 'change':
      known.set(action.worker, { ends: known.get(action.worker)?.ends ?? 0, wish: action.wish });
      return;
    case 'delete':
      known.delete(action.worker);
      return;
    case 'crash':
      ended(action.worker);
      return;
    case 'fault': {
      const { fault } = action;
      if (
        (fault.kind === 'kill' || fault.kind === 'stop') &&
        (fault.target.kind === 'worker' || fault.target.kind === 'shim')
      ) {
        ended(fault.target.worker);
      } else if (fault.kind === 'hang' || (fault.kind === 'init' && fault.how !== 'runtime')) {
        ended(fault.worker);
      }
      return;
    }
    case 'call':
      return;
    default:
      unreachable(action);
  }
}
