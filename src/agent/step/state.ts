import { takenMiB } from '../../api/worker-resources.ts';
import type { Retries } from '../model/backoff.ts';
import type { DesiredWorker } from '../model/desired-worker.ts';
import { type Goal, goalOf, mayWake } from '../model/goal.ts';
import { type Rest, restNow, touched } from '../model/idle-policy.ts';
import type { Closing, InvocationResult } from '../model/invocation.ts';
import type { CallerCalls } from '../model/worker-state.ts';
import type { Call } from './call.ts';
import {
  type Container,
  capacityOf,
  isAlikeContainer,
  isOccupied,
  leftIn,
  observedOf,
  perWorkerOf,
  placesIn,
  takesSeveral,
} from './container.ts';
import type { Effect, RecordChange } from './effects.ts';
import type { Place, Resolution, WorkerState } from './knowledge.ts';
import type { Moment } from './moment.ts';

export type { Place, QueueLimits, WorkerState } from './knowledge.ts';
export type { Moment, NodeAmounts, NodeFacts } from './moment.ts';

/** The longest timeout that a resource may ask for. */
export const longestTimeoutSeconds = 900;

export function isEnding({ desired, released }: WorkerState): boolean {
  return released || desired.deleting;
}

/** Calls that wait or run. */
export function demandOf({ places, waiting }: WorkerState): number {
  return waiting.length + places.length;
}

/** Calls in the worker, with those that an earlier run of the agent has left. */
export function inFlightOf(state: WorkerState): number {
  let left = leftIn(state.present);
  for (const other of state.others) {
    left += leftIn(other);
  }
  return demandOf(state) + left;
}

/** Calls of each caller that has a name. */
export function callersOf(state: WorkerState): ReadonlyMap<string, CallerCalls> {
  const { places, waiting } = state;
  const callers = new Map<string, CallerCalls>();
  let free = placesOf(state) - (inFlightOf(state) - waiting.length);
  const add = ({ caller }: Call, isPlaced: boolean): void => {
    if (caller !== undefined) {
      const { inFlight, placed } = callers.get(caller) ?? { inFlight: 0, placed: 0 };
      callers.set(caller, { inFlight: inFlight + 1, placed: placed + (isPlaced ? 1 : 0) });
    }
  };
  for (const { call } of places) {
    add(call, true);
  }
  for (const call of waiting) {
    add(call, free > 0);
    free -= 1;
  }
  return callers;
}

/** Calls that the worker takes at once; one at least. */
export function placesOf({ desired, present }: WorkerState): number {
  const { kind } = observedOf(present);
  const isThere = kind === 'Running' || kind === 'Paused';
  const places = isThere ? capacityOf(present) : (desired.perWorker ?? 1);
  return Math.max(1, desired.share === undefined ? places : Math.min(desired.share, places));
}

/** The image of a worker with all that decides whether the image can be had. */
export function imageKeyOf({ image, imagePullPolicy, imagePullSecrets }: DesiredWorker): string {
  return [imagePullPolicy, image, ...imagePullSecrets].join(' ');
}

/** Resolution of the image that the worker asks for now; undefined if the registry was not asked. */
export function resolutionOf({ desired, resolution }: WorkerState): Resolution | undefined {
  return resolution?.image === imageKeyOf(desired) ? resolution : undefined;
}

/** Where the worker rests now. */
export function restOf({ desired, foundPaused, idle }: WorkerState, now: number): Rest {
  const rest = now < idle.since + idle.runsMs ? 'Running' : restNow(idle, desired, now).state;
  return foundPaused && rest === 'Running' ? 'Paused' : rest;
}

/** Monotonic milliseconds at which the time alone changes where the worker rests; infinite for never. */
export function restsUntil({ desired, idle }: WorkerState, now: number): number {
  const runsUntil = idle.since + idle.runsMs;
  return now < runsUntil ? runsUntil : now + (restNow(idle, desired, now).changesInMs ?? Number.POSITIVE_INFINITY);
}

export function goalAt(state: WorkerState, now: number): Goal {
  return goalOf({
    desired: state.desired,
    released: state.released,
    rest: restOf(state, now),
    demand: demandOf(state) > 0,
  });
}

export function isCallable(state: WorkerState, goal: Goal, rest: Rest): boolean {
  return goal.kind !== 'Gone' && state.life === 'Serving' && mayWake(state.desired.wakePolicy, rest);
}

