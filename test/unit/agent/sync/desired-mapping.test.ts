import { describe, expect, it } from 'vitest';
import { desiredFromResource } from '../../../../src/agent/sync/desired-mapping.ts';
import type { LambdaWorker } from '../../../../src/api/lambda-worker.ts';
import { workerFixture } from '../../../support/worker-fixture.ts';

const assigned = { assignment: { nodeName: 'node-1', epoch: 3 } } as const;

describe('what a LambdaWorker asks of its node', () => {
  it('is nothing while it is assigned to nobody or to another', () => {
    expect(desiredFromResource(workerFixture(), 'node-1')).toBeUndefined();
    expect(desiredFromResource(workerFixture({ status: assigned }), 'node-2')).toBeUndefined();
  });

  it('has every default filled in', () => {
    expect(desiredFromResource(workerFixture({ status: assigned }), 'node-1')).toEqual({
      identity: { namespace: 'default', name: 'hello', uid: 'uid-of-hello', functionName: 'hello' },
      generation: 1,
      epoch: 3,
      shapeHash: expect.stringMatching(/^v1-[0-9a-f]{16}$/),
      image: 'registry.example/hello:1',
      imagePullPolicy: 'IfNotPresent',
      imagePullSecrets: [],
      command: [],
      args: [],
      env: [],
      memoryMiB: 128,
      pids: 256,
      ephemeralStorageMiB: 64,
      readOnlyRootFilesystem: true,
      timeoutSeconds: 3,
      runtimeInterface: 'Lambda',
      startupTimeoutSeconds: 60,
      port: 8080,
      networkMode: 'Bridge',
      restingState: 'Running',
      wakePolicy: 'OnInvoke',
      terminationGraceSeconds: 10,
      deleting: false,
    });
  });

  it('gives the calls in a worker of a function their whole time to end', () => {
    const owner = { apiVersion: 'esb.dev/v1alpha1', kind: 'LambdaFunction', name: 'f', uid: 'u', controller: true };
    const of = (spec: Partial<LambdaWorker['spec']>) =>
      desiredFromResource(workerFixture({ metadata: { ownerReferences: [owner] }, spec, status: assigned }), 'node-1');
    expect(of({ timeoutSeconds: 900 })).toMatchObject({ letsCallsEnd: true, terminationGraceSeconds: 10 });
    expect(desiredFromResource(workerFixture({ status: assigned }), 'node-1')).not.toHaveProperty('letsCallsEnd');
  });

  it('carries over what the resource says', () => {
    const worker = workerFixture({
      metadata: { deletionTimestamp: '2026-11-01T00:00:00Z', generation: 7 },
      spec: {
        functionName: 'greet',
        handler: 'app.handler',
        env: [
          { name: 'A', value: '1' },
          { name: 'B', valueFrom: { secretKeyRef: { name: 's', key: 'k', optional: false } } },
          { name: 'C', valueFrom: { secretKeyRef: { name: 's', key: 'l', optional: true } } },
        ],
        imagePullSecrets: [{ name: 'regcred' }],
        resources: { limits: { memory: '256Mi', cpu: '500m' }, pids: 64 },
        runtimeInterface: 'Lambda',
        concurrency: { perWorker: 8, queueDepth: 100 },
        network: { mode: 'Bridge', egress: 'Internet' },
        startup: { timeoutSeconds: 300 },
        logging: { format: 'JSON', systemLevel: 'WARN' },
        warmUp: { payload: { ping: true } },
        desiredState: 'Paused',
        idlePolicy: { pauseAfterSeconds: 5, removeAfterSeconds: 60 },
        wakePolicy: 'Never',
      },
      status: { ...assigned, lastInvocationTime: 'a', observedInvocationTime: 'b' },
    });
    expect(desiredFromResource(worker, 'node-1')).toMatchObject({
      identity: { functionName: 'greet' },
      generation: 7,
      deleting: true,
      handler: 'app.handler',
      env: [
        { name: 'A', value: '1' },
        { name: 'B', secret: { name: 's', key: 'k' } },
        { name: 'C', secret: { name: 's', key: 'l', optional: true } },
      ],
      imagePullSecrets: ['regcred'],
      memoryMiB: 256,
      milliCpu: 500,
      pids: 64,
      logging: { format: 'JSON', applicationLevel: 'INFO', systemLevel: 'WARN' },
      runtimeInterface: 'Lambda',
      perWorker: 8,
      egress: 'Internet',
      startupTimeoutSeconds: 300,
      warmUpPayload: '{"ping":true}',
      restingState: 'Paused',
      pauseAfterSeconds: 5,
      removeAfterSeconds: 60,
      wakePolicy: 'Never',
      lastInvocationTime: 'a',
      observedInvocationTime: 'b',
    });
  });
});
