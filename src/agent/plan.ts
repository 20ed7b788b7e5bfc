import { unreachable } from '../common/errors.ts';
import type { Goal } from './goal.ts';

/** What is known of a worker's container. */
export type Observed =
  /** Something happened since it was last read. */
  | { readonly kind: 'Unknown' }
  /** No container. `traces`: what an earlier one or a start that failed wrote may still be there. */
  | { readonly kind: 'Missing'; readonly traces: boolean }
  /** A container whose process never ran: left by a crash. */
  | { readonly kind: 'Created' }
  | { readonly kind: 'Stopped' }
  | ({ readonly kind: 'Running' } & Living)
  | ({ readonly kind: 'Paused' } & Living);

interface Living {
  readonly shapeHash: string;
  /** False when it must not get another call: an abandoned call may still run in it, or nobody knows its address. */
  readonly usable: boolean;
  /** Whether it has been called since it was started. */
  readonly warm: boolean;
}

export type Action =
  | { readonly kind: 'Inspect' }
  | { readonly kind: 'Ensure' }
  | { readonly kind: 'WarmUp' }
  | { readonly kind: 'Pause' }
  | { readonly kind: 'Resume' }
  | { readonly kind: 'Destroy'; readonly why: 'Unwanted' | 'ShapeChanged' | 'Unusable' | 'HalfMade' };

/**
 * The one next step from what is to what should be; undefined when there is nothing to do.
 *
 * @param busy whether a call is in the worker: then almost everything waits for its end
 */
export function plan(goal: Goal, observed: Observed, busy: boolean): Action | undefined {
  const action = planIdle(goal, observed);
  if (!busy) {
    return action;
  }
  if (observed.kind === 'Paused') {
    // Somebody else froze it in the middle of the call.
    return { kind: 'Resume' };
  }
  return action?.kind === 'Inspect' ? action : undefined;
}

function planIdle(goal: Goal, observed: Observed): Action | undefined {
  switch (observed.kind) {
    case 'Unknown':
      return { kind: 'Inspect' };
    case 'Missing':
      if (isAlive(goal)) {
        return { kind: 'Ensure' };
      }
      return goal.kind === 'Gone' && observed.traces ? { kind: 'Destroy', why: 'Unwanted' } : undefined;
    case 'Created':
      return { kind: 'Destroy', why: isAlive(goal) ? 'HalfMade' : 'Unwanted' };
    case 'Stopped':
      return isAlive(goal) ? { kind: 'Ensure' } : { kind: 'Destroy', why: 'Unwanted' };
    case 'Running':
    case 'Paused':
      return planLiving(goal, observed);
    default:
      return unreachable(observed);
  }
}

type LivingGoal = Extract<Goal, { readonly kind: 'Paused' | 'Running' }>;

function isAlive(goal: Goal): goal is LivingGoal {
  switch (goal.kind) {
    case 'Gone':
    case 'Absent':
      return false;
    case 'Paused':
    case 'Running':
      return true;
    default:
      return unreachable(goal);
  }
}

function planLiving(
  goal: Goal,
  observed: Extract<Observed, { readonly kind: 'Running' | 'Paused' }>,
): Action | undefined {
  if (!isAlive(goal)) {
    return { kind: 'Destroy', why: 'Unwanted' };
  }
  if (observed.shapeHash !== goal.shapeHash) {
    return { kind: 'Destroy', why: 'ShapeChanged' };
  }
  if (!observed.usable) {
    return { kind: 'Destroy', why: 'Unusable' };
  }
  if (observed.kind === 'Paused') {
    return goal.kind === 'Running' ? { kind: 'Resume' } : undefined;
  }
  if (goal.warmUp && !observed.warm) {
    return { kind: 'WarmUp' };
  }
  return goal.kind === 'Paused' ? { kind: 'Pause' } : undefined;
}
