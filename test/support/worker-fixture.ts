import type { LambdaNode, LambdaNodeStatus } from '../../src/api/lambda-node.ts';
import type { LambdaWorker, LambdaWorkerSpec, LambdaWorkerStatus } from '../../src/api/lambda-worker.ts';
import type { ReadNode } from '../../src/controller/nodes/liveness.ts';

export interface WorkerFixture {
  readonly name?: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly metadata?: Partial<LambdaWorker['metadata']>;
  readonly spec?: Partial<LambdaWorkerSpec>;
  readonly status?: LambdaWorkerStatus;
}

/** A LambdaWorker as the API server gives it, its defaults filled in. */
export function workerFixture(fixture: WorkerFixture = {}): LambdaWorker {
  const name = fixture.name ?? 'hello';
  return {
    apiVersion: 'esb.dev/v1alpha1',
    kind: 'LambdaWorker',
    metadata: {
      name,
      namespace: fixture.namespace ?? 'default',
      uid: fixture.uid ?? `uid-of-${name}`,
      resourceVersion: '1',
      generation: 1,
      creationTimestamp: '2026-11-01T00:00:00Z',
      ...fixture.metadata,
    },
    spec: {
      image: 'registry.example/hello:1',
      resources: { limits: { memory: '128Mi' }, pids: 256 },
      ephemeralStorage: '64Mi',
      readOnlyRootFilesystem: true,
      timeoutSeconds: 3,
      port: 8080,
      desiredState: 'Running',
      wakePolicy: 'OnInvoke',
      network: { mode: 'Bridge' },
      terminationGracePeriodSeconds: 10,
      ...fixture.spec,
    },
    ...(fixture.status === undefined ? {} : { status: fixture.status }),
  };
}

export interface NodeFixture {
  readonly name?: string;
  readonly metadata?: Partial<LambdaNode['metadata']>;
  readonly unschedulable?: boolean;
  readonly retired?: boolean;
  /** Status of the Ready condition. Default True. */
  readonly ready?: 'True' | 'False' | 'Unknown';
  readonly status?: Partial<LambdaNodeStatus>;
}

/** A LambdaNode that is ready and has room for 10 workers and 1536 MiB. */
export function nodeFixture(fixture: NodeFixture = {}): LambdaNode {
  const name = fixture.name ?? 'node-1';
  return {
    apiVersion: 'esb.dev/v1alpha1',
    kind: 'LambdaNode',
    metadata: { name, uid: `uid-of-${name}`, resourceVersion: '1', ...fixture.metadata },
    spec: { unschedulable: fixture.unschedulable ?? false, retired: fixture.retired ?? false },
    status: {
      endpoint: '127.0.0.1:9443',
      capacity: { memoryMiB: 1536, milliCPU: 100_000, workers: 10 },
      allocated: { memoryMiB: 0, workers: 0 },
      images: [],
      conditions: [
        {
          type: 'Ready',
          status: fixture.ready ?? 'True',
          lastTransitionTime: '2026-11-01T00:00:00Z',
          reason: 'Ready',
          message: '',
        },
      ],
      ...fixture.status,
    },
  };
}

/** A node of a reading of Leases: of one zone with all others, whose agent is not being started. */
export function readNodeFixture(name: string, more: Partial<ReadNode> = {}): ReadNode {
  return { name, zone: '', agentStarting: false, isLeft: false, ...more };
}
