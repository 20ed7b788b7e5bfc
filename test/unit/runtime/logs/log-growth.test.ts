import { describe, expect, it } from 'vitest';
import { silentLogger } from '../../../../src/common/logger.ts';
import { delayOf, LogGrowth } from '../../../../src/runtime/logs/log-growth.ts';
import { manualClock } from '../../../support/manual-clock.ts';

function growth(budget = 1_000) {
  const clock = manualClock();
  const ends = new Map<string, number>();
  const looks: string[] = [];
  const writes: string[] = [];
  const watches = new Map<string, () => void>();
  let opened = 0;
  const faults = { watch: false, look: false };
  /** Called while a look is under way. */
  let during: (containerId: string) => void = () => undefined;
  const logs = new LogGrowth({
    look(containerId) {
      looks.push(containerId);
      during(containerId);
      return faults.look ? Promise.reject(new Error('disk')) : Promise.resolve(ends.get(containerId));
    },
    onWrite(containerId) {
      writes.push(containerId);
      return Promise.resolve();
    },
    watch(containerId, onWrite) {
      if (faults.watch) {
        throw new Error('ENOSPC');
      }
      opened += 1;
      watches.set(containerId, onWrite);
      return { close: () => watches.delete(containerId) };
    },
    budget,
    clock,
    logger: silentLogger(),
  });
  return {
    logs,
    clock,
    ends,
    looks,
    writes,
    watches,
    faults,
    opened: () => opened,
    during: (call: (containerId: string) => void) => {
      during = call;
    },
    write(containerId: string, bytes: number) {
      ends.set(containerId, (ends.get(containerId) ?? 0) + bytes);
      watches.get(containerId)?.();
    },
  };
}

describe('looking after logs', () => {
  it('costs nothing for logs that nobody writes to, be there a thousand', async () => {
    const { logs, clock, ends, looks, watches } = growth();
    for (let index = 0; index < 1_000; index += 1) {
      ends.set(`w${index}`, 10);
      logs.add(`w${index}`);
    }
    await clock.advance(10);
    expect(watches.size).toBe(1_000);
    looks.length = 0;
    await clock.advance(3_600_000);
    expect(looks).toEqual([]);
  });

  it('takes one event for any number of writes, then looks by itself until it is quiet, then rests', async () => {
    const { logs, clock, ends, looks, writes, watches, write } = growth();
    ends.set('w', 0);
    logs.add('w');
    await clock.advance(10);
    looks.length = 0;
    write('w', 10);
    expect(watches.size).toBe(0);
    write('w', 10);
    write('w', 10);
    expect(writes).toEqual(['w']);
    expect(looks).toEqual([]);
    await clock.advance(100);
    expect(looks).toEqual(['w']);
    await clock.advance(10_000);
    expect(looks.length).toBeLessThan(7);
    expect(watches.size).toBe(1);
  });

  it('has a log watched at once, without a look, that is empty, and that nothing writes to yet', async () => {
    const { logs, clock, looks, writes, watches, write } = growth();
    logs.add('w', true);
    expect([...watches.keys()]).toEqual(['w']);
    await clock.advance(10_000);
    expect(looks).toEqual([]);
    write('w', 10);
    expect(writes).toEqual(['w']);
    await clock.advance(10_000);
    expect(looks.length).toBeGreaterThan(1);
    expect([...watches.keys()]).toEqual(['w']);
  });

  it('looks the more often the faster a log grows', async () => {
    const { logs, clock, ends, looks, write } = growth(1_000);
    ends.set('w', 0);
    logs.add('w');
    await clock.advance(10);
    write('w', 1);
    looks.length = 0;
    for (let ms = 0; ms < 5_000; ms += 10) {
      write('w', 100);
      await clock.advance(10);
    }
    // 10,000 bytes a second and 1,000 between two looks.
    expect(looks.length).toBeGreaterThan(35);
    expect(looks.length).toBeLessThan(60);
    expect(delayOf(10, 1_000, 1_000)).toBe(1_000);
    expect(delayOf(1_000_000, 10, 1_000)).toBe(50);
    expect(delayOf(0, 10, 1_000)).toBe(1_000);
  });

  it('misses no write that comes between the last look and the watch', async () => {
    const { logs, clock, ends, looks, watches, during } = growth();
    ends.set('w', 5);
    let count = 0;
    during(() => {
      count += 1;
      if (count === 2) {
        // After the first look, before anybody watches.
        ends.set('w', 9);
      }
    });
    logs.add('w');
    await clock.advance(10);
    expect(watches.size).toBe(0);
    await clock.advance(200);
    expect(looks.length).toBeGreaterThanOrEqual(3);
    await clock.advance(10_000);
    expect(watches.size).toBe(1);
  });

  it('looks now and then where the kernel has no watches left', async () => {
    const { logs, clock, ends, looks, faults } = growth();
    faults.watch = true;
    ends.set('w', 5);
    logs.add('w');
    await clock.advance(60_000);
    expect(looks.length).toBeGreaterThan(25);
    expect(looks.length).toBeLessThan(70);
  });

  it('goes on after a look that failed', async () => {
    const { logs, clock, ends, faults, watches } = growth();
    faults.look = true;
    ends.set('w', 5);
    logs.add('w');
    await clock.advance(5_000);
    faults.look = false;
    await clock.advance(5_000);
    expect(watches.size).toBe(1);
  });

  it('forgets a log that is gone, and everything when it is stopped', async () => {
    const { logs, clock, ends, looks, watches, write } = growth();
    ends.set('gone', 1);
    ends.set('kept', 1);
    logs.add('gone');
    logs.add('kept');
    await clock.advance(10);
    write('gone', 1);
    ends.delete('gone');
    await clock.advance(1_000);
    logs.delete('kept');
    expect(watches.size).toBe(0);
    logs.add('kept');
    await clock.advance(10);
    await logs.stop();
    expect(watches.size).toBe(0);
    looks.length = 0;
    logs.add('kept');
    await clock.advance(60_000);
    expect(looks).toEqual([]);
  });
});
