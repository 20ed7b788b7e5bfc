import { type LambdaFunction, templateHashOf, workerOf } from '../../src/api/lambda-function.ts';
import type { LambdaWorker, LambdaWorkerStatus } from '../../src/api/lambda-worker.ts';
import { workerFixture } from './worker-fixture.ts';

export interface FunctionFixture {
  readonly name?: string;
  readonly metadata?: Partial<LambdaFunction['metadata']>;
  readonly minWorkers?: number;
  readonly image?: string;
}

/** A LambdaFunction as the API server gives it. */
export function functionFixture(fixture: FunctionFixture = {}): LambdaFunction {
  const { image = 'registry.example/hello:1', metadata, minWorkers = 2, name = 'hello' } = fixture;
  const { functionName: _none, ...spec } = workerFixture({ spec: { image } }).spec;
  return {
    metadata: { name, namespace: 'default', uid: `uid-of-${name}`, generation: 1, ...metadata },
    spec: { template: { spec }, scaling: { mode: 'Fixed', minWorkers } },
    status: { observedGeneration: -1 },
  };
}

export interface OwnedFixture {
  readonly metadata?: Partial<LambdaWorker['metadata']>;
  readonly status?: Partial<LambdaWorkerStatus>;
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

/** A worker of a function, of its present template, that has a node and is ready. */
export function ownedFixture(owner: LambdaFunction, ordinal: number, fixture: OwnedFixture = {}): LambdaWorker {
  const made = workerOf(owner, `${owner.metadata.name}-latest-${ordinal}`, templateHashOf(owner));
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
