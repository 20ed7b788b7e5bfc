import type { Refusals } from '../agents/refusals.ts';
import { chooseBeside, chooseRoute, type RoutableWorker, type Route } from '../agents/routing.ts';
import type { AheadCall, QueuedCall } from './queued-call.ts';

/** Milliseconds after which a worker that has refused a call is asked again, without a known change. */
export const ASK_AGAIN_MS = 250;

/** The calls of one version that wait in this gateway. */
export interface WaitingVersion {
  readonly version: number | undefined;
  /** Whether one more call may run. */
  readonly isOpen: boolean;
  readonly candidates: readonly RoutableWorker[];
  /** Calls that had a place before. They go before those of {@link WaitingVersion.queued}. */
  readonly seeking: ReadonlySet<QueuedCall>;
  /** Calls in order of arrival. */
  readonly queued: ReadonlySet<QueuedCall>;
}

/** All of one function that waits in this gateway. */
export interface Waiting {
  readonly versions: Iterable<WaitingVersion>;
  readonly ahead: ReadonlySet<AheadCall>;
  /** Workers of all versions. */
  readonly workers: number;
  readonly rotation: number;
  /** Milliseconds that a call waits for a place. */
  readonly maxQueueWaitMs: number;
}

export type Move =
  /** A call leaves the agent at which it waits, for a free worker where there is one. */
  | { readonly kind: 'TakeBack'; readonly ahead: AheadCall; readonly to: Route | undefined }
  /** A call that has had no place takes one. */
  | { readonly kind: 'Enter'; readonly call: QueuedCall }
  /** A call that had a place takes one again, and goes to a worker. */
  | { readonly kind: 'Send'; readonly call: QueuedCall; readonly route: Route }
  /** A call has waited for too long: for a place, or for a worker. */
  | { readonly kind: 'GiveUp'; readonly call: QueuedCall; readonly lacks: 'Place' | 'Worker' }
  /** Nothing is to be done before a change, or before a time in monotonic milliseconds. */
  | { readonly kind: 'Rest'; readonly until: number };

type VersionMove = Exclude<Move, { readonly kind: 'TakeBack' }>;

/**
 * Finds the next move for the calls of a function that wait. Free workers go to calls that wait at agents, then to
 * calls that had a place before, then to the others: in each case to the one that came first. No version takes the
 * places of another.
 *
 * @param now monotonic milliseconds
 */
export function match(waiting: Waiting, now: number): Move {
  const back = takeBack(waiting, now);
  if (back.kind !== 'Rest') {
    return back;
  }
  let { until } = back;
  let next: Exclude<VersionMove, { readonly kind: 'Rest' }> | undefined;
  for (const version of waiting.versions) {
    const move = nextOf(version, waiting, now);
    if (move.kind === 'Rest') {
      until = Math.min(until, move.until);
    } else if (next === undefined || move.call.arrival < next.call.arrival) {
      next = move;
    }
  }
  return next ?? { kind: 'Rest', until };
}

/** Refusals that still hold: a worker is asked again after {@link ASK_AGAIN_MS}. */
export function freshOf(refusals: Refusals | undefined, now: number): Refusals | undefined {
  return refusals !== undefined && now - refusals.at < ASK_AGAIN_MS ? refusals : undefined;
}

/** The earliest call first. */
export function byArrival(one: QueuedCall, other: QueuedCall): number {
  return one.arrival - other.arrival;
}

