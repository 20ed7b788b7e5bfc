import { describe, expect, it } from 'vitest';
import { isAborted } from '../../../../src/common/deadline.ts';
import { CgroupEvents } from '../../../../src/runtime/containerd/cgroup-events.ts';
import type { LimitHits } from '../../../../src/runtime/contract/limits.ts';
import { type ManualClock, manualClock } from '../../../support/manual-clock.ts';

function setUp(counts: Record<string, LimitHits>): {
  readonly watch: CgroupEvents;
  readonly told: string[];
  readonly clock: ManualClock;
} {
  const told: string[] = [];
  const clock = manualClock();
  const watch = new CgroupEvents({
    read: (id) => counts[id],
    onHit: (id, limit, count) => told.push(`${id} ${limit} ${count}`),
    clock,
  });
  return { watch, told, clock };
}

describe('CgroupEvents', () => {
  it('tells what a worker ran into since the last look', () => {
    const counts = { w: { processes: 0, memory: 0 } };
    const { watch, told } = setUp(counts);
    watch.watch('w');
    watch.look('w');
    expect(watch.of('w')).toBeUndefined();
    counts.w = { processes: 7, memory: 0 };
    watch.look('w');
    counts.w = { processes: 9, memory: 1 };
    watch.look('w');
    watch.look('w');
    expect(told).toEqual(['w processes 7', 'w processes 2', 'w memory 1']);
    expect(watch.of('w')).toEqual({ processes: 9, memory: 1 });
  });

  it('knows what happened before it watched, and does not count it again', () => {
    const { watch, told } = setUp({ w: { processes: 3, memory: 0 } });
    watch.watch('w');
    watch.look('w');
    expect(told).toEqual([]);
    expect(watch.of('w')).toEqual({ processes: 3, memory: 0 });
  });

  it('begins anew with a new container of the same worker', () => {
    const counts = { w: { processes: 3, memory: 0 } };
    const { watch, told } = setUp(counts);
    watch.watch('w');
    watch.forget('w');
    counts.w = { processes: 0, memory: 0 };
    watch.watch('w');
    counts.w = { processes: 1, memory: 0 };
    watch.look('w');
    expect(told).toEqual(['w processes 1']);
  });

  it('looks at nobody who is gone', () => {
    const counts: Record<string, LimitHits> = { w: { processes: 3, memory: 0 } };
    const { watch, told } = setUp(counts);
    watch.watch('w');
    delete counts.w;
    watch.look('w');
    watch.look('w');
    watch.watch('nobody');
    watch.look('nobody');
    expect(watch.of('w')).toBeUndefined();
    expect(told).toEqual([]);
  });

  it('looks again a moment after a hint', async () => {
    const counts = { w: { processes: 0, memory: 0 } };
    const { watch, told, clock } = setUp(counts);
    watch.watch('w');
    watch.hint('w');
    counts.w = { processes: 0, memory: 1 };
    expect(told).toEqual([]);
    await clock.advance(300);
    expect(told).toEqual(['w memory 1']);
  });

  it('remembers that a worker starved until it is made anew', () => {
    const { watch } = setUp({});
    expect(watch.isStarved('w')).toBe(false);
    watch.hint('w');
    watch.forget('w');
    expect(watch.isStarved('w')).toBe(true);
    watch.reset('w');
    expect(watch.isStarved('w')).toBe(false);
  });

  it('looks at everybody every ten seconds', async () => {
    const counts: Record<string, LimitHits> = {};
    for (let index = 0; index < 120; index += 1) {
      counts[`w${index}`] = { processes: 0, memory: 0 };
    }
    const { watch, told, clock } = setUp(counts);
    for (const id of Object.keys(counts)) {
      watch.watch(id);
    }
    const controller = new AbortController();
    const running = watch.run(controller.signal).catch((error: unknown) => isAborted(error));
    counts.w119 = { processes: 1, memory: 0 };
    await clock.advance(9_999);
    expect(told).toEqual([]);
    await clock.advance(1);
    await expect.poll(() => told).toEqual(['w119 processes 1']);
    controller.abort();
    expect(await running).toBe(true);
  });
});
