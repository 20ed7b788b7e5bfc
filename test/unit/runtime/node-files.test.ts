import { mkdir, mkdtemp, readdir, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../../src/common/clock.ts';
import { WorkerCgroups } from '../../../src/runtime/containerd/cgroups.ts';
import { containerOf, shimOf } from '../../../src/runtime/containerd/shim-process.ts';
import { layersOf, readUserFiles } from '../../../src/runtime/images/user-files.ts';
import { WorkerLogs } from '../../../src/runtime/logs/worker-logs.ts';
import { fakeContainerd } from '../../support/fake-containerd.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'esb-files-'));
  onTestFinished(() => rm(folder, { recursive: true }));
});

async function write(path: string, text: string): Promise<void> {
  await mkdir(join(folder, path, '..'), { recursive: true });
  await writeFile(join(folder, path), text);
}

describe('WorkerCgroups', () => {
  const cgroups = (): WorkerCgroups => new WorkerCgroups({ root: folder, parent: '/esb' });

  it('reads and writes version 1', async () => {
    await write('memory/esb/w/memory.oom_control', 'oom_kill_disable 0\nunder_oom 0\noom_kill 2\n');
    await write('freezer/esb/w/freezer.state', 'FROZEN\n');
    expect(cgroups().oomKills('w')).toBe(2);
    await cgroups().thaw('w');
    expect(await readFile(join(folder, 'freezer/esb/w/freezer.state'), 'utf8')).toMatch(/^THAWED/);
  });

  it('reads and writes version 2', async () => {
    await write('esb/w/memory.events', 'low 0\nhigh 0\nmax 9\noom 3\noom_kill 3\noom_group_kill 0\n');
    await write('esb/w/cgroup.freeze', '1\n');
    expect(cgroups().oomKills('w')).toBe(3);
    await cgroups().thaw('w');
    expect(await readFile(join(folder, 'esb/w/cgroup.freeze'), 'utf8')).toMatch(/^0/);
  });

  it('finds a cgroup that is gone neither frozen nor out of memory', async () => {
    expect(cgroups().oomKills('w')).toBe(0);
    await cgroups().thaw('w');
    await cgroups().clear('w');
  });
});

describe('WorkerLogs', () => {
  it('gives the end of a log, or what came after an offset', async () => {
    const logs = new WorkerLogs(folder);
    expect(await logs.size('w')).toBe(0);
    expect((await logs.read('w', 0, 10)).length).toBe(0);
    await write('w.log', 'one\ntwo\nthree\n');
    expect(await logs.size('w')).toBe(14);
    expect((await logs.read('w', 0, 6)).toString()).toBe('three\n');
    expect((await logs.read('w', 4, 100)).toString()).toBe('two\nthree\n');
    expect((await logs.read('w', 100, 100)).toString()).toBe('');
    await logs.remove('w');
    await logs.remove('w');
    expect(await logs.size('w')).toBe(0);
  });

  it('drops old logs of containers that are gone', async () => {
    const logs = new WorkerLogs(folder);
    for (const name of ['kept', 'old', 'fresh']) {
      await write(`${name}.log`, 'x');
    }
    await write('other', 'x');
    await utimes(join(folder, 'old.log'), 1, 1);
    await utimes(join(folder, 'kept.log'), 1, 1);
    await logs.prune(new Set(['kept']), Date.now() - 60_000);
    expect((await readdir(folder)).toSorted()).toEqual(['fresh.log', 'kept.log', 'other']);
  });

  it('names its file for containerd', () => {
    expect(new WorkerLogs('/var/lib/esb logs').uri('w')).toBe('file:///var/lib/esb%20logs/w.log');
  });
});

describe('readUserFiles', () => {
  it('takes each file from the uppermost layer that has it, and no link', async () => {
    await write('low/etc/passwd', 'low');
    await write('low/etc/group', 'group');
    await write('high/etc/passwd', 'high');
    await mkdir(join(folder, 'top/etc'), { recursive: true });
    await symlink('/etc/group', join(folder, 'top/etc/group'));
    await mkdir(join(folder, 'linked'));
    await symlink(join(folder, 'low/etc'), join(folder, 'linked/etc'));
    const fake = fakeContainerd();
    const read = async (...layers: readonly string[]): Promise<unknown> => {
      const lower = layers.map((layer) => join(folder, layer)).join(':');
      const mounts = [{ type: 'overlay', source: 'overlay', options: ['index=off', `lowerdir=${lower}`] }];
      const client = {
        ...fake.client,
        snapshots: { ...fake.client.snapshots, view: () => Promise.resolve(mounts) },
      };
      return await readUserFiles(client, systemClock, 'chain', {});
    };
    expect(await read('high', 'low')).toEqual({ passwd: 'high', group: 'group' });
    expect(await read('top', 'high', 'low')).toEqual({ passwd: 'high', group: '' });
    expect(await read('linked', 'low')).toEqual({ passwd: '', group: '' });
    expect(await read('none')).toEqual({ passwd: '', group: '' });
    expect(fake.leases.size).toBe(0);
  });

  it('knows an image with one layer', () => {
    expect(layersOf([{ type: 'bind', source: '/layer', options: ['ro', 'rbind'] }])).toEqual(['/layer']);
  });
});

describe('shimOf', () => {
  const owner = { socketPath: '/run/c.sock', namespace: 'esb' };
  const line = '/bin/containerd-shim-runc-v2 -namespace esb -id w -address /run/c.sock'.split(' ');
  it('knows the shim of one container of one containerd', () => {
    expect(shimOf(line, owner)).toBe('w');
    expect(shimOf(line, { ...owner, socketPath: '/run/other.sock' })).toBeUndefined();
    expect(shimOf(line, { ...owner, namespace: 'k8s.io' })).toBeUndefined();
    expect(shimOf(['grep', ...line], owner)).toBeUndefined();
    expect(shimOf([], owner)).toBeUndefined();
  });

  it('takes what containerd runs to clear up after a dead one for no shim', () => {
    const cleanup = [...line, '-bundle', '/run/b/w', 'delete'];
    expect(shimOf(cleanup, owner)).toBeUndefined();
    expect(containerOf(cleanup, owner)).toBe('w');
  });
});
