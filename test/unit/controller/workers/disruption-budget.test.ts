import { describe, expect, it } from 'vitest';
import type { LambdaWorker } from '../../../../src/api/lambda-worker.ts';
import { AssignmentCache } from '../../../../src/controller/scheduling/assignment-cache.ts';
import {
  DisruptionBudget,
  FUNCTION_INDEX,
  functionIndex,
} from '../../../../src/controller/workers/disruption-budget.ts';
import { createObjectCache } from '../../../../src/kube/cache/object-cache.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { workerFixture } from '../../../support/worker-fixture.ts';

const worker = (name: string, ready: 'True' | 'False' | 'Unknown', spec: object = {}): LambdaWorker =>
  workerFixture({
    name,
    spec: { functionName: 'one', ...spec },
    status: {
      assignment: { nodeName: 'node-1', epoch: 1 },
      conditions: [
        {
          type: 'Ready',
          status: ready,
          reason: 'Test',
          message: '',
          lastTransitionTime: '2026-11-01T00:00:00Z',
        },
      ],
    },
  });

function turns(...workers: readonly LambdaWorker[]) {
  const cache = createObjectCache<LambdaWorker>({ [FUNCTION_INDEX]: functionIndex });
  for (const one of workers) {
    cache.set(one);
  }
  const clock = manualClock();
  return {
    clock,
    turns: new DisruptionBudget({ workers: cache, assignments: new AssignmentCache(), clock }),
  };
}

describe('DisruptionBudget', () => {
  it('lets the only worker of a function go, and one that does not serve', () => {
    const only = worker('a', 'True');
    expect(turns(only).turns.mayLeave(only)).toBe(true);
    const broken = worker('b', 'False');
    expect(turns(only, broken, worker('c', 'Unknown')).turns.mayLeave(broken)).toBe(true);
  });

  it('keeps the others while one is away, and counts none that rests Absent', () => {
    const here = worker('a', 'True');
    expect(turns(here, worker('b', 'Unknown')).turns.mayLeave(here)).toBe(false);
    expect(turns(here, worker('b', 'False', { desiredState: 'Absent' })).turns.mayLeave(here)).toBe(true);
    expect(turns(here, worker('b', 'Unknown', { functionName: 'two' })).turns.mayLeave(here)).toBe(true);
  });

  it('counts those that it has sent away before they are seen to be', () => {
    const [a, b] = [worker('a', 'True'), worker('b', 'True')];
    const { turns: both } = turns(a, b);
    expect(both.mayLeave(a)).toBe(true);
    both.noteMoved(a);
    expect(both.mayLeave(b)).toBe(false);
  });

  it('waits a minute at most, for each worker from when it first had to', async () => {
    const here = worker('a', 'True');
    const { turns: one, clock } = turns(here, worker('b', 'Unknown'));
    expect(one.mayLeave(here)).toBe(false);
    await clock.advance(59_000);
    expect(one.mayLeave(here)).toBe(false);
    await clock.advance(1_000);
    expect(one.mayLeave(here)).toBe(true);
    one.forget('uid-of-a');
    expect(one.mayLeave(here)).toBe(false);
  });
});
