import { describe, expect, it } from 'vitest';
import { rowOf, usedBetween } from '../../../src/cli/top.ts';
import { workerFixture } from '../../support/worker-fixture.ts';

const usage = (cpuUs: number, takenAtMs: number) => ({ cpuUs, memoryBytes: 3 * 2 ** 20, takenAtMs });

describe('the use of a worker', () => {
  it('is a rate between two readings', () => {
    expect(usedBetween(usage(1_000_000, 10_000), usage(2_000_000, 12_000))).toEqual({
      cpuMilli: 500,
      memoryBytes: 3 * 2 ** 20,
    });
  });

  it.each([
    ['first seen now', undefined],
    ['made again in between', usage(5_000_000, 10_000)],
    ['read once', usage(1_000_000, 12_000)],
  ])('has no rate of a container that was %s', (_, before) => {
    expect(usedBetween(before, usage(2_000_000, 12_000)).cpuMilli).toBe(0);
  });

  it('is one line, with dashes where the agent tells nothing', () => {
    const worker = workerFixture({
      name: 'hello',
      status: { phase: 'Paused', assignment: { nodeName: 'node-1', epoch: 1 } },
    });
    expect(rowOf({ worker, used: { cpuMilli: 12, memoryBytes: 1.25 * 2 ** 20 } })).toEqual([
      'default',
      'hello',
      'hello',
      'Paused',
      'node-1',
      '12m',
      '1.3Mi',
    ]);
    expect(rowOf({ worker, used: undefined }).slice(-2)).toEqual(['-', '-']);
  });
});
