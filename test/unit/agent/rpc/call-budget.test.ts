import { describe, expect, it } from 'vitest';
import { CallBudget, defaultCallBytes } from '../../../../src/agent/rpc/call-budget.ts';
import { manualClock } from '../../../support/manual-clock.ts';

const MIB = 2 ** 20;
const never = new AbortController().signal;

function budget(mebibytes = 64) {
  const clock = manualClock();
  return { clock, made: new CallBudget(mebibytes * MIB, clock) };
}

/** How many payloads of 1 MiB a function may have. */
function fill(made: CallBudget, connection: string, functionName: string): number {
  const bytes = made.open(connection, functionName);
  for (let count = 0; ; count += 1) {
    try {
      bytes.take(MIB);
    } catch (error) {
      expect(error).toMatchObject({ code: 'QueueFull', retryable: true });
      return count;
    }
  }
}

describe('the budget of calls', () => {
  it('leaves room to every other function and connection, however greedy some are', () => {
    const { made } = budget(256);
    expect(fill(made, 'one', 'a')).toBe(48);
    expect(fill(made, 'one', 'b')).toBe(24);
    for (let other = 0; other < 100; other += 1) {
      fill(made, 'one', `other-${other}`);
    }
    expect(made.held).toBeLessThanOrEqual(96 * MIB);
    expect(fill(made, 'two', 'c')).toBeGreaterThanOrEqual(20);
    expect(fill(made, 'three', 'd')).toBeGreaterThanOrEqual(15);
    expect(made.held).toBeLessThanOrEqual(256 * MIB);
  });

  it('gives back all that a call held when the way to its caller ends', () => {
    const { made } = budget();
    const bytes = made.open('one', 'a');
    bytes.take(3 * MIB);
    bytes.add(2 * MIB);
    bytes.add(-3 * MIB);
    expect(made.held).toBe(2 * MIB);
    bytes.close();
    bytes.add(5 * MIB);
    bytes.add(-2 * MIB);
    expect(made.held).toBe(0);
  });

  it('keeps room for the largest message while one is being read, and lets the next wait for that', async () => {
    const { made } = budget(256);
    const reads = await Promise.all([1, 2, 3, 4].map(() => made.read('one', never)));
    expect(made.held).toBe(32 * MIB);
    let read = false;
    const fifth = made.read('one', never).then((release) => {
      read = true;
      return release;
    });
    await Promise.resolve();
    expect(read).toBe(false);
    reads[0]?.();
    (await fifth)();
    for (const release of reads) {
      release();
    }
    expect(made.held).toBe(0);
  });

  it('refuses to read where payloads are in the way, where others take too long, and where too many wait', async () => {
    const { made } = budget();
    made.open('one', 'a').add(24 * MIB);
    await expect(made.read('one', never)).rejects.toMatchObject({ code: 'QueueFull' });

    const crowd = budget(256);
    await Promise.all([1, 2, 3, 4].map(() => crowd.made.read('one', never)));
    const late = crowd.made.read('one', never);
    late.catch(() => undefined);
    await crowd.clock.advance(10_000);
    await expect(late).rejects.toMatchObject({ code: 'QueueFull' });

    const gone = new AbortController();
    const line = Array.from({ length: 256 }, () => crowd.made.read('one', gone.signal));
    const ended = Promise.allSettled(line);
    await expect(crowd.made.read('one', never)).rejects.toMatchObject({ code: 'QueueFull' });
    gone.abort();
    expect((await ended).every(({ status }) => status === 'rejected')).toBe(true);
  });

  it('refuses those that wait to be read as soon as payloads have taken the room', async () => {
    const { made } = budget(256);
    const reads = await Promise.all([1, 2, 3, 4].map(() => made.read('one', never)));
    const waits = made.read('one', never);
    waits.catch(() => undefined);
    made.open('one', 'a').add(96 * MIB);
    await expect(waits).rejects.toMatchObject({ code: 'QueueFull' });
    expect(reads).toHaveLength(4);
  });

  it('lets an answer wait for room, and not for long', async () => {
    const { clock, made } = budget();
    const bytes = made.open('one', 'a');
    expect(bytes.room()).toBeUndefined();
    bytes.add(40 * MIB);
    const there = bytes.room();
    bytes.add(-40 * MIB);
    expect(await there).toBe(true);
    bytes.add(40 * MIB);
    const late = bytes.room();
    await clock.advance(2_000);
    expect(await late).toBe(false);
  });

  it('is a quarter of what the container may have, within bounds', () => {
    expect([0, 2 ** 26, 2 ** 29, 2 ** 30, 2 ** 60].map((limit) => defaultCallBytes(limit) / MIB)).toEqual([
      256, 64, 128, 256, 256,
    ]);
  });
});
