import { findCondition, transition } from '../../api/condition.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { fieldManagers } from '../../api/name.ts';
import type { PatchBody } from '../../kube/api/types.ts';
import type { StatusDraft } from './status-draft.ts';

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
