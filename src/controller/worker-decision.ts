import {
  type ConditionDraft,
  findCondition,
  isTrue,
  readyReasons,
  scheduledReasons,
  workerConditions,
} from '../api/condition.ts';
import { type Assignment, type LambdaWorker, WORKER_FINALIZER } from '../api/lambda-worker.ts';
import { unreachable } from '../common/errors.ts';
import type { Liveness } from './liveness.ts';
import type { Placement } from './placement.ts';

/** What is known of the node that a worker is assigned to. */
export interface NodeStanding {
  readonly liveness: Liveness;
  /** Why the node will never come back, as a clause ("its LambdaNode was deleted"); absent while it may. */
  readonly goneBecause?: string;
}

export interface DecisionInput {
  readonly worker: LambdaWorker;
  /** The assigned node; looked at only when there is an assignment. */
  readonly standing: NodeStanding;
  /** Chooses a node for the worker, other than `exclude`. */
  readonly place: (exclude?: string) => Placement;
  /** Whether the loss of its present node has already been written to this worker. */
  readonly isLossTold: boolean;
  /** Whether the worker may be moved away from a full node now, or was moved too short a time ago. */
  readonly mayLeaveFullNode: boolean;
}

/** Why the worker is written to; each has its Event and its metric. */
export type WriteCause = 'assigned' | 'moved' | 'refused' | 'lost' | 'told';

/** What of the status the controller is to own after the write. */
export interface StatusDraft {
  readonly assignment?: Assignment;
  readonly scheduled: ConditionDraft;
  /** Only when the node was lost or has been left. */
  readonly ready?: ConditionDraft;
  readonly phase?: 'Unknown';
}

export type WorkerDecision =
  | { readonly kind: 'nothing' }
  /** Written before any assignment, so that no worker with an assignment can go without its node's clean-up. */
  | { readonly kind: 'addFinalizer' }
  | { readonly kind: 'removeFinalizer'; readonly because: string; readonly isNodeGone: boolean }
  | {
      readonly kind: 'write';
      readonly cause: WriteCause;
      readonly status: StatusDraft;
      /** For the Event. */
      readonly note: string;
      /** Set when the decision rests on this node being gone for good. */
      readonly goneNode?: string;
    };

/** Why an assigned worker should be elsewhere. */
type Trouble =
  | { readonly kind: 'gone'; readonly because: string }
  | { readonly kind: 'lost' }
  | { readonly kind: 'full' }
  | { readonly kind: 'pinnedElsewhere'; readonly nodeName: string };

const nothing: WorkerDecision = { kind: 'nothing' };

function hasFinalizer(worker: LambdaWorker): boolean {
  return worker.metadata.finalizers?.includes(WORKER_FINALIZER) === true;
}

function draft(
  worker: LambdaWorker,
  type: string,
  status: ConditionDraft['status'],
  reason: string,
  message: string,
): ConditionDraft {
  const { generation } = worker.metadata;
  return {
    type,
    status,
    reason,
    message,
    ...(generation === undefined ? {} : { observedGeneration: generation }),
  };
}

function assignedTo(worker: LambdaWorker, nodeName: string): ConditionDraft {
  return draft(
    worker,
    workerConditions.scheduled,
    'True',
    scheduledReasons.assigned,
    `assigned to node ${nodeName}`,
  );
}

/**
 * Whether the condition says what it would say after the write. The generation is left out: a change of the spec that
 * does not change the answer is no reason to write.
 */
function says(worker: LambdaWorker, wanted: ConditionDraft): boolean {
  const found = findCondition(worker.status?.conditions, wanted.type);
  return (
    found?.status === wanted.status && found.reason === wanted.reason && found.message === wanted.message
  );
}

/** Whether its agent says that it cannot be woken for want of room. */
export function isRefusedByFullNode(worker: LambdaWorker): boolean {
  const ready = findCondition(worker.status?.conditions, workerConditions.ready);
  return ready?.status === 'False' && ready.reason === readyReasons.nodeFull;
}

function troubleOf({ worker, standing }: DecisionInput, assignment: Assignment): Trouble | undefined {
  if (standing.goneBecause !== undefined) {
    return { kind: 'gone', because: standing.goneBecause };
  }
  if (standing.liveness === 'lost') {
    return { kind: 'lost' };
  }
  const { nodeName } = worker.spec;
  if (nodeName !== undefined && nodeName !== assignment.nodeName) {
    return { kind: 'pinnedElsewhere', nodeName };
  }
  if (nodeName === undefined && isRefusedByFullNode(worker)) {
    return { kind: 'full' };
  }
  return undefined;
}

function assignFirst(input: DecisionInput): WorkerDecision {
  const { worker } = input;
  const placement = input.place();
  if (placement.kind === 'refused') {
    const scheduled = draft(worker, workerConditions.scheduled, 'False', placement.reason, placement.message);
    return says(worker, scheduled)
      ? nothing
      : { kind: 'write', cause: 'refused', status: { scheduled }, note: placement.message };
  }
  if (!hasFinalizer(worker)) {
    return { kind: 'addFinalizer' };
  }
  const { nodeName } = placement;
  return {
    kind: 'write',
    cause: 'assigned',
    status: { assignment: { nodeName, epoch: 1 }, scheduled: assignedTo(worker, nodeName) },
    note: `assigned to node ${nodeName}`,
  };
}

