import { beforeEach, describe, expect, it } from 'vitest';
import { NodeCapacity } from '../../../../src/agent/worker/node-capacity.ts';
import { PrecreatedContainers } from '../../../../src/agent/worker/precreated-containers.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import type { EnsureRequest } from '../../../../src/runtime/contract/runtime.ts';
import { desiredFixture } from '../../../support/fleet-lab.ts';
import { type ManualClock, manualClock, settle } from '../../../support/manual-clock.ts';

describe('PrecreatedContainers', () => {
  let clock: ManualClock;
  let capacity: NodeCapacity;
  let prepared: PrecreatedContainers;
  let requests: EnsureRequest[];
  let answers: Promise<void>[];
  let again: string[];
  const absent = desiredFixture({ restingState: 'Absent' });
  const ids = (): string[] => requests.map(({ containerId }) => containerId);

  const make = (limit: number, memoryMiB = 100): void => {
    capacity = new NodeCapacity({ memoryMiB, workers: 100 }, () => undefined);
    prepared = new PrecreatedContainers({
      runtime: {
        prepare: (request) => {
          requests.push(request);
          return answers.shift() ?? Promise.resolve();
        },
      },
      secrets: { read: () => Promise.reject(new Error('there are none')) } as never,
      capacity,
      clock,
      logger: silentLogger(),
      limit,
      onAgain: (containerId) => again.push(containerId),
    });
  };

  beforeEach(() => {
    clock = manualClock();
    requests = [];
    answers = [];
    again = [];
    make(2);
  });

  it('makes the container of a worker that rests Absent, once, and counts what it takes', async () => {
    expect(prepared.offer('a', absent)).toBe(true);
    expect(prepared.offer('a', absent)).toBe(true);
    await settle();
    expect(ids()).toEqual(['a']);
    expect(requests[0]).toMatchObject({
      identity: absent.identity,
      epoch: absent.epoch,
      shapeHash: absent.shapeHash,
    });
    expect(capacity.allocated).toEqual({ memoryMiB: 8, workers: 1 });
    prepared.release('a');
    expect(capacity.allocated).toEqual({ memoryMiB: 0, workers: 0 });
  });

  it('makes no more than it may, and another once there is room', async () => {
    expect(['a', 'b', 'c'].map((id) => prepared.offer(id, absent))).toEqual([true, true, false]);
    prepared.release('a');
    expect(prepared.offer('c', absent)).toBe(true);
    await settle();
    expect(ids()).toEqual(['b', 'c']);
  });

  it('makes one at a time', async () => {
    const first = Promise.withResolvers<void>();
    answers = [first.promise];
    prepared.offer('a', absent);
    prepared.offer('b', absent);
    await settle();
    expect(ids()).toEqual(['a']);
    first.resolve();
    await settle();
    expect(ids()).toEqual(['a', 'b']);
  });

  it.each([
    ['none are asked for', 0, {}, 100],
    ['no quota has granted what it asks for', 2, { awaitsGrant: true }, 100],
    ['nobody may call it', 2, { wakePolicy: 'Never' }, 100],
    ['its image is asked for at each start', 2, { imagePullPolicy: 'Always' }, 100],
    ['its port is chosen at each start', 2, { networkMode: 'Host' }, 100],
    ['the node is full', 2, {}, 7],
  ] as const)('makes nothing when %s', async (_, limit, change, memoryMiB) => {
    make(limit, memoryMiB);
    expect(prepared.offer('a', { ...absent, ...change })).toBe(false);
    await settle();
    expect(requests).toEqual([]);
  });

  it('tries again later what failed, and holds nothing for it meanwhile', async () => {
    answers = [Promise.reject(new Error('no room on the disk'))];
    prepared.offer('a', absent);
    await settle();
    expect(capacity.allocated.memoryMiB).toBe(0);
    expect(prepared.offer('a', absent)).toBe(false);
    await clock.advance(60_000);
    expect(again).toEqual(['a']);
    expect(prepared.offer('a', absent)).toBe(true);
    await settle();
    expect(ids()).toEqual(['a', 'a']);
  });

  it('does not make what was released while it waited, and makes nothing after it was stopped', async () => {
    const first = Promise.withResolvers<void>();
    answers = [first.promise];
    prepared.offer('a', absent);
    prepared.offer('b', absent);
    await settle();
    prepared.release('b');
    first.resolve();
    await prepared.stop();
    expect(prepared.offer('c', absent)).toBe(false);
    expect(ids()).toEqual(['a']);
  });
});
