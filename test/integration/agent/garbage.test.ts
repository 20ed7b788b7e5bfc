import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, rm, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { GarbageCollector } from '../../../src/agent/gc/garbage-collector.ts';
import type { Health } from '../../../src/common/health.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { type ContainerdClient, createContainerdClient } from '../../../src/containerd/containerd-client.ts';
import { shimSocketName } from '../../../src/runtime/containerd/leftovers.ts';
import { CONTAINERD_NAMESPACE } from '../../../src/runtime/containerd/parts.ts';
import type { ContainerRuntime } from '../../../src/runtime/contract/runtime.ts';
import { run } from '../../support/command.ts';
import { containerNamed } from '../../support/container-name.ts';
import { ensureRequest, type Lab, shimsOf, startLab } from '../../support/lab.ts';
import { manualClock } from '../../support/manual-clock.ts';
import { waitFor } from '../../support/wait-for.ts';

const leaseMs = 3_600_000;
const shimSockets = '/run/containerd/s';

describe('what workers left behind on a real node', () => {
  let lab: Lab;
  let runtime: ContainerRuntime;
  let client: ContainerdClient;
  let runcRoot: string;
  let snapshots: string;
  let tasks: string;
  const known = { uids: new Set<string>(), containerIds: new Set<string>() };

  beforeAll(async () => {
    lab = await startLab();
    runcRoot = join(lab.folder, 'runc');
    snapshots = join(lab.folder, 'root/io.containerd.snapshotter.v1.overlayfs');
    tasks = join(lab.folder, 'state/io.containerd.runtime.v2.task', CONTAINERD_NAMESPACE);
    runtime = await lab.runtime({ runcRoot });
    client = createContainerdClient({
      socketPath: lab.socketPath,
      namespace: CONTAINERD_NAMESPACE,
      snapshotter: 'overlayfs',
    });
  });
  afterAll(async () => {
    client?.close();
    await lab?.close();
  });

  /** Audits as often and as long as it takes for something to be removed. */
  async function collect(): Promise<{ readonly counts: string[]; readonly health: Health }> {
    const clock = manualClock();
    const counts: string[] = [];
    let health: Health = { ok: true };
    const collector = new GarbageCollector({
      runtime,
      fleet: {
        known: () => known,
        async discard(uid) {
          await runtime.removeLogsOf(uid);
          return true;
        },
      },
      network: { look: () => Promise.resolve([]) },
      ports: {
        read: () => Promise.resolve({ ports: [], claimed: new Set() }),
        remove: () => Promise.resolve(false),
      },
      recordsFolder: join(lab.folder, 'none'),
      marksFolder: join(lab.folder, 'none'),
      clock,
      logger: silentLogger(),
      metrics: {
        leftoverFound: (kind) => counts.push(`found ${kind}`),
        leftoverRemoved: (kind) => counts.push(`removed ${kind}`),
        leftoverFailed: (kind) => counts.push(`failed ${kind}`),
        audited: (_ms, ok) => ok || counts.push('audit failed'),
      },
      onHealth: (state) => {
        health = state;
      },
      periodMs: 300_000,
    });
    await collector.look();
    expect(counts).toEqual([]);
    await clock.advance(60_000);
    await collector.look();
    return { counts: counts.toSorted(), health };
  }

  async function kinds(containerId: string): Promise<string[]> {
    const { traces } = await runtime.inventory(new Set([containerId]));
    return traces
      .filter((trace) => trace.containerId === containerId)
      .map(({ kind }) => kind)
      .toSorted();
  }

  const nothing = async (): Promise<void> => {
    await waitFor('nothing to be left', async () => {
      const left = await lab.leftovers();
      if (left.length > 0) {
        throw new Error(left.join(', '));
      }
      return true;
    });
  };

  it('are nothing while a worker runs, is paused or was removed in order', async () => {
    const request = ensureRequest(lab, 'fine');
    await runtime.ensure(request);
    expect(await kinds(request.containerId)).toEqual(['cgroup', 'mount', 'runc_state', 'snapshot', 'task']);
    expect((await collect()).counts).toEqual([]);
    await runtime.pause(request.containerId);
    expect((await collect()).counts).toEqual([]);
    await runtime.destroy(request.containerId, { graceSeconds: 0 });
    expect((await collect()).counts).toEqual([]);
    await nothing();
    expect(await readdir(join(runcRoot, CONTAINERD_NAMESPACE))).toEqual([]);
    expect(
      existsSync(join(shimSockets, shimSocketName(lab.socketPath, CONTAINERD_NAMESPACE, request.containerId))),
    ).toBe(false);
  });

  it('with a task whose record was lost is ended and cleared away', async () => {
    const request = ensureRequest(lab, 'lost');
    await runtime.ensure(request);
    await client.containers.delete(request.containerId);
    const { counts, health } = await collect();
    expect(counts.filter((each) => each.startsWith('removed'))).toEqual(
      // The snapshot went with the record that was all that referred to it, when containerd's collector saw that.
      expect.arrayContaining(['removed cgroup', 'removed mount', 'removed runc_state', 'removed task']),
    );
    expect(health).toEqual({ ok: true });
    expect(await kinds(request.containerId)).toEqual([]);
    await nothing();
  });

  it('by an agent that died while it ended a task whose record was lost: the record in its place', async () => {
    const place = (containerId: string): Promise<unknown> =>
      client.containers.create({
        id: containerId,
        labels: {},
        image: '',
        snapshotter: 'overlayfs',
        snapshotKey: containerId,
        runtime: 'io.containerd.runc.v2',
        runcRoot,
        spec: { ociVersion: '1.1.0' },
      });
    // A containerd that stood still takes the request after its agent is gone, and the task is gone by then.
    await place(containerNamed('late'));
    // Or before, and the task goes on.
    const request = ensureRequest(lab, 'cut-short');
    await runtime.ensure(request);
    await client.containers.delete(request.containerId);
    await place(request.containerId);
    await place('of-somebody-else');
    onTestFinished(() => client.containers.delete('of-somebody-else'));
    const { counts, health } = await collect();
    expect(counts.filter((each) => each === 'removed container')).toHaveLength(2);
    expect(counts).toContain('removed task');
    expect(health).toEqual({ ok: true });
    expect((await client.containers.list()).map(({ id }) => id)).toEqual(['of-somebody-else']);
    expect(await kinds(request.containerId)).toEqual([]);
  });

  it('by an agent that died after the deletion of a worker: its output', async () => {
    const request = ensureRequest(lab, 'output');
    await runtime.ensure(request);
    await runtime.destroy(request.containerId, { graceSeconds: 0, keepLog: true });
    const uid = request.identity.uid;
    known.uids.add(uid);
    expect((await collect()).counts).toEqual([]);
    expect(await runtime.workerLogs.extent(request.containerId)).toBeDefined();
    known.uids.delete(uid);
    runtime = await lab.runtime({ runcRoot });
    expect((await collect()).counts).toEqual(['found log', 'removed log']);
    expect(await runtime.workerLogs.extent(request.containerId)).toBeUndefined();
  });

  it('by a removal that died with its agent: the snapshot', { tags: ['P28'] }, async () => {
    const containerId = containerNamed('dead');
    const [parent] = (await client.snapshots.list()).filter(({ kind }) => kind === 'COMMITTED');
    // Otherwise containerd's own collector may be first.
    const labels = { 'containerd.io/gc.root': 'of a test' };
    await client.snapshots.prepare(containerId, parent?.name ?? '', { labels });
    expect((await collect()).counts).toEqual(['found snapshot', 'removed snapshot']);
    await nothing();
  });

  it('while files of an image were read: lease and snapshot', async () => {
    const key = 'esb-files-00000000-0000-4000-8000-000000000001';
    await client.leases.create(key, new Date(Date.now() + leaseMs));
    const [parent] = (await client.snapshots.list()).filter(({ kind }) => kind === 'COMMITTED');
    await client.snapshots.view(key, parent?.name ?? '', { lease: key });
    expect((await collect()).counts).toEqual(['found lease', 'found snapshot', 'removed lease', 'removed snapshot']);
    expect((await client.leases.list()).map(({ id }) => id)).not.toContain(key);
    expect((await client.snapshots.list()).map(({ name }) => name)).not.toContain(key);
  });

  it('as empty cgroups, as a state of runc, and as a mount with its bundle', { tags: ['P6'] }, async () => {
    const containerId = containerNamed('empty');
    for (const hierarchy of ['memory', 'freezer', 'unified']) {
      await mkdir(join('/sys/fs/cgroup', hierarchy, lab.cgroupParent, containerId), {
        recursive: true,
      }).catch(() => undefined);
    }
    await mkdir(join(runcRoot, CONTAINERD_NAMESPACE, containerId), { recursive: true });
    await writeFile(join(runcRoot, CONTAINERD_NAMESPACE, containerId, 'state.json'), '{}');
    const bundle = join(tasks, containerId);
    const rootfs = join(bundle, 'rootfs');
    // Not among the snapshots themselves, where containerd removes what it does not know.
    const upper = join(snapshots, 'of-a-test');
    await mkdir(rootfs, { recursive: true });
    await mkdir(join(upper, 'fs'), { recursive: true });
    await mkdir(join(upper, 'work'), { recursive: true });
    onTestFinished(() => rm(upper, { recursive: true, force: true }));
    await run('mount', [
      '-t',
      'overlay',
      'overlay',
      '-o',
      `lowerdir=/usr/share/doc,upperdir=${upper}/fs,workdir=${upper}/work`,
      rootfs,
    ]);
    expect(await kinds(containerId)).toEqual(['cgroup', 'mount', 'runc_state']);
    expect((await collect()).counts.filter((each) => each.startsWith('removed'))).toEqual([
      'removed cgroup',
      'removed mount',
      'removed runc_state',
    ]);
    expect(await kinds(containerId)).toEqual([]);
    expect(existsSync(bundle)).toBe(false);
    await nothing();
  });

  it('as a socket that no shim listens on any more', async () => {
    const request = ensureRequest(lab, 'killed');
    const { containerId } = request;
    await runtime.ensure(request);
    const socket = join(shimSockets, shimSocketName(lab.socketPath, CONTAINERD_NAMESPACE, containerId));
    expect(existsSync(socket)).toBe(true);
    await lab.killContainerd();
    for (const pid of await shimsOf(lab.socketPath)) {
      process.kill(pid, 'SIGKILL');
    }
    await lab.startContainerd();
    await waitFor('the node to answer', () => runtime.list().then(() => true), { timeoutMs: 30_000 });
    await client.containers.delete(containerId);
    // Found by the name of a worker that is known: a hash does not tell its owner.
    known.containerIds.add(containerId);
    onTestFinished(() => known.containerIds.clear());
    const { counts, health } = await collect();
    expect(health).toEqual({ ok: true });
    expect(counts).toContain('removed shim_socket');
    expect(existsSync(socket)).toBe(false);
    known.containerIds.clear();
    await runtime.destroy(containerId, { graceSeconds: 0 });
    await nothing();
  });

  it('as a shim that containerd does not know of is ended', { tags: ['P21'] }, async () => {
    const containerId = containerNamed('orphan');
    // The command line is all that says whose shim a process is.
    const child = spawn(
      process.execPath,
      [
        '-e',
        'setInterval(() => {}, 1000)',
        '--',
        '-namespace',
        CONTAINERD_NAMESPACE,
        '-id',
        containerId,
        '-address',
        lab.socketPath,
      ],
      { argv0: 'containerd-shim-runc-v2', stdio: 'ignore' },
    );
    const ended = Promise.withResolvers<NodeJS.Signals | null>();
    child.once('exit', (_code, signal) => ended.resolve(signal));
    onTestFinished(() => void child.kill('SIGKILL'));
    await waitFor('the process', async () => (await kinds(containerId)).includes('shim'));
    expect((await collect()).counts).toEqual(['found shim', 'removed shim']);
    expect(await ended.promise).toBe('SIGKILL');
  });

  it('are not a shim that was started for a container that is gone and serves others', async () => {
    const sharing = await lab.runtime({ runcRoot, workersPerShim: 4 });
    const [first, second] = [ensureRequest(lab, 'first'), ensureRequest(lab, 'second')];
    await sharing.ensure(first);
    await sharing.ensure(second);
    expect(await shimsOf(lab.socketPath)).toHaveLength(1);
    await sharing.destroy(first.containerId, { graceSeconds: 0 });
    expect((await collect()).counts).toEqual([]);
    expect((await sharing.inspect(second.containerId))?.task.kind).toBe('Running');
    await sharing.pause(second.containerId);
    expect((await collect()).counts).toEqual([]);
    await sharing.destroy(second.containerId, { graceSeconds: 0 });
    await nothing();
  });

  it('leave alone what is not theirs', { tags: ['P29'] }, async () => {
    const foreign = {
      socket: join(shimSockets, 'f'.repeat(64)),
      cgroup: join('/sys/fs/cgroup/freezer', `${lab.cgroupParent}-other`, containerNamed('worker')),
      state: join('/run/containerd/runc', CONTAINERD_NAMESPACE, containerNamed(`left-${lab.cgroupParent.slice(1)}`)),
    };
    onTestFinished(async () => {
      await rm(foreign.socket, { force: true });
      await rm(foreign.state, { recursive: true, force: true });
      await rmdir(foreign.cgroup).catch(() => undefined);
      await rmdir(join(foreign.cgroup, '..')).catch(() => undefined);
    });
    await mkdir(shimSockets, { recursive: true });
    await writeFile(foreign.socket, '');
    await mkdir(foreign.cgroup, { recursive: true });
    await mkdir(foreign.state, { recursive: true });
    // A container that a person makes by hand in the namespace.
    await client.leases.create('by-hand', new Date(Date.now() + leaseMs));
    const [parent] = (await client.snapshots.list()).filter(({ kind }) => kind === 'COMMITTED');
    await client.snapshots.prepare('by-hand', parent?.name ?? '', { lease: 'by-hand' });
    // A shim of another daemon, and one of another namespace.
    const others = [
      ['-namespace', CONTAINERD_NAMESPACE, '-id', containerNamed('x'), '-address', `${lab.socketPath}.other`],
      ['-namespace', 'k8s.io', '-id', containerNamed('x'), '-address', lab.socketPath],
    ].map((args) =>
      spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)', '--', ...args], {
        argv0: 'containerd-shim-runc-v2',
        stdio: 'ignore',
      }),
    );
    onTestFinished(() => others.forEach((each) => void each.kill('SIGKILL')));
    expect((await collect()).counts).toEqual([]);
    expect(existsSync(foreign.socket)).toBe(true);
    expect(existsSync(foreign.cgroup)).toBe(true);
    expect(existsSync(foreign.state)).toBe(true);
    expect((await client.snapshots.list()).map(({ name }) => name)).toContain('by-hand');
    expect(others.map(({ exitCode, signalCode }) => [exitCode, signalCode])).toEqual([
      [null, null],
      [null, null],
    ]);
    await client.snapshots.remove('by-hand');
    await client.leases.delete('by-hand');
  });

  it('are not taken from a worker that is being made again meanwhile', async () => {
    const request = ensureRequest(lab, 'again');
    const { containerId } = request;
    await mkdir(join('/sys/fs/cgroup/freezer', lab.cgroupParent, containerId), { recursive: true });
    const [made, cleared] = await Promise.all([runtime.ensure(request), runtime.clear(containerId)]);
    expect(made.task.kind).toBe('Running');
    expect(cleared).toBe(false);
    expect((await runtime.inspect(containerId))?.task.kind).toBe('Running');
    await runtime.destroy(containerId, { graceSeconds: 0 });
    await nothing();
  });
});
