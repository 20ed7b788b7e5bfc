import { type LambdaFunction, templateHashOf, type WorkerSource, workerOf } from '../../src/api/lambda-function.ts';
import { type LambdaVersion, versionOf, versionSourceOf } from '../../src/api/lambda-version.ts';
import type { LambdaWorker, LambdaWorkerStatus } from '../../src/api/lambda-worker.ts';
import { workerFixture } from './worker-fixture.ts';

export interface FunctionFixture {
  readonly name?: string;
  readonly metadata?: Partial<LambdaFunction['metadata']>;
  readonly minWorkers?: number;
  readonly image?: string;
  /** Members of the spec beside template and scaling. */
  readonly spec?: Partial<LambdaFunction['spec']>;
  readonly status?: LambdaFunction['status'];
}

/** A LambdaFunction as the API server gives it. */
export function functionFixture(fixture: FunctionFixture = {}): LambdaFunction {
  const { image = 'registry.example/hello:1', metadata, minWorkers = 2, name = 'hello' } = fixture;
  const { functionName: _none, ...spec } = workerFixture({ spec: { image } }).spec;
  return {
    metadata: { name, namespace: 'default', uid: `uid-of-${name}`, generation: 1, ...metadata },
    spec: {
      template: { spec },
      scaling: { mode: 'Fixed', minWorkers },
      rollout: { maxSurge: '25%', maxUnavailable: 0, progressDeadlineSeconds: 600 },
      revisionHistoryLimit: 10,
      publish: 'Manual',
      ...fixture.spec,
    },
    status: { observedGeneration: -1, ...fixture.status },
  };
}

/** A reference by digest: the same digit 64 times. */
export function digestImage(digit: number): string {
  return `registry.example/hello@sha256:${String(digit).repeat(64)}`;
}

/** A version of a function as it was published; Active where nothing else is said. */
export function versionFixture(
  owner: LambdaFunction,
  version: number,
  state: 'Active' | 'Failed' | 'Pending' = 'Active',
): LambdaVersion {
  const made = versionOf(owner, {
    version,
    template: templateHashOf(owner.spec.template),
    image: digestImage(version % 10),
  });
  return {
    ...made,
    metadata: { ...made.metadata, uid: `uid-of-${made.metadata.name}`, generation: 1 },
    status: { observedGeneration: 1, state },
  };
}

/** Source of the workers of $LATEST, or of a version. */
export function sourceOf(owner: LambdaFunction, version?: LambdaVersion): WorkerSource {
  if (version !== undefined) {
    return versionSourceOf(version);
  }
  const { template } = owner.spec;
  return { version: undefined, template, hash: templateHashOf(template) };
}

export interface OwnedFixture {
  readonly metadata?: Partial<LambdaWorker['metadata']>;
  readonly status?: Partial<LambdaWorkerStatus>;
  /** Absent for $LATEST. */
  readonly version?: LambdaVersion;
}

type Conditions = NonNullable<LambdaWorkerStatus['conditions']>;

export function condition(
  type: string,
  status: Conditions[number]['status'],
  reason = 'Running',
  message = '',
): Conditions[number] {
  return { type, status, reason, message, lastTransitionTime: '2026-11-01T00:00:00Z' };
}

/** A worker of a function, of its present template or of a version, that has a node and is ready. */
export function ownedFixture(owner: LambdaFunction, ordinal: number, fixture: OwnedFixture = {}): LambdaWorker {
  const source = sourceOf(owner, fixture.version);
  const made = workerOf(owner, `${owner.metadata.name}-${source.version ?? 'latest'}-${ordinal}`, source);
  return {
    ...made,
    metadata: {
      ...made.metadata,
      uid: `uid-of-${made.metadata.name}`,
      generation: 1,
      creationTimestamp: `2026-11-01T00:00:${String(ordinal).padStart(2, '0')}Z`,
      ...fixture.metadata,
    },
    status: {
      phase: 'Running',
      observedGeneration: 1,
      assignment: { nodeName: 'node-1', epoch: 1 },
      conditions: [condition('Ready', 'True')],
      ...fixture.status,
    },
  };
}
