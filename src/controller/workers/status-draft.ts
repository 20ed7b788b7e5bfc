import {
  conditionsOf,
  findCondition,
  isControllersWord,
  isSameVerdict,
  no,
  progressOf,
  type Verdict,
  type WorkerReason,
  type WorkerReasons,
  workerConditions,
  yes,
} from '../../api/condition.ts';
import { type Assignment, type LambdaWorker, unfitArchitecturesOf } from '../../api/lambda-worker.ts';
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
  readonly scheduled: Verdict;
  /** Processors that the image is not made for; absent where they are those of before. */
  readonly unfitArchitectures?: readonly string[];
  /** Present until an agent has the word: without a node, and when the node was given, left or lost. */
  readonly ready?: Verdict;
  readonly phase?: 'Unknown' | 'Pending';
  /** Present as long as no agent has the worker. */
  readonly observedGeneration?: number | undefined;
}

/** Verdict of Scheduled on a worker that has a node. */
export function assignedTo(nodeName: string): Verdict<WorkerReasons['Scheduled']> {
  return yes('Assigned', `assigned to node ${nodeName}`);
}

/**
 * Whether the worker has these verdicts already. The generation does not count: a change of the spec that does not
 * change the answer needs no write.
 */
export function says(
  { status }: LambdaWorker,
  { ready, scheduled }: Partial<Pick<StatusDraft, 'ready' | 'scheduled'>>,
): boolean {
  const isSaid = (type: string, wanted: Verdict | undefined): boolean =>
    wanted === undefined || isSameVerdict(findCondition(status?.conditions, type), wanted);
  return isSaid(workerConditions.scheduled, scheduled) && isSaid(workerConditions.ready, ready);
}

/** Whether the write would change only texts of conditions. */
export function onlyRewords(worker: LambdaWorker, draft: StatusDraft): boolean {
  const { assignment, observedGeneration, phase, ready, scheduled } = draft;
  const { status } = worker;
  const isSame = (type: string, wanted: Verdict): boolean => {
    const found = findCondition(status?.conditions, type);
    return found?.status === wanted.status && found.reason === wanted.reason;
  };
  return (
    assignment?.epoch === status?.assignment?.epoch &&
    isSameGrant(assignment?.granted, status?.assignment?.granted) &&
    isSame(workerConditions.scheduled, scheduled) &&
    (ready === undefined || isSame(workerConditions.ready, ready)) &&
    (phase === undefined || phase === status?.phase) &&
    (observedGeneration === undefined || observedGeneration === status?.observedGeneration)
  );
}

/** The status of a worker that no node fits. A worker that had a node loses its state. */
export function unplaced(worker: LambdaWorker, lastEpoch: number | undefined, refusal: Refusal): StatusDraft {
  const { message, reason } = refusal;
  const { generation } = worker.metadata;
  return {
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    scheduled: no(reason, message),
    ...(lastEpoch === undefined
      ? { ready: no(reason, message) }
      : {
          lastEpoch,
          ready: no<WorkerReason>('Unassigned', `taken away from its node: ${message}`),
          phase: 'Pending',
        }),
  };
}

/** Whether a worker without a node has been told this already. */
export function isTold(worker: LambdaWorker, draft: StatusDraft): boolean {
  return says(worker, draft) && draft.observedGeneration === worker.status?.observedGeneration;
}

/** The controller's word about a worker that its agent has not reported since. */
function keptReady({ status }: LambdaWorker): Verdict | undefined {
  const ready = findCondition(status?.conditions, workerConditions.ready);
  return isControllersWord(ready) ? ready : undefined;
}

/**
 * The forced server-side apply that makes the controller the owner of the draft's fields. Succeeds only on the version
 * that the decision was made for.
 *
 * @param now wall-clock milliseconds
 */
export function statusPatch(worker: LambdaWorker, draft: StatusDraft, now: number): PatchBody {
  const { assignment, lastEpoch, observedGeneration, phase, scheduled } = draft;
  const { unfitArchitectures: architectures = unfitArchitecturesOf(worker) } = draft;
  // An apply takes off what it does not name: so they are named with each write, until the image is another.
  const unfit = architectures.length === 0 ? {} : { unfitArchitectures: { image: worker.spec.image, architectures } };
  const ready = draft.ready ?? keptReady(worker);
  // None but Ready once an agent has had the worker. Of a condition that both have applied, the one that leaves it out
  // takes its values along and leaves the name, which the API server refuses.
  const isFirst = assignment === undefined && lastEpoch === undefined;
  const progress = isFirst && ready !== undefined ? progressOf(ready, scheduled.reason) : {};
  const { generation, resourceVersion } = worker.metadata;
  const verdicts = { Scheduled: scheduled, Ready: ready, ...progress };
  const conditions = conditionsOf(verdicts, { present: worker.status?.conditions, generation, now });
  return {
    kind: 'apply',
    fieldManager: fieldManagers.controller,
    body: {
      metadata: { resourceVersion },
      status: { assignment, lastEpoch, observedGeneration, phase, conditions, ...unfit },
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

/** Conditions that agents alone write of a worker that they have. */
const agentsVerdicts: readonly string[] = [
  workerConditions.reconciling,
  workerConditions.stalled,
  workerConditions.callable,
];

/**
 * Removes what the last node's agent wrote of its container, and of a progress that there is no more: no agent is left
 * to remove it. Only on the version that the decision was made for.
 */
export function clearancePatch(worker: LambdaWorker): PatchBody {
  const { conditions } = worker.status ?? {};
  const left = conditions?.filter(({ type }) => !agentsVerdicts.includes(type));
  return {
    kind: 'merge',
    fieldManager: fieldManagers.controller,
    body: {
      metadata: { resourceVersion: worker.metadata.resourceVersion },
      status: {
        ...(left?.length === conditions?.length ? {} : { conditions: left }),
        containerID: null,
        address: null,
        startedAt: null,
        pausedAt: null,
      },
    },
  };
}
