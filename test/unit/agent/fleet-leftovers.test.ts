import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { NodeFleet } from '../../../src/agent/worker/node-fleet.ts';
import { createFleet } from '../../../src/agent/worker/worker-manager.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import type { WorkerInfo } from '../../../src/runtime/contract/runtime.ts';
import { FakeRuntime } from '../../support/fake-runtime.ts';
import { desiredFixture, FleetLab } from '../../support/fleet-lab.ts';
import { manualClock } from '../../support/manual-clock.ts';

function nobodys(containerId: string): WorkerInfo {
  return {
    containerId,
    identity: { namespace: 'default', name: 'nobody', uid: `uid-of-${containerId}`, functionName: 'nobody' },
    epoch: 1,
    shapeHash: '',
    image: '',
    task: { kind: 'Running', pid: 1 },
    runtimeInterface: 'Emulator',
    createdAt: new Date(0),
  };
}

describe('files of workers', () => {
  it('are removed of those that have no actor, and of no others', async () => {
    const lab = await FleetLab.with(desiredFixture({ restingState: 'Running' }));
    const own = lab.fleet.known();
    expect([...own.uids]).toEqual(['uid-of-hello']);
    expect(own.containerIds.has(lab.container())).toBe(true);
    mkdirSync(join(lab.folder, 'run'), { recursive: true });
    const mark = join(lab.folder, 'run', 'gone.mark');
    const record = join(lab.folder, 'state', 'workers', 'gone.json');
    writeFileSync(mark, '0\n');
    writeFileSync(record, '{}');
    expect(await lab.fleet.discard('gone')).toBe(true);
    expect(lab.runtime.withoutLogs).toEqual(['gone']);
    await expect.poll(() => [mark, record].map((path) => existsSync(path))).toEqual([false, false]);
    await lab.recorded(() => true);
    expect(await lab.fleet.discard('uid-of-hello')).toBe(false);
    expect(existsSync(join(lab.folder, 'state', 'workers', 'uid-of-hello.json'))).toBe(true);
  });
});

describe('containers that no resource claims', () => {
  /** A fleet that knows no worker, of a test that ends with it. */
  const emptyFleet = (runtime: FakeRuntime, orphan: (outcome: string) => void = () => undefined): NodeFleet => {
    const folder = mkdtempSync(join(tmpdir(), 'esb-fleet-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    return createFleet({
      runtime,
      clock: manualClock(),
      logger: silentLogger(),
      stateDir: join(folder, 'state'),
      runDir: join(folder, 'run'),
      capacity: { memoryMiB: 1_000, workers: 10 },
      secretReader: { read: () => Promise.resolve(undefined) },
      metrics: { action: () => undefined, orphan },
    });
  };

  it('are counted when they are found, and when they are removed or not', async () => {
    const runtime = new FakeRuntime();
    const told: string[] = [];
    const fleet = emptyFleet(runtime, (outcome) => told.push(outcome));
    runtime.put(nobodys('a-00000001'));
    runtime.put(nobodys('b-00000002'));
    runtime.fail('destroy', { error: new Error('it does not end') });
    await fleet.adopt();
    await fleet.sweep(new Set(), () => Promise.resolve(false));
    expect(told).toEqual([]);
    await fleet.sweep(new Set(), () => Promise.resolve(true));
    expect(told.toSorted()).toEqual(['failed', 'found', 'found', 'removed']);
    await fleet.sweep(new Set(), () => Promise.resolve(true));
    expect(runtime.containers.size).toBe(0);
    expect(told.filter((each) => each === 'removed')).toHaveLength(2);
    await fleet.stop(0);
  });

  it.each([
    ['stay while they are young', 10_000, 1],
    ['go where the wall clock was set back since they were made', -3_600_000, 0],
  ])('%s', async (_, ageMs, left) => {
    const runtime = new FakeRuntime();
    const fleet = emptyFleet(runtime);
    const createdAt = new Date(Date.parse('2026-11-01T00:00:00Z') - ageMs);
    runtime.put({ ...nobodys('a-00000001'), createdAt });
    await fleet.adopt();
    await fleet.sweep(new Set(), () => Promise.resolve(true));
    expect(runtime.containers.size).toBe(left);
    await fleet.stop(0);
  });

  it('are told of as leaving where that was told before, for as long as they are there', async () => {
    const runtime = new FakeRuntime();
    const fleet = emptyFleet(runtime);
    const [stuck, gone] = ['a-00000001', 'b-00000002'] as const;
    runtime.put(nobodys(stuck));
    runtime.put(nobodys(gone));
    const told = [`uid-of-${stuck}`, `uid-of-${gone}`, 'uid-of-another'];
    await fleet.adopt();
    expect(fleet.stillHere(told)).toEqual([`uid-of-${stuck}`, `uid-of-${gone}`]);
    expect(fleet.stillHere([])).toEqual([]);
    // Somebody else removes the one, and the other does not end at first.
    runtime.containers.delete(gone);
    runtime.fail('destroy', { error: new Error('it does not end') });
    await fleet.sweep(new Set(), () => Promise.resolve(true));
    expect(fleet.stillHere(told)).toEqual([`uid-of-${stuck}`]);
    await fleet.sweep(new Set(), () => Promise.resolve(true));
    expect(fleet.stillHere(told)).toEqual([]);
    await fleet.stop(0);
  });
});
