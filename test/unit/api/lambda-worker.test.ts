import { describe, expect, it } from 'vitest';
import { findCondition, isTrue } from '../../../src/api/condition.ts';
import { isCordoned } from '../../../src/api/lambda-node.ts';
import {
  functionNameOf,
  imagePullPolicyOf,
  lambdaWorkers,
  runtimeInterfaceOf,
} from '../../../src/api/lambda-worker.ts';
import { checkDefinition, SCHEMA_REVISION } from '../../../src/api/schema-revision.ts';
import { resourcesOf } from '../../../src/api/worker-resources.ts';
import type { ResourceType } from '../../../src/kube/api/types.ts';
import { nodeFixture, workerFixture } from '../../support/worker-fixture.ts';

describe('functionNameOf', () => {
  it('is spec.functionName, else the name of the resource', () => {
    expect(functionNameOf(workerFixture({ spec: { functionName: 'f' } }))).toBe('f');
    expect(functionNameOf(workerFixture({ name: 'hello-1' }))).toBe('hello-1');
  });
});

describe('lambdaWorkers', () => {
  it('is a resource type of the Kubernetes machinery', () => {
    const type: ResourceType<ReturnType<typeof workerFixture>> = lambdaWorkers;
    expect(type.plural).toBe('lambdaworkers');
  });
});

describe('imagePullPolicyOf', () => {
  it.each([
    ['hello', 'Always'],
    ['hello:latest', 'Always'],
    ['127.0.0.1:5000/hello', 'Always'],
    ['hello:1', 'IfNotPresent'],
    ['127.0.0.1:5000/hello:1', 'IfNotPresent'],
    [`hello@sha256:${'0'.repeat(64)}`, 'IfNotPresent'],
    [`hello:latest@sha256:${'0'.repeat(64)}`, 'IfNotPresent'],
  ])('of %s is %s', (image, policy) => {
    expect(imagePullPolicyOf(workerFixture({ spec: { image } }))).toBe(policy);
  });

  it('asks for a tag that was told to have moved, and for no digest', () => {
    const policyOf = (image: string) => imagePullPolicyOf(workerFixture({ spec: { image, imageLookup: 'again' } }));
    expect(policyOf('hello:1')).toBe('Always');
    expect(policyOf(`hello@sha256:${'0'.repeat(64)}`)).toBe('IfNotPresent');
  });

  it('is what the owner says', () => {
    expect(imagePullPolicyOf(workerFixture({ spec: { image: 'hello', imagePullPolicy: 'Never' } }))).toBe('Never');
  });
});

describe('runtimeInterfaceOf', () => {
  it.each([
    ['Bridge', 'Lambda'],
    ['Host', 'Emulator'],
  ] as const)('is in network mode %s %s where the resource names none', (mode, expected) => {
    expect(runtimeInterfaceOf(workerFixture({ spec: { network: { mode } } }))).toBe(expected);
  });

  it('is Lambda where the resource names neither', () => {
    expect(runtimeInterfaceOf(workerFixture())).toBe('Lambda');
  });

  it('is what the owner says', () => {
    expect(runtimeInterfaceOf(workerFixture({ spec: { runtimeInterface: 'Lambda' } }))).toBe('Lambda');
  });
});

describe('resourcesOf', () => {
  it('counts in MiB and thousandths of a core', () => {
    const worker = workerFixture({
      spec: { resources: { limits: { memory: '1Gi', cpu: '250m' }, pids: 64 }, ephemeralStorage: '1Gi' },
    });
    expect(resourcesOf(worker)).toEqual({
      memoryMiB: 1024,
      milliCpu: 250,
      pids: 64,
      ephemeralStorageMiB: 1024,
    });
  });
});

describe('isCordoned', () => {
  it('is asked on the LambdaNode or on the Node of its name', () => {
    expect(isCordoned(nodeFixture())).toBe(false);
    expect(isCordoned(nodeFixture({ unschedulable: true }))).toBe(true);
    expect(isCordoned(nodeFixture({ status: { unschedulable: true } }))).toBe(true);
  });
});

describe('findCondition', () => {
  it('finds by type', () => {
    const conditions = nodeFixture().status?.conditions;
    expect(findCondition(conditions, 'Ready')?.status).toBe('True');
    expect(findCondition(conditions, 'Other')).toBeUndefined();
    expect(isTrue(conditions, 'Ready')).toBe(true);
    expect(isTrue(undefined, 'Ready')).toBe(false);
  });
});

describe('checkDefinition', () => {
  const installed = (revision?: string) => ({
    metadata: {
      name: 'lambdaworkers.esb.dev',
      ...(revision === undefined ? {} : { annotations: { 'esb.dev/schema-revision': revision } }),
    },
  });

  it('accepts the revision that is needed, and newer ones', () => {
    expect(checkDefinition('lambdaworkers.esb.dev', installed(String(SCHEMA_REVISION)))).toEqual({
      ok: true,
    });
    expect(checkDefinition('lambdaworkers.esb.dev', installed(String(SCHEMA_REVISION + 1)))).toEqual({
      ok: true,
    });
  });

  it.each([installed('0'), installed(), installed('one')])('says what to do about an old one', (definition) => {
    expect(checkDefinition('lambdaworkers.esb.dev', definition)).toMatchObject({
      ok: false,
      reason: 'DefinitionTooOld',
      message: expect.stringContaining('crds/') as string,
    });
  });

  it('does not accept one by which a status with the list of leaving workers is refused', () => {
    expect(checkDefinition('lambdanodes.esb.dev', installed('3'))).toMatchObject({
      reason: 'DefinitionTooOld',
    });
  });

  it('says what to do when there is none', () => {
    expect(checkDefinition('lambdaworkers.esb.dev', undefined)).toMatchObject({
      reason: 'DefinitionMissing',
    });
  });
});
