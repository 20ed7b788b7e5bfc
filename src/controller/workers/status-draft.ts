import {
  type ConditionDraft,
  findCondition,
  transition,
  type WorkerReason,
  workerConditions,
} from '../../api/condition.ts';
import type { Assignment, LambdaWorker } from '../../api/lambda-worker.ts';
import { fieldManagers } from '../../api/name.ts';
import type { PatchBody } from '../../kube/api/types.ts';
import { isSameGrant } from '../scheduling/assignment-cache.ts';
import type { Placement } from '../scheduling/place.ts';

/** The answer of placement that no node fits. */
export type Refusal = Placement & { readonly kind: 'refused' };

/** The fields of the status that the controller owns after the write. */
export interface StatusDraft {
  readonly assignment?: Assignment;
  /** Present without an assignment, where there was one before. */
  readonly lastEpoch?: number;
  readonly scheduled: ConditionDraft;
  /** Present when the node was lost or has been left. */
  readonly ready?: ConditionDraft;
  readonly phase?: 'Unknown' | 'Pending';
}

/** A condition of the present generation. */
export function draftCondition(
  worker: LambdaWorker,
  type: string,
  status: ConditionDraft['status'],
  reason: WorkerReason,
  message: string,
): ConditionDraft {
  const { generation } = worker.metadata;
  return { type, status, reason, message, ...(generation === undefined ? {} : { observedGeneration: generation }) };
}

/** The condition of a worker that has a node. */
export function assignedTo(worker: LambdaWorker, nodeName: string): ConditionDraft {
  return draftCondition(worker, workerConditions.scheduled, 'True', 'Assigned', `assigned to node ${nodeName}`);
}

/**
 * Whether the worker has this condition already. The generation does not count: a change of the spec that does not
 * change the answer needs no write.
 */
export function says(worker: LambdaWorker, wanted: ConditionDraft): boolean {
  const found = findCondition(worker.status?.conditions, wanted.type);
  return found?.status === wanted.status && found.reason === wanted.reason && found.message === wanted.message;
}

/** Whether the write would change only texts of conditions. */
export function onlyRewords(worker: LambdaWorker, { assignment, scheduled, ready, phase }: StatusDraft): boolean {
  const { status } = worker;
  const isSame = (wanted: ConditionDraft): boolean => {
    const found = findCondition(status?.conditions, wanted.type);
    return found?.status === wanted.status && found.reason === wanted.reason;
  };
  return (
    assignment?.epoch === status?.assignment?.epoch &&
    isSameGrant(assignment?.granted, status?.assignment?.granted) &&
    isSame(scheduled) &&
    (ready === undefined || isSame(ready)) &&
    (phase === undefined || phase === status?.phase)
  );
}

/** The status of a worker that no node fits. A worker that had a node loses its state. */
export function unplaced(worker: LambdaWorker, lastEpoch: number | undefined, refusal: Refusal): StatusDraft {
  const scheduled = draftCondition(worker, workerConditions.scheduled, 'False', refusal.reason, refusal.message);
  return lastEpoch === undefined
    ? { scheduled }
    : {
        lastEpoch,
        scheduled,
        ready: draftCondition(
          worker,
          workerConditions.ready,
          'False',
          'Unassigned',
          'it was taken away from its node, and no other will do',
        ),
        phase: 'Pending',
      };
}

/**
 * The forced server-side apply that makes the controller the owner of the draft's fields. Succeeds only on the version
 * that the decision was made for.
 *
 * @param now wall-clock milliseconds
 */
export function statusPatch(worker: LambdaWorker, draft: StatusDraft, now: number): PatchBody {
  const { assignment, lastEpoch, scheduled, ready, phase } = draft;
  const conditions = [scheduled, ...(ready === undefined ? [] : [ready])].map((condition) =>
    transition(findCondition(worker.status?.conditions, condition.type), condition, now),
  );
  return {
    kind: 'apply',
    fieldManager: fieldManagers.controller,
    body: {
      metadata: { resourceVersion: worker.metadata.resourceVersion },
      status: { assignment, lastEpoch, phase, conditions },
    },
  };
}

/** Replaces the finalizers; only on the version that the decision was made for. */
export function finalizerPatch(worker: LambdaWorker, finalizers: readonly string[]): PatchBody {
  return {
    kind: 'merge',
    fieldManager: fieldManagers.controller,
    body: { metadata: { resourceVersion: worker.metadata.resourceVersion, finalizers } },
  };
}

/**
 * Removes the fields of a container that the last node's agent wrote: no agent is left to remove them. Only on the
 * version that the decision was made for.
 */
export function clearancePatch(worker: LambdaWorker): PatchBody {
  return {
    kind: 'merge',
    fieldManager: fieldManagers.controller,
    body: {
      metadata: { resourceVersion: worker.metadata.resourceVersion },
      status: { containerID: null, address: null, startedAt: null, pausedAt: null },
    },
  };
}
