import { unreachable } from '../../common/errors.ts';
import type { Goal, LivingGoal } from './goal.ts';

/** Observation of one container of a worker. */
export type Observed =
  /** Something happened since it was last read. */
  | {
      readonly kind: 'Unknown';
      /**
       * Cause of a look without an answer: a silent shim, or one that is silent for so long that the container is given
       * up.
       */
      readonly doubt?: 'Unanswering' | 'Lost';
    }
  /** No container. `traces`: what an earlier one or a start that failed wrote may still be there. */
  | { readonly kind: 'Missing'; readonly traces: boolean }
  /** A container whose process never ran: left by a crash. */
  | { readonly kind: 'Created' }
  | { readonly kind: 'Stopped' }
  | LivingState;

interface LivingState {
  readonly kind: 'Running' | 'Paused';
  /** False when it must not get another call: an abandoned call may still run in it, or no way to it is known. */
  readonly usable: boolean;
  /** Whether it was seen ready for calls, by this run of the agent or one before. */
  readonly ready: boolean;
  /** Whether it has been called since it was started. */
  readonly warm: boolean;
  /**
   * Stand by its init; absent where nothing stands against a freeze. `Awaited`: the init is not connected yet, and a
   * call may be in it, also where it is frozen. `Unready`: it takes no call. `Busy`: it takes calls, and the runtime or
   * an extension does not wait for one yet.
   */
  readonly init?: 'Awaited' | 'Unready' | 'Busy' | undefined;
}

export interface ObservedContainer {
  /** Hash of the shape that it is made of, or would be. */
  readonly shapeHash: string;
  readonly state: Observed;
  /** Whether a call that an earlier run of the agent has left is in it: until that is over nothing touches it. */
  readonly occupied: boolean;
}

/** How a container of an earlier shape is to be replaced, or one that is occupied while calls wait. */
export type Manner =
  /** The new one is made ready while the old one serves. */
  | 'Beside'
  /** The old one is removed first: there is no room for both, or they cannot be told apart from outside. */
  | 'InPlace'
  /** Not now: others have their turn, or the new one would find no room at all. The old one serves. */
  | 'Later';

/** Everything of one worker on this node. */
export interface Situation {
  /** The one that calls go to. */
  readonly present: ObservedContainer;
  /** A successor that is made ready, what was replaced and is to go, and what is occupied. */
  readonly others: readonly ObservedContainer[];
  /** Whether a call is in the present one: then almost everything that would touch it waits for its end. */
  readonly busy: boolean;
  /** Whether the present one takes several calls at once: it may be called at every moment. */
  readonly several: boolean;
  readonly manner: Manner;
}

export type Action =
  | { readonly kind: 'Inspect' }
  | { readonly kind: 'Ensure' }
  | { readonly kind: 'WarmUp' }
  | { readonly kind: 'Pause' }
  | { readonly kind: 'Resume' }
  | DestroyAction;

export interface DestroyAction {
  readonly kind: 'Destroy';
  readonly why: 'Unwanted' | 'ShapeChanged' | 'Replaced' | 'Unusable' | 'HalfMade';
}

/** A change of which containers a worker is taken to have. Made at once, without a word to the runtime. */
export type Rearrangement =
  /** Another one takes the place of the present one, which is from then on among the others. */
  | { readonly kind: 'Exchange'; readonly index: number }
  /** A new one of the present shape takes the place of the present one; nothing of it is there yet. */
  | { readonly kind: 'Renew' }
  /** One of the present shape is made beside the present one; nothing of it is there yet. */
  | { readonly kind: 'Begin' }
  /** Nothing is left of one of the others. */
  | { readonly kind: 'Drop'; readonly index: number };

export type Plan =
  | { readonly kind: 'Rearrange'; readonly rearrangement: Rearrangement }
  /** The next action for each container, undefined where there is nothing to do. */
  | {
      readonly kind: 'Act';
      readonly present: Action | undefined;
      readonly others: readonly (Action | undefined)[];
      /** Removal of the present one for which it is to get no more calls; undefined for none. */
      readonly drain: DestroyAction | undefined;
    };

/** The next step from what is to what should be. */
export function plan(goal: Goal, situation: Situation): Plan {
  const rearrangement = rearrange(goal, situation);
  if (rearrangement !== undefined) {
    return { kind: 'Rearrange', rearrangement };
  }
  const action = planAlone(goal, situation);
  return {
    kind: 'Act',
    present: planPresent(action, situation),
    others: situation.others.map((other) => planOther(goal, situation, other)),
    drain: situation.several && situation.busy && action?.kind === 'Destroy' ? action : undefined,
  };
}

