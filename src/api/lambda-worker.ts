import type { ResourceType } from '../kube/api/types.ts';
import type { LambdaWorker, LambdaWorkerSpec, LambdaWorkerStatus } from './generated/lambda-worker.ts';
import { API_GROUP, API_VERSION } from './name.ts';

export type {
  LambdaWorker,
  LambdaWorkerSpec,
  LambdaWorkerSpecVariable,
  LambdaWorkerStatus,
} from './generated/lambda-worker.ts';

/** Where LambdaWorkers are found. */
export const lambdaWorkers: ResourceType<LambdaWorker> = {
  group: API_GROUP,
  version: API_VERSION,
  kind: 'LambdaWorker',
  plural: 'lambdaworkers',
  namespaced: true,
};

/** What a worker is doing, in one word. */
export type WorkerPhase = NonNullable<LambdaWorkerStatus['phase']>;

/** The state that a worker rests in. */
export type DesiredState = LambdaWorkerSpec['desiredState'];

/** Which node a worker lives on, and the number of that decision. */
export type Assignment = NonNullable<LambdaWorkerStatus['assignment']>;

/** Path of the selectable field by which agents watch the workers of their node. */
export const ASSIGNED_NODE_FIELD = 'status.assignment.nodeName';

/** Kept on a worker from before its assignment until its node has been cleaned up. */
export const WORKER_FINALIZER = 'esb.dev/worker';

/**
 * Name of the function that a worker serves: spec.functionName, and the name of the resource where that is absent.
 * The only place that decides it.
 */
export function functionNameOf(worker: LambdaWorker): string {
  return worker.spec.functionName ?? worker.metadata.name;
}
