import { isDeepStrictEqual } from 'node:util';
import {
  type ConditionDraft,
  findCondition,
  progressOf,
  transition,
  type VersionReasons,
  workerConditions,
} from '../../api/condition.ts';
import type { LambdaVersion, LambdaVersionStatus } from '../../api/lambda-version.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { isWorkerReady, isWorkerStalled } from './readiness.ts';
import type { StatusChange } from './status-writer.ts';

export interface VersionStatusInput {
  readonly version: LambdaVersion;
  /** Its workers, those in deletion excepted. */
  readonly workers: readonly LambdaWorker[];
  /** Workers that it is to have. */
  readonly wanted: number;
  /** Words of the API server, which did not take a worker of the function. */
  readonly refusal: string | undefined;
}

type Verdict = Pick<ConditionDraft, 'message' | 'reason' | 'status'>;

/** The present status of a version. Once Active, always Active. */
export function versionStatusOf(input: VersionStatusInput, now: number): LambdaVersionStatus {
  const { metadata, status } = input.version;
  const ready = input.workers.filter(isWorkerReady).length;
  const isActive = status?.state === 'Active' || ready > 0;
  const verdict = verdictOf(input, ready, isActive);
  const of = metadata.generation === undefined ? {} : { observedGeneration: metadata.generation };
  const progress = progressOf(verdict);
  const drafts: readonly ConditionDraft[] = [
    { type: workerConditions.ready, ...of, ...verdict },
    ...(progress === undefined ? [] : [{ ...of, ...progress }]),
  ];
  return {
    ...of,
    state: isActive ? 'Active' : progress?.type === 'Stalled' ? 'Failed' : 'Pending',
    workers: input.workers.length,
    readyWorkers: ready,
    conditions: drafts.map((draft) => transition(findCondition(status?.conditions, draft.type), draft, now)),
  };
}

function verdictOf({ refusal, wanted, workers }: VersionStatusInput, ready: number, isActive: boolean): Verdict {
  const not = (reason: VersionReasons['Ready'], message: string): Verdict => ({ status: 'False', reason, message });
  const is = (reason: VersionReasons['Ready'], message: string): Verdict => ({ status: 'True', reason, message });
  if (isActive && ready === wanted && workers.length === wanted) {
    return wanted === 0
      ? is('NoWorkers', 'no alias names the version, so that it has no workers')
      : is('UpToDate', `${wanted} of ${wanted} workers are ready`);
  }
  if (isActive && wanted === 0) {
    return is('NoWorkers', `no alias names the version, and ${workers.length} workers leave`);
  }
  if (refusal !== undefined && workers.length < wanted) {
    return not('WorkerRefused', refusal);
  }
  for (const { metadata, status } of workers.filter(isWorkerStalled)) {
    const stalled = findCondition(status?.conditions, workerConditions.stalled);
    if (stalled !== undefined) {
      return { status: 'False', reason: stalled.reason, message: `${metadata.name}: ${stalled.message}` };
    }
  }
  return not('Progressing', `${ready} of ${wanted} workers are ready`);
}

/** How much of a status is new. */
export function versionChangeOf(present: LambdaVersionStatus | undefined, next: LambdaVersionStatus): StatusChange {
  const verdicts = ({ conditions, observedGeneration, state }: LambdaVersionStatus): readonly unknown[] => [
    observedGeneration,
    state,
    conditions?.map(({ reason, status, type }) => [type, status, reason]),
  ];
  const told = (status: LambdaVersionStatus): unknown => {
    return [verdicts(status), status.workers, status.readyWorkers, status.conditions];
  };
  if (present === undefined || !isDeepStrictEqual(verdicts(present), verdicts(next))) {
    return 'conditions';
  }
  return isDeepStrictEqual(told(present), told(next)) ? 'none' : 'numbers';
}
