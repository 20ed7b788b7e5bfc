import type { ResourceType } from '../kube/api/types.ts';
import type { LambdaWorker, LambdaWorkerSpec, LambdaWorkerStatus } from './generated/lambda-worker.ts';
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

/** Where the record of an event goes, as `spec.asyncInvoke` names it: a function or a URL, of which one is there. */
export type EventDestination = NonNullable<NonNullable<LambdaWorkerSpec['asyncInvoke']>['onFailure']>;

/** Processors that the present image of a worker was found not to be made for. */
export function unfitArchitecturesOf({ spec, status }: LambdaWorker): readonly string[] {
  const { architectures = [], image } = status?.unfitArchitectures ?? {};
  return image === spec.image ? architectures : [];
}

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

/** How calls reach the runtime of a worker. */
type RuntimeInterface = NonNullable<LambdaWorkerSpec['runtimeInterface']>;

/** The interface of a worker whose resource names none, by its network mode. */
const unnamedInterface: Readonly<Record<'Bridge' | 'Host', RuntimeInterface>> = {
  Bridge: 'Lambda',
  Host: 'Emulator',
};

/** Seconds that a worker of interface Lambda may take to start where its resource names none. */
export const STARTUP_SECONDS = 60;

/** The interface of a worker: spec.runtimeInterface, and the default of its network mode where that is absent. */
export function runtimeInterfaceOf({ spec }: LambdaWorker): RuntimeInterface {
  return spec.runtimeInterface ?? unnamedInterface[spec.network?.mode ?? 'Bridge'];
}

/** Calls that a worker takes at once. The emulator takes one. */
export function perWorkerOf(worker: LambdaWorker): number {
  return runtimeInterfaceOf(worker) === 'Lambda' ? (worker.spec.concurrency?.perWorker ?? 1) : 1;
}

/** Format and levels of a log, with Lambda's defaults. */
export function loggingOf(logging: LambdaWorkerSpec['logging']) {
  return {
    format: logging?.format ?? 'Text',
    applicationLevel: logging?.applicationLevel ?? 'INFO',
    systemLevel: logging?.systemLevel ?? 'INFO',
  } as const;
}

/**
 * The policy of a worker. Where it gives none, as Kubernetes does: `Always` for the tag `latest` or no tag at all,
 * `IfNotPresent` for other tags and for digests. A tag that was told to have moved is asked for as `latest` is.
 */
export function imagePullPolicyOf(worker: LambdaWorker): NonNullable<LambdaWorkerSpec['imagePullPolicy']> {
  const { image, imageLookup, imagePullPolicy } = worker.spec;
  if (imagePullPolicy !== undefined) {
    return imagePullPolicy;
  }
  if (image.includes('@')) {
    return 'IfNotPresent';
  }
  // A colon before the last slash belongs to the registry's port.
  const tag = image.slice(image.lastIndexOf('/') + 1).split(':')[1];
  return tag === undefined || tag === 'latest' || imageLookup !== undefined ? 'Always' : 'IfNotPresent';
}
