import { findCondition, transition } from '../../api/condition.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { fieldManagers } from '../../api/name.ts';
import type { PatchBody } from '../../kube/api/types.ts';
import type { StatusDraft } from './status-draft.ts';

/**
 * The forced server-side apply that makes the controller the owner of exactly what the draft names. It only succeeds
 * while the worker is as it was when the decision was made.
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
      status: {
        ...(assignment === undefined ? {} : { assignment }),
        ...(lastEpoch === undefined ? {} : { lastEpoch }),
        ...(phase === undefined ? {} : { phase }),
        conditions,
      },
    },
  };
}

/** Puts a finalizer on or takes it off, with all others left as they are; only on the version that was looked at. */
export function finalizerPatch(worker: LambdaWorker, finalizers: readonly string[]): PatchBody {
  return {
    kind: 'merge',
    fieldManager: fieldManagers.controller,
    body: { metadata: { resourceVersion: worker.metadata.resourceVersion, finalizers } },
  };
}

/**
 * Takes away what the agent of the last node told of a container that nobody has any more: no agent is left to do it.
 * Only on the version that was looked at.
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
