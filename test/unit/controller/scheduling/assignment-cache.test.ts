import { describe, expect, it } from 'vitest';
import type { LambdaWorkerStatus } from '../../../../src/api/lambda-worker.ts';
import { AssignmentCache, functionKeyOf } from '../../../../src/controller/scheduling/assignment-cache.ts';
import { type WorkerFixture, workerFixture } from '../../../support/worker-fixture.ts';

const onNode1: LambdaWorkerStatus = { assignment: { nodeName: 'node-1', epoch: 1 }, observedGeneration: 1 };
const worker = (status: LambdaWorkerStatus | undefined, fixture: WorkerFixture = {}) =>
  workerFixture({ ...fixture, ...(status === undefined ? {} : { status }) });

const usedBy = (subject: ReturnType<typeof worker>) => {
  const assignments = new AssignmentCache();
  assignments.observe(subject);
  return assignments.load('node-1').used.memoryMiB;
};

const cleanedUp = {
  type: 'CleanedUp',
  status: 'True',
  reason: 'CleanedUp',
  message: '',
  lastTransitionTime: '2026-11-01T00:00:00Z',
} as const;

describe('AssignmentCache', () => {
  it.each<[string, number, ReturnType<typeof worker>]>([
    ['a worker that is assigned and not heard of yet', 192, worker(onNode1)],
    ['a running worker', 192, worker({ ...onNode1, phase: 'Running' })],
    ['a paused worker', 192, worker({ ...onNode1, phase: 'Paused' }, { spec: { desiredState: 'Paused' } })],
    ['a crashed worker', 192, worker({ ...onNode1, phase: 'Failed' })],
    ['a worker on a lost node', 192, worker({ ...onNode1, phase: 'Unknown' })],
    [
      'a worker being removed',
      192,
      worker({ ...onNode1, phase: 'Terminating' }, { metadata: { deletionTimestamp: '2026-11-01T00:00:00Z' } }),
    ],
    [
      'a worker that has been cleaned up',
      0,
      worker(
        { ...onNode1, phase: 'Absent', conditions: [cleanedUp] },
        { metadata: { deletionTimestamp: '2026-11-01T00:00:00Z' } },
      ),
    ],
    ['a worker that rests Absent', 0, worker({ ...onNode1, phase: 'Absent' }, { spec: { desiredState: 'Absent' } })],
    ['a worker that was removed idle', 0, worker({ ...onNode1, phase: 'Absent' })],
    [
      'a worker that was Absent and is to run now',
      192,
      worker({ ...onNode1, phase: 'Absent' }, { metadata: { generation: 2 } }),
    ],
    ['a worker to rest Absent that is just assigned', 0, worker(onNode1, { spec: { desiredState: 'Absent' } })],
    [
      'a woken worker that rests Absent',
      192,
      worker({ ...onNode1, phase: 'Running' }, { spec: { desiredState: 'Absent' } }),
    ],
    ['a worker without assignment', 0, worker(undefined)],
  ])('counts %s with %i MiB', (_what, memoryMiB, subject) => {
    expect(usedBy(subject)).toBe(memoryMiB);
  });

  it('counts memory and /tmp, for placement and for what is seen', () => {
    const spec = { resources: { limits: { memory: '6Mi' }, pids: 256 }, ephemeralStorage: '64Gi' };
    expect(usedBy(worker({ ...onNode1, phase: 'Running' }, { spec }))).toBe(65_542);
    const assignments = new AssignmentCache();
    assignments.assume(worker(undefined, { spec }), { nodeName: 'node-1', epoch: 1 });
    expect(assignments.load('node-1').used.memoryMiB).toBe(65_542);
  });

  it('counts the CPU that a worker asks for while it is awake, and tells of a pause that frees some', () => {
    const asking = (phase: LambdaWorkerStatus['phase'], cpu: object) => {
      const spec = { resources: { limits: { memory: '128Mi' }, pids: 256, ...cpu } };
      return worker({ ...onNode1, ...(phase === undefined ? {} : { phase }) }, { spec });
    };
    const cpuOf = (subject: ReturnType<typeof worker>) => {
      const assignments = new AssignmentCache();
      assignments.observe(subject);
      return assignments.load('node-1').used.milliCPU;
    };
    const quarter = { requests: { cpu: '250m' } };
    expect(cpuOf(asking(undefined, quarter))).toBe(250);
    expect(cpuOf(asking('Resuming', quarter))).toBe(250);
    expect(cpuOf(asking('Paused', quarter))).toBe(0);
    expect(cpuOf(asking('Absent', quarter))).toBe(0);
    expect(cpuOf(asking('Running', {}))).toBe(10);
    // A request above the limit counts as the limit.
    expect(cpuOf(asking('Running', { requests: { cpu: 2 }, limits: { memory: '128Mi', cpu: '500m' } }))).toBe(500);
    const assignments = new AssignmentCache();
    assignments.observe(asking('Running', quarter));
    expect(assignments.observe(asking('Paused', quarter))).toBe('node-1');
    expect(assignments.observe(asking('Running', quarter))).toBeUndefined();
  });

  it('counts no more of a node than quotas have granted: agents make no larger container', () => {
    const resources = { limits: { memory: '64Gi' }, requests: { cpu: 8 }, pids: 256 };
    const assignment = { nodeName: 'node-1', epoch: 1, granted: { memoryMiB: 192, milliCPU: 10 } };
    const assignments = new AssignmentCache();
    assignments.observe(worker({ ...onNode1, assignment, phase: 'Running' }, { spec: { resources } }));
    expect(assignments.load('node-1', true)).toMatchObject({ used: { memoryMiB: 192, milliCPU: 10 }, usedDiskMiB: 64 });
    expect(assignments.load('node-1')).toMatchObject({ used: { memoryMiB: 192, milliCPU: 10 }, assignedMiB: 192 });
  });

  it('counts /tmp on the disk of a node that has it there', () => {
    const spec = { resources: { limits: { memory: '6Mi' }, pids: 256 }, ephemeralStorage: '64Gi' };
    const assignments = new AssignmentCache();
    assignments.observe(worker({ ...onNode1, phase: 'Running' }, { spec }));
    expect(assignments.load('node-1', true)).toMatchObject({
      used: { memoryMiB: 6, workers: 1 },
      usedDiskMiB: 65_536,
      assignedMiB: 6,
    });
    expect(
      assignments.observe(worker({ ...onNode1, phase: 'Running' }, { spec: { ...spec, ephemeralStorage: '1Gi' } })),
    ).toBe('node-1');
    expect(assignments.load('node-1', true).usedDiskMiB).toBe(1_024);
  });

  it('counts its own decisions until they are seen', () => {
    const assignments = new AssignmentCache();
    const subject = worker(undefined);
    assignments.assume(subject, { nodeName: 'node-2', epoch: 1 });
    expect(assignments.load('node-2').used).toEqual({ memoryMiB: 192, milliCPU: 10, workers: 1 });
    expect(assignments.load('node-2').sameFunction(functionKeyOf(subject))).toBe(1);
    assignments.observe(subject);
    expect(assignments.assumed('uid-of-hello')).toEqual({ nodeName: 'node-2', epoch: 1 });
    assignments.observe(worker({ assignment: { nodeName: 'node-2', epoch: 1 }, phase: 'Running' }));
    expect(assignments.assumed('uid-of-hello')).toBeUndefined();
    expect(assignments.load('node-2').used.memoryMiB).toBe(192);
  });

  it('moves the count with a higher epoch, and not back with what is seen late', () => {
    const assignments = new AssignmentCache();
    const before = worker({ ...onNode1, phase: 'Running' });
    assignments.observe(before);
    assignments.assume(before, { nodeName: 'node-2', epoch: 2 });
    assignments.observe(before);
    expect(assignments.load('node-1').assigned).toBe(0);
    expect(assignments.load('node-2').assigned).toBe(1);
  });

  it('takes back a decision that could not be written', () => {
    const assignments = new AssignmentCache();
    const subject = worker(undefined);
    assignments.assume(subject, { nodeName: 'node-2', epoch: 1 });
    assignments.retract(subject);
    expect(assignments.load('node-2').assigned).toBe(0);
    expect(assignments.assumed('uid-of-hello')).toBeUndefined();
  });

  it('tells which node has more room than before', () => {
    const assignments = new AssignmentCache();
    const running = worker({ ...onNode1, phase: 'Running' });
    expect(assignments.observe(running)).toBeUndefined();
    expect(assignments.observe(running)).toBeUndefined();
    expect(assignments.observe(worker({ ...onNode1, phase: 'Absent' }))).toBe('node-1');
    assignments.observe(running);
    expect(assignments.forget('uid-of-hello')).toBe('node-1');
    expect(assignments.forget('uid-of-hello')).toBeUndefined();
    expect(assignments.load('node-1')).toMatchObject({ used: { memoryMiB: 0, workers: 0 }, assigned: 0 });
  });

  it('counts a worker that is deleted to its node until that has cleaned up, whatever it waits for then', () => {
    const metadata = { deletionTimestamp: '2026-11-01T00:00:00Z' };
    const assignments = new AssignmentCache();
    assignments.observe(worker({ ...onNode1, phase: 'Terminating' }, { metadata }));
    expect(assignments.load('node-1').assigned).toBe(1);
    const cleaned = { ...onNode1, phase: 'Absent', conditions: [cleanedUp] } as const;
    expect(assignments.observe(worker(cleaned, { metadata }))).toBe('node-1');
    expect(assignments.load('node-1').assigned).toBe(0);
    assignments.observe(worker(cleaned));
    expect(assignments.load('node-1').assigned).toBe(1);
  });
});
