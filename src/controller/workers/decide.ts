import {
  type ConditionDraft,
  findCondition,
  isTrue,
  readyReasons,
  workerConditions,
} from '../../api/condition.ts';
import { type Assignment, type LambdaWorker, WORKER_FINALIZER } from '../../api/lambda-worker.ts';
import { unreachable } from '../../common/errors.ts';
import type { WriteCause } from '../metrics/controller-metrics.ts';
import type { Leave, NodeStanding } from '../scheduling/node-view.ts';
import type { Placement } from '../scheduling/place.ts';
import {
  assignedTo,
  draftCondition,
  type Refusal,
  type StatusDraft,
  says,
  unplaced,
} from './status-draft.ts';

/** What is known of a node that is not the worker's any more, and may have a container of it. */
export interface LeftNode extends Pick<NodeStanding, 'liveness' | 'goneBecause'> {
  /** Whether its agent says so; undefined where the agent says nothing of any worker, as those of before. */
  readonly lists: boolean | undefined;
  /** Milliseconds since the worker was taken away from there, as far as this controller knows. */
  readonly leftMs: number;
}

export interface DecisionInput {
  readonly worker: LambdaWorker;
  /** The assigned node; looked at only when there is an assignment. */
  readonly standing: NodeStanding;
  /** Other nodes that the worker was on; looked at only when it is being deleted. */
  readonly left: readonly LeftNode[];
  /** Milliseconds since its deletion was asked for. */
  readonly deletingMs: number;
  /** Chooses a node for the worker, other than `exclude`. */
  readonly place: (exclude?: string) => Placement;
  /** Whether the loss of its present node has already been written to this worker. */
  readonly isLossTold: boolean;
  /** Whether the worker may be moved away from a full node now, or was moved too short a time ago. */
  readonly mayLeaveFullNode: boolean;
  /** Whether it is the worker's turn to leave a node that is well. Asked for only when there is another for it. */
  readonly mayLeave: () => boolean;
}

export type WorkerDecision =
  | { readonly kind: 'nothing' }
  /** A node has the word: to be looked at again when it has spoken, or after that many milliseconds. */
  | { readonly kind: 'wait'; readonly forMs: number }
  /** Written before any assignment, so that no worker with an assignment can go without its node's clean-up. */
  | { readonly kind: 'addFinalizer' }
  | {
      readonly kind: 'removeFinalizer';
      readonly because: string;
      readonly isNodeGone: boolean;
    }
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
  | { readonly kind: 'pinnedElsewhere'; readonly nodeName: string }
  | Leave;

const nothing: WorkerDecision = { kind: 'nothing' };

/** Milliseconds within which an agent tells of a worker that was taken away from it. It writes every ten seconds. */
export const NODE_WORD_MS = 30_000;

/**
 * Milliseconds that a node gets to remove a container, beside the time of a call and of its grace period: twice what passes
 * until the agent sets aside what cannot be removed. No agent holds up a deletion for longer.
 */
const REMOVAL_MS = 300_000;

