import { describe, expect, it } from 'vitest';
import { type LambdaFunction, templateHashOf } from '../../../../src/api/lambda-function.ts';
import type { LambdaWorker } from '../../../../src/api/lambda-worker.ts';
import { changeOf, statusOf } from '../../../../src/controller/functions/function-status.ts';
import { condition, functionFixture, ownedFixture } from '../../../support/function-fixture.ts';

const NOW = Date.parse('2026-11-02T03:04:05Z');

function status(owner: LambdaFunction, owned: readonly LambdaWorker[], refusal?: string) {
  return statusOf({ owner, template: templateHashOf(owner), owned, refusal }, NOW);
}

describe('the status of a function', () => {
  const owner = functionFixture({ metadata: { generation: 3 } });
  const whole = [ownedFixture(owner, 0), ownedFixture(owner, 1)];
  const outdated = ownedFixture(functionFixture({ image: 'registry.example/hello:0' }), 1);

  it('is Ready once all workers are there, of the present template, and ready', () => {
    expect(status(owner, whole)).toEqual({
      observedGeneration: 3,
      workers: 2,
      readyWorkers: 2,
      updatedWorkers: 2,
      selector: 'esb.dev/lambda-function=hello',
      conditions: [
        {
          type: 'Ready',
          status: 'True',
          observedGeneration: 3,
          reason: 'UpToDate',
          message: '2 of 2 workers are up to date and ready',
          lastTransitionTime: '2026-11-02T03:04:05Z',
        },
      ],
    });
    const none = functionFixture({ minWorkers: 0 });
    expect(status(none, []).conditions).toMatchObject([{ type: 'Ready', status: 'True', reason: 'NoWorkers' }]);
  });

  it.each([
    ['a worker is missing', whole.slice(0, 1), { workers: 1 }],
    ['a worker is too many', [...whole, ownedFixture(owner, 2)], { workers: 3 }],
    ['a worker has the template before', [ownedFixture(owner, 0), outdated], { updatedWorkers: 1, readyWorkers: 2 }],
    [
      'a worker has not been looked at since its last change',
      [ownedFixture(owner, 0), ownedFixture(owner, 1, { metadata: { generation: 2 } })],
      { readyWorkers: 1 },
    ],
    [
      'a worker is being deleted',
      [ownedFixture(owner, 0), ownedFixture(owner, 1, { metadata: { deletionTimestamp: '2026-11-01T01:00:00Z' } })],
      { workers: 1 },
    ],
  ])('is in progress while %s', (_what, owned, numbers) => {
    const found = status(owner, owned);
    expect(found).toMatchObject(numbers);
    expect(found.conditions).toMatchObject([
      { type: 'Ready', status: 'False', reason: 'Progressing' },
      { type: 'Reconciling', status: 'True', reason: 'Progressing' },
    ]);
  });

  it('is stalled by a worker of the present template that is, and by none of the template before', () => {
    const stalled = {
      conditions: [
        condition('Ready', 'False', 'ImageNotFound'),
        condition('Stalled', 'True', 'ImageNotFound', 'no hello:2'),
      ],
    };
    expect(status(owner, [ownedFixture(owner, 0, { status: stalled }), outdated]).conditions).toMatchObject([
      { type: 'Ready', status: 'False', reason: 'ImageNotFound', message: 'hello-latest-0: no hello:2' },
      { type: 'Stalled', status: 'True', reason: 'ImageNotFound' },
    ]);
    const before = { ...outdated, status: { ...outdated.status, ...stalled } };
    expect(status(owner, [ownedFixture(owner, 0), before]).conditions?.[1]).toMatchObject({ type: 'Reconciling' });
  });

  it('is not stalled by the failure of a template that its worker no longer has', () => {
    const conditions = [
      condition('Ready', 'False', 'ImageNotFound'),
      condition('Stalled', 'True', 'ImageNotFound', 'no hello:2'),
    ];
    const changed = ownedFixture(owner, 0, { metadata: { generation: 2 }, status: { conditions } });
    expect(status(owner, [changed, outdated]).conditions).toMatchObject([
      { type: 'Ready', status: 'False', reason: 'Progressing' },
      { type: 'Reconciling', status: 'True' },
    ]);
  });

  it('is stalled where the API server refuses a worker, in its words', () => {
    expect(status(owner, [], 'spec.network.mode Host is the network of the node').conditions).toMatchObject([
      { type: 'Ready', status: 'False', reason: 'WorkerRefused', message: expect.stringContaining('Host') as string },
      { type: 'Stalled', status: 'True' },
    ]);
  });

  it('tells no more of a failure than the schema takes', () => {
    const conditions = [condition('Stalled', 'True', 'InitFailed', 'x'.repeat(32_768))];
    const [ready] = status(owner, [ownedFixture(owner, 0, { status: { conditions } })]).conditions ?? [];
    expect(ready?.message).toMatch(/^hello-latest-0: x+$/);
    expect(ready?.message).toHaveLength(32_768);
  });

  it('keeps the time of a condition that stays, and tells numbers from conditions', () => {
    const first = status(owner, whole);
    const told = { ...owner, status: first };
    const later = statusOf(
      { owner: told, template: templateHashOf(owner), owned: whole, refusal: undefined },
      NOW + 9e5,
    );
    expect(later).toEqual(first);
    expect(changeOf(first, later)).toBe('none');
    expect(changeOf(owner.status, first)).toBe('conditions');
    const missing = status(owner, whole.slice(0, 1));
    expect(changeOf(first, missing)).toBe('conditions');
    expect(changeOf(missing, status(owner, []))).toBe('numbers');
  });
});