/** Whether a call in that container is to be waited for. */
export function isBusy(state: WorkerState, { make }: Container, now: number): boolean {
  const { grace } = state;
  return callsIn(state, make.id) > 0 && (grace === undefined || now < grace.until);
}

/** Calls of this run of the agent that are in a container. */
export function callsIn({ places }: WorkerState, containerId: string): number {
  let count = 0;
  for (const place of places) {
    count += place.containerId === containerId ? 1 : 0;
  }
  return count;
}

/** Whether the present container has a place for another call. */
export function hasFreePlace(state: WorkerState): boolean {
  const { present } = state;
  return callsIn(state, present.make.id) < placesIn(present);
}

/** Whether the present container is of another shape than is wanted. */
export function isOutdated({ desired, present }: WorkerState): boolean {
  return present.make.shapeHash !== desired.shapeHash;
}

/** Whether another container is to take the place of the present one. */
export function isReplaced(state: WorkerState): boolean {
  return isOutdated(state) || isWorn(state, state.present);
}

/**
 * Whether a container that takes several calls is to be replaced by another of its shape: calls whose time is over hold
 * half of its places or more, or it must get no more calls while some go on in it.
 */
export function isWorn(state: WorkerState, container: Container): boolean {
  const { init, make, process, unusable } = container;
  const isHeld =
    process.ready && init.kind === 'Connected' && init.held * 2 >= Math.min(init.places, perWorkerOf(container));
  return takesSeveral(container) && (isHeld || (unusable !== undefined && callsIn(state, make.id) > 0));
}

export function containersOf({ others, present }: WorkerState): readonly Container[] {
  return others.length === 0 ? [present] : [present, ...others];
}

/** Whether a container is all that is there of the worker. */
export function hasOnly({ listing, others, present }: WorkerState, containerId: string): boolean {
  return listing.kind === 'Complete' && others.length === 0 && present.make.id === containerId;
}

export function findContainer(state: WorkerState, containerId: string): Container | undefined {
  return state.present.make.id === containerId
    ? state.present
    : state.others.find(({ make }) => make.id === containerId);
}

/** Whether calls go to that container. */
export function serves({ present }: WorkerState, { make }: Container): boolean {
  return present.make.id === make.id;
}

/** Whether a call waits for what is being done to that container. */
export function isUrgent(state: WorkerState, container: Container): boolean {
  return state.waiting.length > 0 && serves(state, container);
}

/** Whether a call is in that container, of this run of the agent or an earlier one. */
export function isInUse(state: WorkerState, container: Container): boolean {
  return callsIn(state, container.make.id) > 0 || isOccupied(container);
}

/** Whether what became of the worker is not shown yet, so that the answer of the call that woke it comes first. */
export function isQuiet({ quietUntil }: WorkerState, now: number): boolean {
  return now < quietUntil;
}

/**
 * Whether two states of a worker that is in use look the same but for the number of calls, without a closer look: the
 * next call of a worker that runs anyway changes nothing else.
 */
export function isAlike(one: WorkerState, other: WorkerState): boolean {
  return (
    isAlikeContainer(one.present, other.present) &&
    one.others === other.others &&
    one.desired === other.desired &&
    one.life === other.life &&
    !other.released &&
    !other.desired.deleting &&
    one.savedRest === 'Running' &&
    other.savedRest === 'Running' &&
    one.idle.lifted &&
    other.idle.lifted &&
    other.present.sight.info?.task.kind === 'Running' &&
    one.nodeFull === other.nodeFull &&
    one.noRoomBeside === other.noRoomBeside
  );
}

/** Why no call can be let in, whichever it is. */
export function closingOf(state: WorkerState): Closing | undefined {
  if (state.life !== 'Serving') {
    return ['Unavailable', 'the agent is stopping'];
  }
  return isEnding(state) ? ['NotFound', 'the worker is being removed'] : undefined;
}

/** Wall-clock milliseconds at which the calls that are in its containers are over at the latest; undefined for none. */
export function callUntilOf(state: WorkerState): number | undefined {
  const { grace, places } = state;
  let until = places.reduce<number | undefined>(
    (latest, place) => Math.max(latest ?? place.until, place.until),
    undefined,
  );
  for (const container of containersOf(state)) {
    const { activity, left } = container;
    const warmUp = activity.kind === 'Acting' ? activity.call : undefined;
    const call = isOccupied(container) ? left : warmUp;
    until = call === undefined ? until : Math.max(until ?? call.until, call.until);
  }
  return until === undefined ? undefined : Math.min(until, grace?.wall ?? Number.POSITIVE_INFINITY);
}

