import {
  type ConditionDraft,
  findCondition,
  readyReasons,
  scheduledReasons,
  workerConditions,
} from '../../api/condition.ts';
import type { Assignment, LambdaWorker } from '../../api/lambda-worker.ts';
import type { Placement } from '../scheduling/place.ts';

/** No node was found. */
export type Refusal = Placement & { readonly kind: 'refused' };

/** What of the status the controller is to own after the write. */
export interface StatusDraft {
  readonly assignment?: Assignment;
  /** Only without an assignment, where there was one. */
  readonly lastEpoch?: number;
  readonly scheduled: ConditionDraft;
  /** Only when the node was lost or has been left. */
  readonly ready?: ConditionDraft;
  readonly phase?: 'Unknown' | 'Pending';
}

/** A condition that speaks of the present generation. */
export function draftCondition(
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

/** The condition of a worker that has a node. */
export function assignedTo(worker: LambdaWorker, nodeName: string): ConditionDraft {
  return draftCondition(
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
export function says(worker: LambdaWorker, wanted: ConditionDraft): boolean {
  const found = findCondition(worker.status?.conditions, wanted.type);
  return (
    found?.status === wanted.status && found.reason === wanted.reason && found.message === wanted.message
  );
}

/** Whether the write would change nothing but what conditions say in words. */
export function onlyRewords(
  worker: LambdaWorker,
  { assignment, scheduled, ready, phase }: StatusDraft,
): boolean {
  const { status } = worker;
  const isSame = (wanted: ConditionDraft): boolean => {
    const found = findCondition(status?.conditions, wanted.type);
    return found?.status === wanted.status && found.reason === wanted.reason;
  };
  return (
    assignment?.epoch === status?.assignment?.epoch &&
    isSame(scheduled) &&
    (ready === undefined || isSame(ready)) &&
    (phase === undefined || phase === status?.phase)
  );
}

/** What is written to a worker that no node was found for. One that had a node has no more to show of it. */
export function unplaced(worker: LambdaWorker, lastEpoch: number | undefined, refusal: Refusal): StatusDraft {
  const scheduled = draftCondition(
    worker,
    workerConditions.scheduled,
    'False',
    refusal.reason,
    refusal.message,
  );
  return lastEpoch === undefined
    ? { scheduled }
    : {
        lastEpoch,
        scheduled,
        ready: draftCondition(
          worker,
          workerConditions.ready,
          'False',
          readyReasons.unassigned,
          'it was taken away from its node, and no other will do',
        ),
        phase: 'Pending',
      };
}