function hasFinalizer(worker: LambdaWorker): boolean {
  return worker.metadata.finalizers?.includes(WORKER_FINALIZER) === true;
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
  if (standing.leave !== undefined) {
    return standing.leave;
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
  const { lastEpoch } = worker.status ?? {};
  const placement = input.place();
  if (placement.kind === 'refused') {
    // It would be put on again with the next assignment. Where none is to come, controllers may soon be gone, too.
    if (placement.leaving && hasFinalizer(worker)) {
      return { kind: 'removeFinalizer', because: 'it is assigned to no node', isNodeGone: false };
    }
    const status = unplaced(worker, lastEpoch, placement);
    const isTold =
      says(worker, status.scheduled) && (status.ready === undefined || says(worker, status.ready));
    return isTold ? nothing : { kind: 'write', cause: 'refused', status, note: placement.detail };
  }
  if (!hasFinalizer(worker)) {
    return { kind: 'addFinalizer' };
  }
  const { nodeName } = placement;
  return {
    kind: 'write',
    cause: 'assigned',
    status: {
      assignment: { nodeName, epoch: (lastEpoch ?? 0) + 1 },
      scheduled: assignedTo(worker, nodeName),
      // What the last node said does not hold here.
      ...(lastEpoch === undefined
        ? {}
        : {
            ready: draftCondition(
              worker,
              workerConditions.ready,
              'Unknown',
              readyReasons.reassigned,
              `assigned to node ${nodeName}, which has not told of it yet`,
            ),
            phase: 'Unknown' as const,
          }),
    },
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
    case 'retired':
      return `${from} is retired`;
    case 'tainted':
      return `${from} has the taint ${trouble.taint}`;
    case 'draining':
      return `${from} is being drained`;
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
      ready: draftCondition(worker, workerConditions.ready, 'Unknown', readyReasons.reassigned, note),
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
  const ready = draftCondition(worker, workerConditions.ready, 'Unknown', readyReasons.nodeLost, message);
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

function takeAway(
  worker: LambdaWorker,
  assignment: Assignment,
  trouble: Trouble,
  refusal: Refusal,
): WorkerDecision {
  const { nodeName, epoch } = assignment;
  return {
    kind: 'write',
    cause: 'unassigned',
    status: unplaced(worker, epoch, refusal),
    note: `taken away from node ${nodeName}, since ${why(trouble, nodeName)}, and ${refusal.detail}`,
    ...(trouble.kind === 'gone' ? { goneNode: nodeName } : {}),
  };
}

function stay(
  input: DecisionInput,
  assignment: Assignment,
  trouble: Trouble,
  refusal: Refusal,
): WorkerDecision {
  const { worker } = input;
  const keeps = assignedTo(worker, assignment.nodeName);
  switch (trouble.kind) {
    case 'gone':
    case 'retired':
    case 'tainted':
      return takeAway(worker, assignment, trouble, refusal);
    case 'draining':
      if (worker.spec.nodeName !== undefined) {
        // No other node will ever do, and whoever drains this one would wait for ever.
        return takeAway(worker, assignment, trouble, refusal);
      }
      return tell(
        worker,
        assignment,
        draftCondition(
          worker,
          workerConditions.scheduled,
          'False',
          refusal.reason,
          `${why(trouble, assignment.nodeName)}, and ${refusal.message}; it stays there until then`,
        ),
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
        draftCondition(
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

/** Milliseconds for which the deletion of a worker waits for a node that it left. */
function waitsForMs({ worker, deletingMs }: DecisionInput, node: LeftNode): number {
  const { goneBecause, leftMs, lists, liveness } = node;
  if (goneBecause !== undefined || liveness === 'lost' || lists === undefined) {
    return 0;
  }
  const { terminationGracePeriodSeconds, timeoutSeconds } = worker.spec;
  return lists
    ? (timeoutSeconds + terminationGracePeriodSeconds) * 1_000 + REMOVAL_MS - deletingMs
    : NODE_WORD_MS - leftMs;
}

function decideDeleting(input: DecisionInput): WorkerDecision {
  if (!hasFinalizer(input.worker)) {
    return nothing;
  }
  const decision = decideDeletingHere(input);
  if (decision.kind !== 'removeFinalizer') {
    return decision;
  }
  const forMs = Math.max(0, ...input.left.map((node) => waitsForMs(input, node)));
  return forMs > 0 ? { kind: 'wait', forMs } : decision;
}

/** What the present node of a worker that is being deleted has to say. */
function decideDeletingHere(input: DecisionInput): WorkerDecision {
  const { worker, standing } = input;
  const assignment = worker.status?.assignment;
  if (assignment === undefined) {
    return { kind: 'removeFinalizer', because: 'it is assigned to no node', isNodeGone: false };
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
  // A node that is lost or full looks as if it would do; the others are ruled out by what they are.
  const exclude = trouble.kind === 'lost' || trouble.kind === 'full' ? assignment.nodeName : undefined;
  const placement = input.place(exclude);
  if (placement.kind === 'refused') {
    return stay(input, assignment, trouble, placement);
  }
  const isInNoHurry = trouble.kind === 'draining' || trouble.kind === 'retired';
  if (isInNoHurry && !input.mayLeave()) {
    return nothing;
  }
  return move(worker, assignment, trouble, placement.nodeName);
}
