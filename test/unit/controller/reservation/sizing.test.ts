import { describe, expect, it } from 'vitest';
import { restingOf, stepMiB, wantedMiB, wantedMilliCPU } from '../../../../src/controller/reservation/sizing.ts';
import { workerFixture } from '../../../support/worker-fixture.ts';

describe('a step', () => {
  it.each([
    [1_536, 256],
    [2_048, 256],
    [11_468, 768],
    [45_875, 2_880],
  ])('of a node of %d MiB is %d MiB', (capacity, step) => {
    expect(stepMiB(capacity)).toBe(step);
  });
});

describe('what a node wants', () => {
  const wanted = (usedMiB: number, changes: Partial<Parameters<typeof wantedMiB>[0]> = {}) =>
    wantedMiB({ usedMiB, isCallable: true, largestMiB: 0, waitingMiB: 0, capacityMiB: 2_048, ...changes });

  it('is nothing where no call reaches any worker and none is there', () => {
    expect(wanted(0, { isCallable: false })).toBe(0);
  });

  it('is one step where workers rest, and one step more than they take where they are there', () => {
    expect(wanted(0)).toBe(256);
    expect(wanted(1)).toBe(512);
    expect(wanted(192)).toBe(512);
    expect(wanted(256)).toBe(512);
    expect(wanted(257)).toBe(768);
  });

  it('is what workers take that no call reaches, and no more', () => {
    expect(wanted(192, { isCallable: false })).toBe(256);
  });

  it('has room for the largest worker that a call may start', () => {
    expect(wanted(192, { largestMiB: 1_024 })).toBe(1_280);
    expect(wanted(0, { largestMiB: 100 })).toBe(256);
  });

  it('is no more than the node has', () => {
    expect(wanted(1_900)).toBe(2_048);
    expect(wanted(3_000)).toBe(2_048);
    expect(wanted(100, { capacityMiB: 300 })).toBe(300);
  });
});

describe('the CPU that a node wants', () => {
  const wanted = (used: number, capacity: number | undefined = 2_000, largestMilliCPU = 10, isCallable = true) =>
    wantedMilliCPU(used, { isCallable, largestMilliCPU }, capacity);

  it('is what workers that are awake ask for, and a step or the largest that a call may wake, in steps', () => {
    expect(wanted(0)).toBe(150);
    expect(wanted(10)).toBe(300);
    expect(wanted(150)).toBe(300);
    expect(wanted(0, 2_000, 1_000)).toBe(1_050);
    expect(wanted(1_950)).toBe(2_000);
    expect(wanted(0, 2_000, 0, false)).toBe(0);
  });

  it('of 100 workers of defaults that are awake is a core and a step, and of 100 paused ones one step', () => {
    expect(wanted(100 * 10, 11_200)).toBe(2_100);
    expect(wanted(0, 11_200)).toBe(700);
  });
});

describe('the workers of a node', () => {
  const assigned = { nodeName: 'node-1', epoch: 1 };
  const resting = workerFixture({
    name: 'resting',
    spec: { desiredState: 'Absent', resources: { limits: { memory: '500Mi' }, pids: 256 } },
    status: { assignment: assigned, phase: 'Absent', observedGeneration: 1 },
  });
  const running = workerFixture({ name: 'running', status: { assignment: assigned, phase: 'Running' } });

  it('that rest Absent may be started by a call, the largest of them with its /tmp', () => {
    expect(restingOf([resting, running], false)).toEqual({
      isCallable: true,
      largestMiB: 564,
      largestMilliCPU: 10,
      waitingMiB: 0,
    });
    expect(restingOf([running], false)).toMatchObject({ isCallable: true, largestMiB: 0 });
    expect(restingOf([], false)).toEqual({ isCallable: false, largestMiB: 0, largestMilliCPU: 0, waitingMiB: 0 });
  });

  it('may be woken by a call, and ask for CPU while they are awake', () => {
    const paused = workerFixture({
      name: 'paused',
      spec: { resources: { requests: { cpu: '250m' }, limits: { memory: '128Mi' }, pids: 256 } },
      status: { assignment: assigned, phase: 'Paused' },
    });
    expect(restingOf([running, paused], false)).toMatchObject({ isCallable: true, largestMilliCPU: 250 });
    expect(restingOf([running], false)).toMatchObject({ isCallable: true, largestMilliCPU: 0 });
  });

  it('take no memory for a /tmp that is on disk', () => {
    expect(restingOf([resting, running], true)).toMatchObject({ largestMiB: 500, waitingMiB: 0 });
  });

  it('are not, where their owner alone wakes them or they are being deleted', () => {
    const owned = { ...resting, spec: { ...resting.spec, wakePolicy: 'Never' as const } };
    const doomed = { ...resting, metadata: { ...resting.metadata, deletionTimestamp: 'now' } };
    expect(restingOf([owned, doomed], false)).toMatchObject({ isCallable: false, largestMiB: 0 });
  });

  it('that are to be replaced beside what serves, and find no room for that, wait for it', () => {
    const later = {
      type: 'UpToDate',
      status: 'False',
      reason: 'NodeFull',
      message: '',
      lastTransitionTime: '',
    } as const;
    const replaced = { ...running, status: { ...running.status, conditions: [later] } };
    expect(restingOf([replaced], false)).toMatchObject({ isCallable: true, largestMiB: 0, waitingMiB: 192 });
  });

  it('that were called and found no room wait for it', () => {
    const full = { type: 'Ready', status: 'False', reason: 'NodeFull', message: '', lastTransitionTime: '' } as const;
    const waiting = { ...resting, status: { ...resting.status, conditions: [full] } };
    expect(restingOf([waiting], false)).toMatchObject({ isCallable: true, largestMiB: 0, waitingMiB: 564 });
    expect(wantedMiB({ ...restingOf([waiting], false), usedMiB: 0, capacityMiB: 2_048 })).toBe(1_024);
  });
});
