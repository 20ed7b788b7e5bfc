import { conditionsOf, no, progressOf, type Verdict, type VersionReasons, yes } from '../../api/condition.ts';
import type { LambdaVersion, LambdaVersionStatus } from '../../api/lambda-version.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { isWorkerReady } from './readiness.ts';
import type { StatusChange } from './status-writer.ts';
import { changeBetween, failureAmong } from './verdict.ts';

export interface VersionStatusInput {
  readonly version: LambdaVersion;
  /** Its workers, those in deletion excepted. */
  readonly workers: readonly LambdaWorker[];
  /** Workers that it is to have. */
  readonly wanted: number;
  /** Ready workers from which it is as wished, where that is fewer than all. */
  readonly enough?: number | undefined;
  /** Words of the API server, which did not take a worker of the function. */
  readonly refusal: string | undefined;
}

/** The present status of a version. Once Active, always Active. */
export function versionStatusOf(input: VersionStatusInput, now: number): LambdaVersionStatus {
  const { metadata, status } = input.version;
  const ready = input.workers.filter(isWorkerReady).length;
  const isActive = status?.state === 'Active' || ready > 0;
  const verdict = verdictOf(input, ready, isActive);
  const progress = progressOf(verdict);
  const { generation } = metadata;
  return {
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    state: isActive ? 'Active' : progress.Stalled === undefined ? 'Pending' : 'Failed',
    workers: input.workers.length,
    readyWorkers: ready,
    conditions: conditionsOf({ Ready: verdict, ...progress }, { present: status?.conditions, generation, now }),
  };
}

function verdictOf(
  { enough, refusal, wanted, workers }: VersionStatusInput,
  ready: number,
  isActive: boolean,
): Verdict {
  const [is, not] = [yes<VersionReasons['Ready']>, no<VersionReasons['Ready']>];
  if (wanted === 0 && enough !== undefined && enough > 0) {
    return not('Progressing', 'scaling.maxWorkers of the function leaves no worker for the version');
  }
  if (isActive && ready === wanted && workers.length === wanted) {
    return wanted === 0
      ? is('NoWorkers', 'no alias names the version, so that it has no workers')
      : is('UpToDate', `${wanted} of ${wanted} workers are ready`);
  }
  if (isActive && enough !== undefined && wanted > 0 && ready >= enough) {
    return is('UpToDate', `${ready} of ${wanted} workers are ready, and ${enough} are enough`);
  }
  if (isActive && wanted === 0) {
    return is('NoWorkers', `no alias names the version, and ${workers.length} workers leave`);
  }
  if (refusal !== undefined && workers.length < wanted) {
    return not('WorkerRefused', refusal);
  }
  return failureAmong(workers) ?? not('Progressing', `${ready} of ${wanted} workers are ready`);
}

/** How much of a status is new. */
export function versionChangeOf(present: LambdaVersionStatus | undefined, next: LambdaVersionStatus): StatusChange {
  return changeBetween(
    present,
    next,
    ({ observedGeneration, state }) => [observedGeneration, state],
    ({ readyWorkers, workers }) => [readyWorkers, workers],
  );
}