function why(trouble: Trouble, from: string): string {
  switch (trouble.kind) {
    case 'gone':
      return `${from} is gone for good: ${trouble.because}`;
    case 'lost':
      return `nothing has been heard of ${from}`;
    case 'full':
      return `${from} has no room for it`;
    case 'pinnedElsewhere':
      return `spec.nodeName is ${trouble.nodeName}`;
    default:
      return unreachable(trouble);
  }
}

function move(
  worker: LambdaWorker,
  assignment: Assignment,
  trouble: Trouble,
  nodeName: string,
): WorkerDecision {
  if (!hasFinalizer(worker)) {
    return { kind: 'addFinalizer' };
  }
  const note = `moved from node ${assignment.nodeName} to node ${nodeName}, since ${why(trouble, assignment.nodeName)}`;
  return {
    kind: 'write',
    cause: 'moved',
    status: {
      assignment: { nodeName, epoch: assignment.epoch + 1 },
      scheduled: assignedTo(worker, nodeName),
      // What the last node said no longer holds, and the next has not spoken yet.
      ready: draft(worker, workerConditions.ready, 'Unknown', readyReasons.reassigned, note),
      phase: 'Unknown',
    },
    note,
    ...(trouble.kind === 'gone' ? { goneNode: assignment.nodeName } : {}),
  };
}

/** The worker keeps its assignment to a node of which nothing is heard. */
function tellLoss(
  input: DecisionInput,
  assignment: Assignment,
  message: string,
  scheduled: ConditionDraft,
): WorkerDecision {
  const { worker } = input;
  const ready = draft(worker, workerConditions.ready, 'Unknown', readyReasons.nodeLost, message);
  const isTold = (says(worker, ready) && worker.status?.phase === 'Unknown') || input.isLossTold;
  if (isTold && says(worker, scheduled)) {
    return nothing;
  }
  return {
    kind: 'write',
    cause: 'lost',
    status: { assignment, scheduled, ready, phase: 'Unknown' },
    note: message,
  };
}

function stay(
  input: DecisionInput,
  assignment: Assignment,
  trouble: Trouble,
  refusal: Placement & { readonly kind: 'refused' },
): WorkerDecision {
  const { worker } = input;
  const keeps = assignedTo(worker, assignment.nodeName);
  switch (trouble.kind) {
    case 'gone':
      return tellLoss(
        input,
        assignment,
        why(trouble, assignment.nodeName),
        draft(worker, workerConditions.scheduled, 'False', refusal.reason, refusal.message),
      );
    case 'lost':
      return tellLoss(
        input,
        assignment,
        `${why(trouble, assignment.nodeName)}, and it cannot be moved: ${refusal.message}`,
        keeps,
      );
    case 'pinnedElsewhere':
      return tell(
        worker,
        assignment,
        draft(
          worker,
          workerConditions.scheduled,
          'False',
          refusal.reason,
          `${refusal.message}; it stays on node ${assignment.nodeName} until then`,
        ),
      );
    case 'full':
      // Its agent has said so in Ready.
      return tell(worker, assignment, keeps);
    default:
      return unreachable(trouble);
  }
}

function tell(worker: LambdaWorker, assignment: Assignment, scheduled: ConditionDraft): WorkerDecision {
  return says(worker, scheduled)
    ? nothing
    : { kind: 'write', cause: 'told', status: { assignment, scheduled }, note: scheduled.message };
}

function decideDeleting(input: DecisionInput): WorkerDecision {
  const { worker, standing } = input;
  const assignment = worker.status?.assignment;
  if (!hasFinalizer(worker)) {
    return nothing;
  }
  if (assignment === undefined) {
    return { kind: 'removeFinalizer', because: 'it was never assigned', isNodeGone: false };
  }
  if (isTrue(worker.status?.conditions, workerConditions.cleanedUp)) {
    return { kind: 'removeFinalizer', because: 'its node has cleaned up', isNodeGone: false };
  }
  if (standing.goneBecause !== undefined) {
    return { kind: 'removeFinalizer', because: standing.goneBecause, isNodeGone: true };
  }
  if (standing.liveness === 'lost') {
    const message = `nothing has been heard of ${assignment.nodeName}; the worker is removed once that node has cleaned up, or its LambdaNode or Node is deleted`;
    const scheduled = findCondition(worker.status?.conditions, workerConditions.scheduled);
    return tellLoss(input, assignment, message, scheduled ?? assignedTo(worker, assignment.nodeName));
  }
  return nothing;
}

/**
 * What the controller is to do about one worker: one step; after it is done and seen, the next is asked for. An answer
 * of `nothing` is given again and again for the same input, so that a steady state has no writes.
 */
export function decide(input: DecisionInput): WorkerDecision {
  const { worker } = input;
  if (worker.metadata.deletionTimestamp !== undefined) {
    return decideDeleting(input);
  }
  const assignment = worker.status?.assignment;
  if (assignment === undefined) {
    return assignFirst(input);
  }
  const trouble = troubleOf(input, assignment);
  if (trouble === undefined) {
    return hasFinalizer(worker)
      ? tell(worker, assignment, assignedTo(worker, assignment.nodeName))
      : { kind: 'addFinalizer' };
  }
  if (trouble.kind === 'full' && !input.mayLeaveFullNode) {
    return nothing;
  }
  const placement = input.place(trouble.kind === 'pinnedElsewhere' ? undefined : assignment.nodeName);
  if (placement.kind === 'refused') {
    return stay(input, assignment, trouble, placement);
  }
  return move(worker, assignment, trouble, placement.nodeName);
}
