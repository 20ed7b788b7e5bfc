import { describe, expect, it } from 'vitest';
import { versionChangeOf, versionStatusOf } from '../../../../src/controller/functions/version-status.ts';
import { condition, functionFixture, ownedFixture, versionFixture } from '../../../support/function-fixture.ts';

const NOW = Date.parse('2026-11-02T03:04:05Z');
const owner = functionFixture();

describe('the status of a version', () => {
  const pending = versionFixture(owner, 1, 'Pending');
  const active = versionFixture(owner, 1);
  const worker = ownedFixture(owner, 0, { version: pending });
  const stalled = ownedFixture(owner, 0, {
    version: pending,
    status: {
      conditions: [
        condition('Ready', 'False', 'ImageNotFound'),
        condition('Stalled', 'True', 'ImageNotFound', 'no image'),
      ],
    },
  });
  const of = (version: typeof pending, workers: readonly (typeof worker)[], wanted = 1, refusal?: string) =>
    versionStatusOf({ version, workers, wanted, refusal }, NOW);

  it('is Pending until one worker was ready, and Active from then on', () => {
    expect(of(pending, [])).toMatchObject({ state: 'Pending', workers: 0, readyWorkers: 0, observedGeneration: 1 });
    expect(of(pending, [worker])).toMatchObject({
      state: 'Active',
      readyWorkers: 1,
      conditions: [{ reason: 'UpToDate' }],
    });
    expect(of(active, [stalled])).toMatchObject({ state: 'Active', conditions: [{ reason: 'ImageNotFound' }, {}] });
  });

  it('is Failed, with the reason of its worker, while that cannot be started', () => {
    expect(of(pending, [stalled])).toMatchObject({
      state: 'Failed',
      conditions: [
        { type: 'Ready', status: 'False', reason: 'ImageNotFound', message: 'hello-1-0: no image' },
        { type: 'Stalled' },
      ],
    });
    expect(of(pending, [], 1, 'no Host here')).toMatchObject({
      state: 'Failed',
      conditions: [{ reason: 'WorkerRefused', message: 'no Host here' }, { type: 'Stalled' }],
    });
  });

  it('tells no more of a failure than the schema takes', () => {
    const [ready] = of(pending, [], 1, 'x'.repeat(40_000)).conditions ?? [];
    expect(ready?.message).toHaveLength(32_768);
  });

  it('is Ready without workers where no alias asks for one', () => {
    expect(of(active, [], 0).conditions).toMatchObject([{ type: 'Ready', status: 'True', reason: 'NoWorkers' }]);
    expect(of(active, [], 2).conditions).toMatchObject([
      { status: 'False', reason: 'Progressing' },
      { type: 'Reconciling' },
    ]);
  });

  it('tells numbers from conditions, and keeps both where nothing changes', () => {
    const first = of(active, [worker]);
    expect(versionChangeOf(active.status, first)).toBe('conditions');
    expect(versionChangeOf(first, of({ ...active, status: first }, [worker]))).toBe('none');
    const two = of({ ...active, status: first }, [worker, stalled], 2);
    expect(versionChangeOf(first, two)).toBe('conditions');
    const waiting = of(active, [], 3);
    expect(versionChangeOf(waiting, of({ ...active, status: waiting }, [worker], 3))).toBe('numbers');
  });
});
