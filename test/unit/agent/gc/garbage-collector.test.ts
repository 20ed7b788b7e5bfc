import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { GarbageCollector, networkKindOf } from '../../../../src/agent/gc/garbage-collector.ts';
import type { Health } from '../../../../src/common/health.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import type { WorkerInfo } from '../../../../src/runtime/contract/runtime.ts';
import { containerNamed } from '../../../support/container-name.ts';
import { desiredFixture, FleetLab } from '../../../support/fleet-lab.ts';
import { settle } from '../../../support/manual-clock.ts';

/** A collector over the fleet and the runtime of a lab, with a network that holds what a test says. */
async function world() {
  const lab = await FleetLab.with(desiredFixture({ restingState: 'Running' }));
  const counts: string[] = [];
  const health: Health[] = [];
  const ports = new Set<string>();
  const network = { removed: [] as string[], fault: undefined as Error | undefined };
  const marksFolder = join(lab.folder, 'run');
  const recordsFolder = join(lab.folder, 'state', 'workers');
  const collector = new GarbageCollector({
    runtime: lab.runtime,
    fleet: lab.fleet,
    network: {
      look: () =>
        network.fault === undefined ? Promise.resolve(network.removed.splice(0)) : Promise.reject(network.fault),
    },
    ports: {
      read: () => Promise.resolve({ ports: [...ports], claimed: new Set(['vethclaimed']) }),
      remove: (name) => Promise.resolve(ports.delete(name)),
    },
    recordsFolder,
    marksFolder,
    clock: lab.clock,
    logger: silentLogger(),
    metrics: {
      leftoverFound: (kind) => counts.push(`found ${kind}`),
      leftoverRemoved: (kind) => counts.push(`removed ${kind}`),
      leftoverFailed: (kind) => counts.push(`failed ${kind}`),
      audited: (_ms, ok) => counts.push(ok ? 'audited' : 'audit failed'),
    },
    onHealth: (state) => health.push(state),
    periodMs: 300_000,
  });
  const twice = async (): Promise<void> => {
    await collector.look();
    await lab.clock.advance(60_000);
    await collector.look();
  };
  return { lab, counts, health, ports, network, marksFolder, recordsFolder, collector, twice };
}

/** A container that waits for its resource. */
const orphan = (containerId: string): Partial<WorkerInfo> => ({
  containerId,
  identity: { namespace: 'default', name: 'waits', uid: `uid-of-${containerId}`, functionName: 'waits' },
});

