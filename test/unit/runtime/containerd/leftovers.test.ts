import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { isOwnName } from '../../../../src/runtime/containerd/inventory.ts';
import { Leftovers, rootMountsIn, shimSocketName } from '../../../../src/runtime/containerd/leftovers.ts';
import { parentOf, shimOf } from '../../../../src/runtime/containerd/shim-process.ts';
import { containerNamed } from '../../../support/container-name.ts';

const owner = { socketPath: '/run/c.sock', namespace: 'esb' };

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'esb-traces-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

describe('a command line', () => {
  const line = (...more: readonly string[]): string[] => [
    '/usr/bin/containerd-shim-runc-v2',
    ...['-namespace', 'esb', '-id', containerNamed('a'), '-address', '/run/c.sock'],
    ...more,
  ];

  it.each([
    ['of a lasting shim of ours', line(), containerNamed('a')],
    ['of one that only starts another', line('start'), undefined],
    ['of one that clears up', line('delete'), undefined],
    ['of another namespace', line().with(2, 'k8s.io'), undefined],
    ['of another daemon', line().with(6, '/run/containerd/containerd.sock'), undefined],
    ['of another program', line().with(0, '/usr/bin/vi'), undefined],
    ['of nobody', [], undefined],
  ])('%s', (_what, words, expected) => {
    expect(shimOf(words, owner)).toBe(expected);
  });
});

describe('the parent of a process', () => {
  it.each([
    ['12 (python3) S 7 12 12 0', 7],
    ['12 (a) b) (c) S 8 12 12 0', 8],
    ['', undefined],
  ])('of %j', (stat, parent) => {
    expect(parentOf(stat)).toBe(parent);
  });
});

describe('root file systems', () => {
  const mount = (path: string, upper: string): string =>
    `99 1 0:9 / ${path} rw - overlay overlay rw,lowerdir=/l,upperdir=${upper}/7/fs,workdir=${upper}/7/work`;
  const tasks = '/run/containerd/io.containerd.runtime.v2.task';
  const snapshots = '/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs';

  it('are those over snapshots of this daemon, in this namespace', () => {
    const own = `${tasks}/esb/${containerNamed('a')}/rootfs`;
    const table = [
      mount(own, `${snapshots}/snapshots`),
      mount(`${tasks}/k8s.io/${containerNamed('b')}/rootfs`, `${snapshots}/snapshots`),
      mount(`${tasks}/esb/${containerNamed('c')}/rootfs`, '/other/io.containerd.snapshotter.v1.overlayfs/snapshots'),
      mount(`/mnt/esb/${containerNamed('d')}/rootfs`, `${snapshots}/snapshots`),
      '25 1 0:22 / /proc rw - proc proc rw',
    ].join('\n');
    const mounts = rootMountsIn(table, { snapshots, namespace: 'esb' });
    expect(mounts).toEqual([{ containerId: containerNamed('a'), path: own }]);
  });
});

describe('names', () => {
  it.each([
    ['hello-0a1b2c3d', false],
    ['hello-0a1b2c3d0a1b2c3d0a1b2c3d0a1b2c3d', true],
    ['esb-files-0f7e1c0a-0000-4000-8000-000000000000', true],
    ['extract-123-abc sha256:00', false],
    ['by-hand', false],
    ['k8s-pod', false],
  ])('%s is ours: %s', (name, ours) => {
    expect(isOwnName(name)).toBe(ours);
  });
});

describe('what a container left', () => {
  it('is removed, but for a socket that somebody listens on', async () => {
    const [sockets, runcRoot] = [folder(), folder()];
    const traces = new Leftovers({ ...owner, runcRoot, shimSocketFolder: sockets });
    const path = (id: string): string => join(sockets, shimSocketName(owner.socketPath, owner.namespace, id));
    const ids = ['live', 'dead', 'file'].map(containerNamed);
    const [live = '', dead = '', file = ''] = ids.map(path);
    const server = createServer();
    const listening = Promise.withResolvers<void>();
    server.listen(live, () => listening.resolve());
    await listening.promise;
    onTestFinished(async () => {
      server.close();
      await once(server, 'close');
    });
    // A socket stays where its process was killed.
    const script = `require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;
    const killed = Promise.withResolvers<void>();
    spawn(process.execPath, ['-e', script, dead]).once('exit', () => killed.resolve());
    await killed.promise;
    writeFileSync(file, '');
    for (const id of ids) {
      mkdirSync(join(runcRoot, 'esb', id), { recursive: true });
    }
    expect(await traces.sockets([...ids, containerNamed('none')])).toEqual(ids);
    expect([...(await traces.runcStates())].toSorted()).toEqual(ids.toSorted());
    for (const id of ids) {
      await traces.remove(id, undefined);
    }
    expect(ids.map((id) => existsSync(path(id)))).toEqual([true, false, true]);
    expect(await traces.runcStates()).toEqual([]);
  });

  it('belongs to nobody where nodes share the folder of runc', async () => {
    expect(await new Leftovers(owner).runcStates()).toEqual([]);
  });
});
