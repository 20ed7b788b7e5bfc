import { describe, expect, it } from 'vitest';
import { judgeRoom } from '../../../../src/agent/node/disk-health.ts';
import { ClockWatch, NodeHealth } from '../../../../src/agent/node/node-health.ts';
import type { LeavingWorker } from '../../../../src/agent/worker/node-fleet.ts';
import { EsbError } from '../../../../src/common/errors.ts';
import type { Health } from '../../../../src/common/health.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import type { RuntimeEvent, RuntimeHealth } from '../../../../src/runtime/contract/runtime.ts';
import { manualClock, settle } from '../../../support/manual-clock.ts';

function world() {
  const clock = manualClock();
  let containerd: () => Promise<RuntimeHealth> = async () => ({ ok: true, version: '2.4.2' });
  let network: () => Promise<Health> = async () => ({ ok: true });
  let disk: Health = { ok: true };
  let leaving: readonly LeavingWorker[] = [];
  let listener: ((event: RuntimeEvent) => void) | undefined;
  const health = new NodeHealth({
    runtime: {
      health: () => containerd(),
      networkHealth: () => network(),
      subscribe(next) {
        listener = next;
        return () => undefined;
      },
    },
    leaving: () => leaving,
    disk: async () => disk,
    clock,
    logger: silentLogger(),
  });
  let told = 0;
  health.subscribe(() => {
    told += 1;
  });
  return {
    clock,
    health,
    told: () => told,
    setLeaving: (next: typeof leaving) => {
      leaving = next;
    },
    reconnect: () => listener?.({ kind: 'Reconnected', containerId: '' }),
    setContainerd: (next: typeof containerd) => {
      containerd = next;
    },
    setNetwork: (next: typeof network) => {
      network = next;
    },
    setDisk: (next: Health) => {
      disk = next;
    },
    show: () => Object.entries(health.conditions()).map(([type, { status, reason }]) => `${type}=${status} ${reason}`),
  };
}

const fine = [
  'Ready=True Ready',
  'ContainerdReady=True Serving',
  'NetworkReady=True Prepared',
  'DiskReady=True RoomLeft',
  'ClockStable=True Steady',
  'Clean=True NothingLeft',
];

