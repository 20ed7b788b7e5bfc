import { findCondition, isTrue, type WorkerReason, workerConditions } from '../../api/condition.ts';
import { TEMPLATE_ANNOTATION } from '../../api/lambda-function.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import type { KubeObject } from '../../kube/api/types.ts';

/** Whether an object is to stay, as far as nothing else is decided. */
export function isLiving({ metadata }: KubeObject): boolean {
  return metadata.deletionTimestamp === undefined;
}

/** Objects of a function that are to stay, as far as nothing else is decided. */
export function livingOf<T extends KubeObject>(owned: readonly T[]): readonly T[] {
  return owned.filter(isLiving);
}

/** Whether the worker was given the template with this hash. */
export function isUpdated({ metadata }: LambdaWorker, template: string): boolean {
  return metadata.annotations?.[TEMPLATE_ANNOTATION] === template;
}

/** Whether the worker is as its present spec wishes. */
export function isWorkerReady(worker: LambdaWorker): boolean {
  return isTrue(worker.status?.conditions, workerConditions.ready) && isObserved(worker);
}

/** Whether the present spec of the worker has failed, until somebody changes something. */
export function isWorkerStalled(worker: LambdaWorker): boolean {
  return isTrue(worker.status?.conditions, workerConditions.stalled) && isObserved(worker);
}

/** Whether its status is about the present spec, and not about one before a change. */
function isObserved({ metadata, status }: LambdaWorker): boolean {
  return status?.observedGeneration === metadata.generation;
}

/** Whether nothing is heard of its node: it may serve all the same. */
export function isOnLostNode({ status }: LambdaWorker): boolean {
  const reason = findCondition(status?.conditions, workerConditions.ready)?.reason;
  return reason === ('NodeLost' satisfies WorkerReason);
}

/** Orders workers by their age, and those of one age by their names. */
export function oldestFirst({ metadata: one }: LambdaWorker, { metadata: other }: LambdaWorker): number {
  const [created = '', otherCreated = ''] = [one.creationTimestamp, other.creationTimestamp];
  if (created !== otherCreated) {
    return created < otherCreated ? -1 : 1;
  }
  return one.name.localeCompare(other.name, 'en', { numeric: true });
}