function rearrange(goal: Goal, situation: Situation): Rearrangement | undefined {
  const { others, present } = situation;
  const successor = others.findIndex((other) => isSuccessor(goal, present, other));
  const done = others.findIndex(({ state }, index) => index !== successor && state.kind === 'Missing' && !state.traces);
  if (done >= 0) {
    return { kind: 'Drop', index: done };
  }
  if (!isAlive(goal)) {
    return undefined;
  }
  return present.shapeHash === goal.shapeHash
    ? rearrangeCurrent(goal, situation)
    : rearrangeOutdated(goal, situation, successor);
}

/** The present container is of the shape that is wanted. */
function rearrangeCurrent(goal: LivingGoal, { busy, manner, others, present }: Situation): Rearrangement | undefined {
  const { occupied, state } = present;
  // A call in an unobservable container goes on all the same, and other calls need not wait for it.
  const lost = occupied && state.kind === 'Unknown' && state.doubt === 'Lost';
  const alive = lost || isLiving(state);
  if (busy || (state.kind === 'Unknown' && !lost) || (alive && !occupied)) {
    return undefined;
  }
  // The container serves no call, or not yet. One that was occupied may serve again.
  const free = others.findIndex(
    (other) => !other.occupied && other.shapeHash === goal.shapeHash && isLiving(other.state) && isOfUse(other.state),
  );
  if (free >= 0) {
    return { kind: 'Exchange', index: free };
  }
  return alive && manner === 'Beside' ? { kind: 'Renew' } : undefined;
}

/** @param successor index of the one of the wanted shape; negative for none */
function rearrangeOutdated(
  goal: LivingGoal,
  { busy, manner, others, present, several }: Situation,
  successor: number,
): Rearrangement | undefined {
  const { state } = present;
  switch (state.kind) {
    case 'Unknown':
      // One that is given up takes no calls any more, and may be long in going.
      return state.doubt === 'Lost' && successor >= 0 && !busy ? { kind: 'Exchange', index: successor } : undefined;
    case 'Missing':
    case 'Created':
    case 'Stopped':
      if (busy) {
        // The call that was in it is about to be told.
        return undefined;
      }
      // The container serves no call: nothing is lost, even if its successor fails.
      return successor >= 0 ? { kind: 'Exchange', index: successor } : { kind: 'Renew' };
    case 'Running':
    case 'Paused':
      if (successor >= 0) {
        const next = others[successor]?.state;
        const due = !isOfUse(state) || (next !== undefined && isReplacement(goal, next));
        // Calls in one that takes several go on beside its successor: it may never be without one.
        return due && (!busy || several) ? { kind: 'Exchange', index: successor } : undefined;
      }
      // One that is of no use and has no call in it is removed first.
      return (isOfUse(state) || (several && busy)) && manner === 'Beside' ? { kind: 'Begin' } : undefined;
    default:
      return unreachable(state);
  }
}

function isSuccessor(goal: Goal, present: ObservedContainer, other: ObservedContainer): boolean {
  return isAlive(goal) && present.shapeHash !== goal.shapeHash && other.shapeHash === goal.shapeHash && !other.occupied;
}

function isLiving(state: Observed): state is LivingState {
  return state.kind === 'Running' || state.kind === 'Paused';
}

/** Whether calls may go to it once it runs. */
function isOfUse(state: LivingState): boolean {
  // Nothing is frozen by us before it is ready.
  return state.usable && (state.ready || state.kind === 'Paused');
}

/** Whether it has to be heard of first: a call may be in it. */
function isAwaited(state: LivingState): boolean {
  return state.usable && state.init === 'Awaited';
}

/** Lets the init of such a one connect, which a frozen one cannot. */
function connect(state: LivingState): Action | undefined {
  return state.kind === 'Paused' ? { kind: 'Resume' } : undefined;
}

/** Whether it takes calls as soon as it runs. */
function isReady({ init, kind }: LivingState): boolean {
  return kind === 'Paused' || init === undefined || init === 'Busy';
}

/** Whether a successor is all that the present one should be. */
function isReplacement(goal: LivingGoal, state: Observed): boolean {
  return (
    state.kind === goal.kind &&
    isOfUse(state) &&
    isReady(state) &&
    (state.warm || !goal.warmUpBeside || state.kind === 'Paused')
  );
}

/** Action on the present container as if no call was in it. */
function planAlone(goal: Goal, situation: Situation): Action | undefined {
  const { present } = situation;
  const outdated = isAlive(goal) && present.shapeHash !== goal.shapeHash;
  return outdated ? planOutdated(goal, situation) : planOne(goal, present.state, isAlive(goal) && goal.warmUp);
}

function planPresent(action: Action | undefined, { busy, present }: Situation): Action | undefined {
  if (!busy && !present.occupied) {
    return action;
  }
  if (busy && present.state.kind === 'Paused') {
    // Somebody else froze it in the middle of the call.
    return { kind: 'Resume' };
  }
  return action?.kind === 'Inspect' ? action : undefined;
}

