import type { HoldClosure } from '../nodes/node-state.ts';
import { allocatedMilliCPU, type ReserveInput, requestedMilliCPU } from './decide-reserve.ts';
import type { ReserveView } from './hold-view.ts';

/** Milliseconds until CPU is asked for again that a kubelet did not have: nothing waits for CPU, and memory must not. */
const ASK_CPU_AGAIN_MS = 300_000;

const REPLACE_AFTER_MS = 10_000;
const MAX_REPLACE_AFTER_MS = 300_000;

/** Milliseconds for which the kubelet may refuse Pods of ours before the node gets no more workers. */
export const UNHELD_AFTER_MS = 30_000;

/** The reason for which a node is closed to new workers. */
export interface Closing {
  readonly closure: HoldClosure;
  /** Undefined where the controller that led before has found the closure. */
  readonly because: string | undefined;
}

/** How long something has been in its present state. */
export class StateAge {
  #state: string | undefined;
  #since = 0;

  /** Notes the state at a monotonic time. Returns whether another one was noted before, or none. */
  isNew(state: string, now: number): boolean {
    if (this.#state === state) {
      return false;
    }
    this.#state = state;
    this.#since = now;
    return true;
  }

  ms(now: number): number {
    return now - this.#since;
  }
}

/** The memory of one node between two looks. */
export interface NodeTrack {
  readonly guard: StateAge;
  /** Uids of the Pods of the reservation that have ended. */
  ended: ReadonlySet<string>;
  /** When (monotonic milliseconds) a Pod of the reservation was last found to have ended. */
  endedAt: number;
  /** How often Pods were found to have ended since all was held. */
  ends: number;
  /** Why the kubelet or the API server has last refused a Pod. */
  refusal: string | undefined;
  /** Whether less is wanted than the reservation asks for. */
  readonly lower: StateAge;
  /** Whether less CPU is wanted than the reservation asks for. */
  readonly lowerCPU: StateAge;
  /** Until when (monotonic milliseconds) no more CPU is asked for than the kubelet has given. */
  lacksCPUUntil: number;
  /** Until when (monotonic milliseconds) the node is about to have more for its workers than now. */
  growsUntil: number | undefined;
  /** MiB that the node could promise at the last look; before the first one no amount is more. */
  promiseMiB: number;
  /** When (monotonic milliseconds) the agent was last told that its workers may have more. */
  raisedAt: number;
  /** Until when (monotonic milliseconds) the memory is left to a Pod of higher priority. */
  yieldsUntil: number;
  /** Since when the kubelet has given less than is wanted, and no more than before. */
  unheldSince: number | undefined;
  /** Whether the node was cordoned, or about to leave, at some time while the guard was in its state. */
  wasClosed: boolean;
  closing: Closing | undefined;
}

/**
 * @param closure found by the controller that led before
 * @param unheldSince since when the node is unheld, if so
 * @param now monotonic milliseconds
 */
export function newTrack(
  closure: Closing['closure'] | undefined,
  unheldSince: number | undefined,
  now: number,
): NodeTrack {
  return {
    guard: new StateAge(),
    ended: new Set(),
    endedAt: Number.NEGATIVE_INFINITY,
    ends: 0,
    refusal: undefined,
    lower: new StateAge(),
    lowerCPU: new StateAge(),
    lacksCPUUntil: now,
    growsUntil: undefined,
    promiseMiB: Number.POSITIVE_INFINITY,
    raisedAt: now,
    yieldsUntil: now,
    unheldSince,
    wasClosed: false,
    closing: closure === undefined ? undefined : { closure, because: undefined },
  };
}

/**
 * Notes which Pods have ended, of the reservation and the guard. One that is removed makes those that are left no younger.
 */
export function noteEnded(track: NodeTrack, uids: readonly string[], guard: string | undefined, now: number): void {
  const isNew = (uid: string): boolean => !track.ended.has(uid);
  track.endedAt = uids.some(isNew) ? now : track.endedAt;
  const all = guard === undefined ? uids : [...uids, guard];
  track.ends += all.some(isNew) ? 1 : 0;
  track.ended = new Set(all);
}

/** Milliseconds after which Pods that have ended are made again: ever more seldom, as a kubelet restarts containers. */
export function replaceAfterMs({ ends }: NodeTrack): number {
  return Math.min(MAX_REPLACE_AFTER_MS, REPLACE_AFTER_MS * 2 ** Math.max(0, ends - 1));
}

/** The CPU to ask for: no more than the kubelet has given, for a while after it had too little. */
export function askCPU(
  track: NodeTrack,
  pods: readonly ReserveView[],
  wanted: number,
  now: number,
): {
  readonly input: Pick<ReserveInput, 'wantedMilliCPU' | 'lowerCPUForMs'>;
  readonly againAfterMs: number | undefined;
} {
  track.lacksCPUUntil = pods.some(({ lacksCPU }) => lacksCPU) ? now + ASK_CPU_AGAIN_MS : track.lacksCPUUntil;
  const given = allocatedMilliCPU(pods);
  const isLacking = track.lacksCPUUntil > now && wanted > given;
  const wantedMilliCPU = isLacking ? given : wanted;
  track.lowerCPU.isNew(String(requestedMilliCPU(pods) > wantedMilliCPU), now);
  return {
    input: { wantedMilliCPU, lowerCPUForMs: isLacking ? Number.POSITIVE_INFINITY : track.lowerCPU.ms(now) },
    againAfterMs: isLacking ? track.lacksCPUUntil - now : undefined,
  };
}

export interface ClosureInput {
  /** Why workers are to leave the node. */
  readonly draining: string | undefined;
  /** Why the kubelet or the API server has last refused a Pod of ours. */
  readonly refusal: string | undefined;
  /** Milliseconds since the first refusal; undefined where none was since both Pods were held. */
  readonly unheldForMs: number | undefined;
}

/** The consequence of the state of our Pods for new workers, and the milliseconds until that changes by itself. */
export function closureBy({ draining, refusal, unheldForMs }: ClosureInput): {
  readonly closing?: Closing;
  readonly againAfterMs?: number;
} {
  if (draining !== undefined) {
    return { closing: { closure: 'draining', because: draining } };
  }
  if (unheldForMs === undefined) {
    return {};
  }
  const left = UNHELD_AFTER_MS - unheldForMs;
  return left > 0 ? { againAfterMs: left } : { closing: { closure: 'unheld', because: refusal } };
}