describe('garbage collection', () => {
  it('clears a container that is no more, once, in its lane, after the second look', async () => {
    const { lab, counts, collector, twice } = await world();
    lab.runtime.traces = [
      { kind: 'cgroup', containerId: containerNamed('gone') },
      { kind: 'lease', containerId: containerNamed('gone') },
      { kind: 'cgroup', containerId: lab.container() },
    ];
    await collector.look();
    expect(lab.runtime.count('clear')).toBe(0);
    await lab.clock.advance(60_000);
    await collector.look();
    expect(lab.runtime.operations.filter((each) => each.startsWith('clear'))).toEqual([
      `clear ${containerNamed('gone')}`,
    ]);
    expect(counts).toEqual(['audited', 'found cgroup', 'found lease', 'removed cgroup', 'removed lease', 'audited']);
    await twice();
    expect(lab.runtime.count('clear')).toBe(1);
    expect(lab.task()).toBe('Running');
  });

  it('shows what it cannot remove, goes on with the rest, and takes it back when it can', async () => {
    const { lab, counts, health, collector, twice } = await world();
    lab.runtime.traces = [
      { kind: 'mount', containerId: containerNamed('bad') },
      { kind: 'mount', containerId: containerNamed('good') },
    ];
    lab.runtime.fail('clear', { error: new Error('target is busy') });
    await twice();
    expect(health.at(-1)).toEqual({
      ok: false,
      reason: 'RepairFailed',
      message: `what workers left behind cannot be removed: mount of ${containerNamed('bad')}: target is busy`,
    });
    expect(counts).toContain('failed mount');
    expect(lab.runtime.traces).toEqual([{ kind: 'mount', containerId: containerNamed('bad') }]);
    await collector.look();
    expect(health.at(-1)).toEqual({ ok: true });
    expect(lab.runtime.traces).toEqual([]);
  });

  it('removes marks and records of workers that are no more, and no others', async () => {
    const { lab, marksFolder, recordsFolder, twice } = await world();
    mkdirSync(marksFolder, { recursive: true });
    const files = [join(marksFolder, 'gone.mark'), join(recordsFolder, 'gone.json')];
    for (const file of files) {
      writeFileSync(file, '{}');
    }
    const own = join(recordsFolder, 'uid-of-hello.json');
    await lab.recorded(() => true);
    await twice();
    await settle();
    await expect.poll(() => files.map((file) => existsSync(file))).toEqual([false, false]);
    expect(existsSync(own)).toBe(true);
  });

  it('removes the output of workers that are no more, and of no others', async () => {
    const { lab, counts, twice } = await world();
    lab.runtime.put({ ...(await lab.runtime.list())[0], ...orphan(containerNamed('waits')) } as WorkerInfo);
    lab.runtime.writers = new Set(['gone', 'uid-of-hello', `uid-of-${containerNamed('waits')}`]);
    await twice();
    expect(lab.runtime.withoutLogs).toEqual(['gone']);
    expect(counts).toEqual(['audited', 'found log', 'removed log', 'audited']);
  });

  it('removes a stray port of the bridge', async () => {
    const { ports, counts, twice } = await world();
    ports.add('vethclaimed').add('vethstray');
    await twice();
    expect([...ports]).toEqual(['vethclaimed']);
    expect(counts).toContain('removed veth');
  });

  it('counts what the network found by itself, and tells when it could not look', async () => {
    const { network, counts, health, collector } = await world();
    network.removed = ['10.234.0.7', 'esb-slot-abcdef-00000001', containerNamed('hello')];
    await collector.look();
    expect(counts.filter((each) => each.startsWith('removed'))).toEqual([
      'removed address',
      'removed network_namespace',
      'removed attachment',
    ]);
    network.fault = new Error('the plugin hangs');
    await collector.look();
    expect(health.at(-1)).toMatchObject({ ok: false, message: expect.stringContaining('the plugin hangs') });
  });

  it('shows a container that the fleet could not remove, until it is gone or claimed', async () => {
    const { lab, health, collector } = await world();
    collector.orphan('failed', lab.container(), 'it does not end');
    await collector.look();
    expect(health.at(-1)).toEqual({ ok: true });
    const left = containerNamed('left');
    lab.runtime.put({ ...(await lab.runtime.list())[0], containerId: left } as WorkerInfo);
    collector.orphan('found', left);
    collector.orphan('failed', left, 'it does not end');
    await collector.look();
    expect(health.at(-1)).toMatchObject({
      ok: false,
      message: expect.stringContaining(`container ${left}: it does not end`),
    });
    lab.runtime.containers.delete(left);
    await collector.look();
    expect(health.at(-1)).toEqual({ ok: true });
  });

  it('removes nothing when it cannot see everything', async () => {
    const { lab, counts, collector, twice } = await world();
    lab.runtime.traces = [{ kind: 'cgroup', containerId: containerNamed('gone') }];
    await collector.look();
    lab.runtime.inventory = () => Promise.reject(new Error('containerd is down'));
    await lab.clock.advance(60_000);
    await expect(twice()).rejects.toThrow('containerd is down');
    expect(lab.runtime.count('clear')).toBe(0);
    expect(counts).toEqual(['audited', 'audit failed']);
  });

  it('looks again after each period, also after a failure, until it is stopped', async () => {
    const { lab, counts, collector } = await world();
    const stop = new AbortController();
    const running = collector.run(stop.signal).catch(() => undefined);
    // Folders are read outside of the clock of this test.
    await expect.poll(() => counts).toEqual(['audited']);
    await settle();
    const inventory = lab.runtime.inventory.bind(lab.runtime);
    lab.runtime.inventory = () => Promise.reject(new Error('down'));
    await lab.clock.advance(300_000);
    await expect.poll(() => counts).toEqual(['audited', 'audit failed']);
    await settle();
    lab.runtime.inventory = inventory;
    await lab.clock.advance(300_000);
    await expect.poll(() => counts).toEqual(['audited', 'audit failed', 'audited']);
    stop.abort();
    await running;
  });
});

describe('what the network says that it removed', () => {
  it.each([
    ['10.234.0.7', 'address'],
    ['fd00::7', 'address'],
    ['esb-slot-abcdef-00000001', 'network_namespace'],
    [containerNamed('hello'), 'attachment'],
  ] as const)('%s is an %s', (name, kind) => {
    expect(networkKindOf(name)).toBe(kind);
  });
});