/** The present container is of an earlier shape: it serves until its successor is ready, or there is none to be. */
function planOutdated(goal: LivingGoal, situation: Situation): Action | undefined {
  const { manner, present } = situation;
  const { state } = present;
  switch (state.kind) {
    case 'Unknown':
      return planUnknown(state, true);
    case 'Missing':
    case 'Created':
    case 'Stopped':
      // The container is not to be made again: its successor takes its place when no call is in it any more.
      return undefined;
    case 'Running':
    case 'Paused':
      if (isAwaited(state) && (state.kind === 'Running' || manner === 'InPlace')) {
        return connect(state);
      }
      if (!isOfUse(state)) {
        return { kind: 'Destroy', why: 'Unusable' };
      }
      return manner === 'InPlace' ? { kind: 'Destroy', why: 'ShapeChanged' } : planLiving(goal, state, false);
    default:
      return unreachable(state);
  }
}

function planOther(goal: Goal, situation: Situation, other: ObservedContainer): Action | undefined {
  const { manner, present } = situation;
  const { state } = other;
  if (other.occupied) {
    return state.kind === 'Unknown' ? { kind: 'Inspect' } : undefined;
  }
  if (!isSuccessor(goal, present, other)) {
    if (state.kind === 'Unknown') {
      return planUnknown(state, false);
    }
    if (state.kind === 'Missing') {
      return state.traces ? { kind: 'Destroy', why: 'Unwanted' } : undefined;
    }
    if (isLiving(state) && isAwaited(state)) {
      return connect(state);
    }
    return { kind: 'Destroy', why: isAlive(goal) ? 'Replaced' : 'Unwanted' };
  }
  const action = planOne(goal, state, isAlive(goal) && goal.warmUpBeside);
  return action?.kind === 'Ensure' && manner !== 'Beside' ? undefined : action;
}

/** Action that leads one container of the present shape to the goal. */
function planOne(goal: Goal, state: Observed, warmUp: boolean): Action | undefined {
  switch (state.kind) {
    case 'Unknown':
      return planUnknown(state, isAlive(goal));
    case 'Missing':
      if (isAlive(goal)) {
        return { kind: 'Ensure' };
      }
      return goal.kind === 'Gone' && state.traces ? { kind: 'Destroy', why: 'Unwanted' } : undefined;
    case 'Created':
      return { kind: 'Destroy', why: isAlive(goal) ? 'HalfMade' : 'Unwanted' };
    case 'Stopped':
      return isAlive(goal) ? { kind: 'Ensure' } : { kind: 'Destroy', why: 'Unwanted' };
    case 'Running':
    case 'Paused':
      return planLiving(goal, state, warmUp);
    default:
      return unreachable(state);
  }
}

/** @param wanted whether the container is to be there */
function planUnknown({ doubt }: Extract<Observed, { readonly kind: 'Unknown' }>, wanted: boolean): Action {
  if (doubt === 'Lost') {
    return { kind: 'Destroy', why: wanted ? 'Unusable' : 'Unwanted' };
  }
  // Nothing is lost by the removal of what is to go, and a removal ends a shim that hangs.
  return doubt === 'Unanswering' && !wanted ? { kind: 'Destroy', why: 'Unwanted' } : { kind: 'Inspect' };
}

function planLiving(goal: Goal, state: LivingState, warmUp: boolean): Action | undefined {
  if (isAwaited(state) && (state.kind === 'Running' || !isAlive(goal))) {
    return connect(state);
  }
  if (!isAlive(goal)) {
    return { kind: 'Destroy', why: 'Unwanted' };
  }
  if (!state.usable) {
    return { kind: 'Destroy', why: 'Unusable' };
  }
  if (state.kind === 'Paused') {
    // Its init has said that it is not idle while it was being frozen, or somebody else froze it.
    const isFrozenAtWork = state.init === 'Busy' || state.init === 'Unready';
    return goal.kind === 'Running' || isFrozenAtWork ? { kind: 'Resume' } : undefined;
  }
  if (!state.ready) {
    // An agent that died while it made it did not get to see its port open.
    return { kind: 'Ensure' };
  }
  if (warmUp && !state.warm) {
    return isReady(state) ? { kind: 'WarmUp' } : undefined;
  }
  return goal.kind === 'Paused' && state.init === undefined ? { kind: 'Pause' } : undefined;
}

/** Whether nothing is lost by waiting with a removal: the container could serve on. */
export function isOptional({ why }: DestroyAction): boolean {
  return why === 'Unwanted' || why === 'ShapeChanged';
}

/** Whether a goal has a container. */
export function isAlive(goal: Goal): goal is LivingGoal {
  return goal.kind === 'Paused' || goal.kind === 'Running';
}