/** No call waits at one worker's agent while another worker is free. */
function takeBack({ ahead, versions, workers, rotation }: Waiting, now: number): Move {
  let until = Number.POSITIVE_INFINITY;
  if (ahead.size === 0) {
    return { kind: 'Rest', until };
  }
  const free = new Map(workers < 2 ? [] : [...versions].map((each) => [each.version, freeWorkersOf(each, rotation)]));
  for (const each of [...ahead].toSorted((one, other) => byArrival(one.call, other.call))) {
    if (each.until <= now) {
      return { kind: 'TakeBack', ahead: each, to: undefined };
    }
    until = Math.min(until, each.until);
    const candidates = free.get(each.call.version);
    if (candidates !== undefined) {
      const fresh = freshOf(each.call.refusals, now);
      const to = chooseRoute(candidates, fresh?.workers, rotation, fresh?.busy);
      if (to?.isQueued === false && to.uid !== each.route.uid) {
        return { kind: 'TakeBack', ahead: each, to };
      }
      until = Math.min(until, fresh === undefined ? until : fresh.at + ASK_AGAIN_MS);
    }
  }
  return { kind: 'Rest', until };
}

/** The workers of a version, if one of them is free. */
function freeWorkersOf({ candidates }: WaitingVersion, rotation: number): readonly RoutableWorker[] | undefined {
  return chooseRoute(candidates, undefined, rotation)?.isQueued === false ? candidates : undefined;
}

function nextOf(version: WaitingVersion, { maxQueueWaitMs, rotation }: Waiting, now: number): VersionMove {
  const { isOpen, queued, seeking } = version;
  const sent = isOpen ? sendOf(version, maxQueueWaitMs, rotation, now) : placeOf(seeking, maxQueueWaitMs, now);
  if (sent.kind !== 'Rest') {
    return sent;
  }
  const [first] = queued;
  if (first === undefined) {
    return sent;
  }
  if (isOpen) {
    return { kind: 'Enter', call: first };
  }
  const waits = placeOf([first], maxQueueWaitMs, now);
  return waits.kind === 'Rest' ? { kind: 'Rest', until: Math.min(waits.until, sent.until) } : waits;
}

/** The first call that a worker takes, or whose wait for a worker is over. */
function sendOf(
  { candidates, seeking }: WaitingVersion,
  maxQueueWaitMs: number,
  rotation: number,
  now: number,
): VersionMove {
  let until = Number.POSITIVE_INFINITY;
  if (seeking.size === 0) {
    return { kind: 'Rest', until };
  }
  if (chooseRoute(candidates, undefined, rotation) === undefined) {
    return workerOf(seeking, now);
  }
  for (const call of [...seeking].toSorted(byArrival)) {
    const { left, since, workerUntil = now } = call;
    const refusals = freshOf(call.refusals, now);
    const route = chooseBeside(left, candidates, refusals, rotation);
    if (route !== undefined) {
      const isLate = route.isQueued && since + maxQueueWaitMs <= now;
      return isLate ? { kind: 'GiveUp', call, lacks: 'Place' } : { kind: 'Send', call, route };
    }
    if (workerUntil <= now) {
      return { kind: 'GiveUp', call, lacks: 'Worker' };
    }
    until = Math.min(until, workerUntil, refusals === undefined ? workerUntil : refusals.at + ASK_AGAIN_MS);
  }
  return { kind: 'Rest', until };
}

/** The first call whose wait for a worker is over, where none is there. */
function workerOf(calls: Iterable<QueuedCall>, now: number): VersionMove {
  let until = Number.POSITIVE_INFINITY;
  for (const call of calls) {
    const { workerUntil = now } = call;
    if (workerUntil <= now) {
      return { kind: 'GiveUp', call, lacks: 'Worker' };
    }
    until = Math.min(until, workerUntil);
  }
  return { kind: 'Rest', until };
}

/** The first call whose wait for a place is over. */
function placeOf(calls: Iterable<QueuedCall>, maxQueueWaitMs: number, now: number): VersionMove {
  let until = Number.POSITIVE_INFINITY;
  for (const call of calls) {
    const end = call.since + maxQueueWaitMs;
    if (end <= now) {
      return { kind: 'GiveUp', call, lacks: 'Place' };
    }
    until = Math.min(until, end);
  }
  return { kind: 'Rest', until };
}
