import type { ResourceType } from '../kube/api/types.ts';
import type { LambdaWorker, LambdaWorkerStatus } from './generated/lambda-worker.ts';
import { API_GROUP, API_VERSION } from './name.ts';

export type {
  LambdaWorker,
  LambdaWorkerSpec,
  LambdaWorkerSpecVariable,
  LambdaWorkerStatus,
} from './generated/lambda-worker.ts';

export const lambdaWorkers: ResourceType<LambdaWorker> = {
  group: API_GROUP,
  version: API_VERSION,
  kind: 'LambdaWorker',
  plural: 'lambdaworkers',
  namespaced: true,
};

/** The phase of a worker, in one word. */
export type WorkerPhase = NonNullable<LambdaWorkerStatus['phase']>;

/** The node of a worker, and the epoch of the assignment. */
export type Assignment = NonNullable<LambdaWorkerStatus['assignment']>;

/** Path of the selectable field by which agents watch the workers of their node. */
export const ASSIGNED_NODE_FIELD = 'status.assignment.nodeName';

/** Kept on a worker from before its assignment until its node has been cleaned up. */
export const WORKER_FINALIZER = 'esb.dev/worker';

/**
 * Name of the function that a worker serves: spec.functionName, and the name of the resource where that is absent. No
 * other code decides the name.
 */
export function functionNameOf(worker: LambdaWorker): string {
  return worker.spec.functionName ?? worker.metadata.name;
}
