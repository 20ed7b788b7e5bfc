import { findCondition, isTrue, workerConditions } from '../../api/condition.ts';
import { type LambdaWorker, WORKER_FINALIZER } from '../../api/lambda-worker.ts';
import type { DecisionInput, LeftNode, WorkerDecision } from './decision.ts';
import { isToldOfSilence, tellLoss } from './loss.ts';
import { assignedTo } from './status-draft.ts';

/** Milliseconds within which an agent reports a worker that it has lost. Agents write every ten seconds. */
export const NODE_WORD_MS = 30_000;

/**
 * Milliseconds that a node gets to remove a container, beside the time of a call and of its grace period: twice the
 * time after which the agent sets a container aside. No agent delays a deletion for longer.
 */
const REMOVAL_MS = 300_000;

const nothing: WorkerDecision = { kind: 'nothing' };

export function hasFinalizer(worker: LambdaWorker): boolean {
  return worker.metadata.finalizers?.includes(WORKER_FINALIZER) === true;
}

/** Milliseconds for which the deletion of a worker waits for a node that it left. */
function waitsForMs({ worker, deletingMs }: DecisionInput, node: LeftNode): number {
  const { goneBecause, leftMs, lists, liveness } = node;
  if (goneBecause !== undefined || liveness === 'lost') {
    return 0;
  }
  const { terminationGracePeriodSeconds, timeoutSeconds } = worker.spec;
  return lists
    ? (timeoutSeconds + terminationGracePeriodSeconds) * 1_000 + REMOVAL_MS - deletingMs
    : NODE_WORD_MS - leftMs;
}

/** Lets a deleted worker go once every node that had it has cleaned up, or can not. */
export function decideDeleting(input: DecisionInput): WorkerDecision {
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

/** Decision on a worker that is being deleted, by its present node alone. */
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
  if (isToldOfSilence(standing)) {
    const message = `nothing has been heard of ${assignment.nodeName}; the worker is removed once that node has cleaned up, or its LambdaNode or Node is deleted`;
    const scheduled = findCondition(worker.status?.conditions, workerConditions.scheduled);
    return tellLoss(input, assignment, message, scheduled ?? assignedTo(assignment.nodeName));
  }
  return nothing;
}
