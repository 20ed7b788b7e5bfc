import type { DesiredWorker } from './desired-worker.ts';
import type { Rest } from './idle-policy.ts';

/** Where a worker is to be brought now. */
export type Goal =
  /** Nothing of it may be left: the resource is being deleted, or is no longer this node's. */
  { readonly kind: 'Gone' } | { readonly kind: 'Absent' } | LivingGoal;

/** A goal with a container. */
export interface LivingGoal {
  readonly kind: 'Paused' | 'Running';
  readonly shapeHash: string;
  /** Whether the container that calls go to is to be called once before it is ready. */
  readonly warmUp: boolean;
  /** Whether a container that is made ready while another one serves is to be called once before it is ready. */
  readonly warmUpBeside: boolean;
}

interface GoalInput {
  readonly desired: Pick<DesiredWorker, 'shapeHash' | 'deleting' | 'warmUpPayload'>;
  /** The resource, or its assignment to this node, is gone. */
  readonly released: boolean;
  /** The resting state, lowered by the idle policy. */
  readonly rest: Rest;
  /** Calls are in the worker or waiting for it. */
  readonly demand: boolean;
}

/** The higher of the resting state and present demand. */
export function goalOf(input: GoalInput): Goal {
  const { desired } = input;
  if (input.released || desired.deleting) {
    return { kind: 'Gone' };
  }
  const warmUpBeside = desired.warmUpPayload !== undefined;
  // A call that waits loads the function just as well.
  const warmUp = warmUpBeside && !input.demand;
  const shaped = { shapeHash: desired.shapeHash, warmUp, warmUpBeside };
  const kind = input.demand ? 'Running' : input.rest;
  return kind === 'Absent' ? { kind } : { kind, ...shaped };
}

/** Whether a call, or another sign of activity, may lift a worker out of where it rests. */
export function mayWake(wakePolicy: DesiredWorker['wakePolicy'], rest: Rest): boolean {
  return wakePolicy === 'OnInvoke' || rest === 'Running';
}
