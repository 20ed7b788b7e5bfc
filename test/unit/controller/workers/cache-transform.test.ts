import { describe, expect, it } from 'vitest';
import { transformWorker } from '../../../../src/controller/workers/cache-transform.ts';
import { workerFixture } from '../../../support/worker-fixture.ts';

const condition = (type: string) => ({
  type,
  status: 'True' as const,
  reason: 'Because',
  message: '',
  lastTransitionTime: '2026-11-01T00:00:00Z',
});

describe('transformWorker', () => {
  it('keeps what decisions look at, and nothing of what belongs to the owner', () => {
    const slim = transformWorker(
      workerFixture({
        metadata: { finalizers: ['a'], annotations: { big: 'text' }, labels: { app: 'x' } },
        spec: { env: [{ name: 'SECRET', value: 'hidden' }], command: ['/run'], nodeName: 'node-1' },
        status: {
          assignment: { nodeName: 'node-1', epoch: 2 },
          phase: 'Running',
          containerID: 'hello-1',
          conditions: ['Scheduled', 'ImageReady', 'Ready', 'CleanedUp'].map(condition),
        },
      }),
    );
    expect(JSON.stringify(slim)).not.toMatch(/hidden|big|\/run|hello-1|ImageReady|app/);
    expect(slim).toMatchObject({
      metadata: {
        name: 'hello',
        uid: 'uid-of-hello',
        resourceVersion: '1',
        generation: 1,
        finalizers: ['a'],
      },
      spec: { image: 'registry.example/hello:1', nodeName: 'node-1', desiredState: 'Running' },
      status: { assignment: { nodeName: 'node-1', epoch: 2 }, phase: 'Running' },
    });
    expect(transformWorker(workerFixture())).not.toHaveProperty('status');
  });

  it('keeps the LambdaFunction of a worker and what it has from there, and no other owner', () => {
    const owner = { apiVersion: 'esb.dev/v1alpha1', kind: 'LambdaFunction', name: 'hello', uid: 'u', controller: true };
    const annotations = { 'esb.dev/template': '0123', big: 'text' };
    const labels = { 'esb.dev/lambda-function': 'hello', big: 'text' };
    const slim = transformWorker(workerFixture({ metadata: { annotations, labels, ownerReferences: [owner] } }));
    const kept = { annotations: { 'esb.dev/template': '0123' }, labels: { 'esb.dev/lambda-function': 'hello' } };
    expect(slim.metadata).toMatchObject({ ...kept, ownerReferences: [owner] });
    expect(JSON.stringify(slim)).not.toContain('big');
    // Whether there are others decides how one is added.
    const bare = transformWorker(workerFixture({ metadata: { annotations: { big: '' }, ownerReferences: [owner] } }));
    expect(bare.metadata.annotations).toEqual({});
    expect(bare.metadata).not.toHaveProperty('labels');
    const foreign = [{ ...owner, apiVersion: 'apps/v1', kind: 'Deployment' }];
    const other = transformWorker(workerFixture({ metadata: { annotations, ownerReferences: foreign } }));
    expect(other.metadata).not.toHaveProperty('annotations');
    expect(other.metadata).not.toHaveProperty('ownerReferences');
  });
});