describe('the health of a node', () => {
  it('knows when the last look began that found room, however long it took', async () => {
    const { clock, health, setDisk, setNetwork } = world();
    expect(health.diskRoomAt).toBeUndefined();
    const begun = clock.now();
    setNetwork(async () => {
      await clock.advance(3_000);
      return { ok: true };
    });
    await health.look();
    expect(health.diskRoomAt).toBe(begun);
    setDisk({ ok: false, reason: 'DiskFull', message: 'no space left' });
    await health.look();
    expect(health.diskRoomAt).toBe(begun);
    setDisk({ ok: true });
    await health.look();
    expect(health.diskRoomAt).toBe(begun + 6_000);
  });

  it('is not ready before everything has been looked at', async () => {
    const { health, show } = world();
    expect(health.ready()).toMatchObject({ ok: false, reason: 'Starting' });
    await health.look();
    expect(show()).toEqual(fine);
    expect(health.containerdVersion).toBe('2.4.2');
  });

  it.each([
    [
      'containerd is gone',
      (w: ReturnType<typeof world>) =>
        w.setContainerd(async () => ({ ok: false, reason: 'Unreachable', message: 'no socket' })),
      'ContainerdReady=False Unreachable',
      'Unreachable',
    ],
    [
      'asking containerd fails',
      (w: ReturnType<typeof world>) =>
        w.setContainerd(() => Promise.reject(new EsbError('no', { code: 'RuntimeUnavailable' }))),
      'ContainerdReady=False RuntimeUnavailable',
      'RuntimeUnavailable',
    ],
    [
      'a plugin is missing',
      (w: ReturnType<typeof world>) =>
        w.setNetwork(async () => ({ ok: false, reason: 'PluginMissing', message: 'bridge' })),
      'NetworkReady=False PluginMissing',
      'PluginMissing',
    ],
    [
      'the disk is full',
      (w: ReturnType<typeof world>) => w.setDisk({ ok: false, reason: 'DiskFull', message: 'full' }),
      'DiskReady=False DiskFull',
      'DiskFull',
    ],
  ])('says why when %s, and recovers by itself', async (_, breakIt, condition, reason) => {
    const w = world();
    await w.health.look();
    const before = w.told();
    breakIt(w);
    await w.health.look();
    expect(w.show()).toContain(condition);
    expect(w.show()[0]).toBe(`Ready=False ${reason}`);
    expect(w.told()).toBe(before + 1);
    w.setContainerd(async () => ({ ok: true, version: '2.4.2' }));
    w.setNetwork(async () => ({ ok: true }));
    w.setDisk({ ok: true });
    await w.health.look();
    expect(w.show()).toEqual(fine);
    expect(w.told()).toBe(before + 2);
  });

  it('believes in a look that took too long only when it happens twice in a row', async () => {
    const w = world();
    await w.health.look();
    w.setContainerd(() => Promise.reject(new EsbError('slow', { code: 'DeadlineExceeded' })));
    await w.health.look();
    expect(w.show()).toEqual(fine);
    await w.health.look();
    expect(w.show()[1]).toBe('ContainerdReady=False DeadlineExceeded');
  });

  it('is not ready while somebody notes something', async () => {
    const { health, told } = world();
    await health.look();
    const before = told();
    health.note('start', { ok: false, reason: 'Starting', message: 'adopting' });
    health.note('start', { ok: false, reason: 'Starting', message: 'adopting' });
    expect(health.ready()).toEqual({ ok: false, reason: 'Starting', message: 'adopting' });
    health.note('start', { ok: true });
    expect(health.ready()).toEqual({ ok: true });
    expect(told()).toBe(before + 2);
  });

  it('looks every few seconds, and at once when containerd is back', async () => {
    const w = world();
    const stop = new AbortController();
    let looks = 0;
    w.setContainerd(async () => {
      looks += 1;
      return { ok: true, version: '2.4.2' };
    });
    const running = w.health.run(stop.signal).catch(() => undefined);
    await w.clock.advance(10_000);
    expect(looks).toBe(3);
    w.reconnect();
    await settle();
    expect(looks).toBe(4);
    stop.abort();
    await running;
  });

  it('shows what cannot be cleared away, tells of it at once, and stays ready', async () => {
    const { health, show } = world();
    await health.look();
    let told = 0;
    health.subscribe(() => {
      told += 1;
    });
    health.leftovers({ ok: false, reason: 'RepairFailed', message: 'mount of a-1: busy' });
    expect(show()).toEqual(fine.with(5, 'Clean=False RepairFailed'));
    expect(health.ready()).toEqual({ ok: true });
    health.leftovers({ ok: false, reason: 'RepairFailed', message: 'mount of a-1: busy' });
    expect(told).toBe(1);
    health.leftovers({ ok: true });
    expect(show()).toEqual(fine);
    expect(told).toBe(2);
  });

  it('names workers that are not its own any more while calls are in them, and stays ready', async () => {
    const { health, setLeaving, show } = world();
    const names = ['one', 'two', 'three', 'four', 'five', 'six'];
    setLeaving(
      names.map((name, index) => ({
        identity: { namespace: 'default', name, uid: name, functionName: name },
        callUntil: Date.parse('2026-11-01T00:10:00Z') + index,
      })),
    );
    await health.look();
    expect(show()).toContain('MovesDone=False CallsRunning');
    const { message } = health.conditions().MovesDone ?? {};
    expect(message).toContain('until 2026-11-01T00:10:00.005Z at the latest');
    expect(message).toContain('default/five, default/four, default/one, default/six, default/three and 1 more');
    expect(health.ready()).toEqual({ ok: true });
    setLeaving([]);
    await health.look();
    expect(show()).toEqual(fine);
  });

  it('shows a step of the wall clock for a minute and stays ready', async () => {
    const { health, clock, show } = world();
    await health.look();
    clock.step(3_600_000);
    await health.look();
    expect(show()).toEqual(fine.with(4, 'ClockStable=False ClockStepped'));
    expect(health.conditions().ClockStable?.message).toContain('+3600 s');
    await clock.advance(61_000);
    await health.look();
    expect(show()).toEqual(fine);
  });

  it('takes slow drift for no step', async () => {
    const clock = manualClock();
    const watch = new ClockWatch(clock);
    for (let look = 0; look < 100; look += 1) {
      clock.step(100);
      await clock.advance(5_000);
      expect(watch.check()).toEqual({ ok: true });
    }
  });

  it('asks for room in proportion to the disk', () => {
    const room = { totalBytes: 100 * 2 ** 30, freeBytes: 2 ** 30, totalFiles: 0, freeFiles: 0 };
    expect(judgeRoom('/s', room)).toEqual({ ok: true });
    expect(judgeRoom('/s', { ...room, freeBytes: 2 ** 20 })).toMatchObject({ ok: false, reason: 'DiskFull' });
    const small = { totalBytes: 8 * 2 ** 20, freeBytes: 2 ** 20, totalFiles: 100, freeFiles: 50 };
    expect(judgeRoom('/s', small)).toEqual({ ok: true });
    expect(judgeRoom('/s', { ...small, freeBytes: 1000 })).toMatchObject({ reason: 'DiskFull' });
    expect(judgeRoom('/s', { ...small, freeFiles: 0 })).toMatchObject({ reason: 'DiskFull' });
  });

  it('are well and warn while something is only about to run out', async () => {
    const { health, setNetwork } = world();
    const warning = { reason: 'PortsLow', message: '930 of 1023 ports are taken' } as const;
    setNetwork(async () => ({ ok: true, warning }));
    await health.look();
    expect(health.conditions().NetworkReady).toEqual({ status: 'True', ...warning });
    expect(health.ready()).toEqual({ ok: true });
    setNetwork(async () => ({ ok: true }));
    await health.look();
    expect(health.conditions().NetworkReady).toMatchObject({ reason: 'Prepared' });
  });
});