/** A state on its way to the next one, and what it asks to be done. Lives within one call of `reduce` or `decide`. */
export class Draft {
  state: WorkerState;
  readonly effects: Effect[] = [];
  readonly at: Moment;

  constructor(state: WorkerState, at: Moment) {
    this.state = state;
    this.at = at;
  }

  set(change: Partial<WorkerState>): void {
    this.state = { ...this.state, ...change };
  }

  emit(effect: Effect): void {
    this.effects.push(effect);
  }

  /** Puts a container in the place of the one of its id. */
  put(container: Container): void {
    const { others, present } = this.state;
    const { id } = container.make;
    if (present.make.id === id) {
      this.set({ present: container });
    } else {
      this.set({ others: others.map((other) => (other.make.id === id ? container : other)) });
    }
  }

  /** Changes the container of that id, where there is one. */
  change(containerId: string, change: (container: Container) => Container): void {
    const container = findContainer(this.state, containerId);
    if (container !== undefined) {
      const next = change(container);
      if (next !== container) {
        this.put(next);
      }
    }
  }

  changeAll(change: (container: Container) => Container): void {
    const { others, present } = this.state;
    this.set({ present: change(present), others: others.map(change) });
  }

  changeRetries(containerId: string, change: (retries: Retries) => Retries): void {
    this.change(containerId, (container) => {
      const retries = change(container.retries);
      return retries === container.retries ? container : { ...container, retries };
    });
  }

  /** The record is to be saved. */
  save(change: RecordChange = 'Any'): void {
    this.set({ unsaved: change === 'Any' || this.state.unsaved === 'Any' ? 'Any' : 'Rest' });
  }

  /** Ends the quiet time: the new state of the worker is shown at once. */
  show(): void {
    if (this.state.quietUntil > this.at.now) {
      this.set({ quietUntil: Number.NEGATIVE_INFINITY });
    }
  }

  /** The worker was active just now; `change` comes with that. */
  touch(change: Partial<WorkerState> = {}): void {
    const { desired, idle } = this.state;
    const { now } = this.at;
    this.set({
      ...change,
      foundPaused: false,
      idle: idle.lifted ? { ...idle, since: now } : touched(desired, now),
    });
  }

  /** The places that are taken once that call has left its own. */
  placesWithout({ id }: Pick<Call, 'id'>): readonly Place[] {
    return this.state.places.filter(({ call }) => call.id !== id);
  }

  answer(id: number, result: InvocationResult): void {
    this.emit({ kind: 'Answer', id, result });
  }

  refuse(call: Pick<Call, 'id'>, [reason, message, fault]: Closing): void {
    this.answer(call.id, { kind: 'Refused', reason, message, ...(fault && { fault }) });
  }

  /** Refuses the calls that wait and of which `condition` holds. */
  refuseWhere(condition: (call: Call) => boolean, ...[reason, message, fault]: Closing): void {
    const refused = this.state.waiting.filter(condition);
    if (refused.length > 0) {
      this.set({
        waiting: this.state.waiting.filter((call) => !condition(call)),
        waitingBytes: this.state.waitingBytes - refused.reduce((sum, { bytes }) => sum + bytes, 0),
      });
      for (const call of refused) {
        this.refuse(call, [reason, message, fault]);
      }
    }
    if (reason !== 'Fenced' && reason !== 'Unavailable') {
      this.emit({ kind: 'Reject', reason, message });
    }
  }

  /** Why the node has no room for a container as the resource wants it. */
  noRoom(): string {
    const { allocated, limits, tmpOnDisk } = this.at.node;
    const { ephemeralStorageMiB, memoryMiB } = this.state.desired;
    const tmp = tmpOnDisk ? '' : ` and ${ephemeralStorageMiB} MiB of /tmp`;
    return `no room for ${memoryMiB} MiB of memory${tmp}: ${allocated.memoryMiB} of ${limits.memoryMiB} MiB and ${allocated.workers} of ${limits.workers} workers are taken`;
  }

  /** Whether a container as the resource wants it has room, those not counted that this step gives back. */
  fits(containerId: string): boolean {
    return this.at.node.fits(containerId, takenMiB(this.state.desired, this.at.node.tmpOnDisk), this.given());
  }

  /** Containers whose share this step gives back. */
  given(): readonly string[] {
    return this.effects.flatMap((effect) =>
      effect.kind === 'Free' || effect.kind === 'Drop' ? [effect.containerId] : [],
    );
  }
}
