import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { WorkerCgroups } from '../../../../src/runtime/containerd/cgroups.ts';
import { manualClock } from '../../../support/manual-clock.ts';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'esb-cgroup-'));
  onTestFinished(() => rm(root, { recursive: true }));
});

async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true });
  await writeFile(join(root, path), text);
}

describe('the limits that a worker ran into', () => {
  it('are counted by version 1', async () => {
    await write('pids/esb/w/pids.events', 'max 4\n');
    await write('memory/esb/w/memory.oom_control', 'oom_kill_disable 0\nunder_oom 0\noom_kill 2\n');
    expect(new WorkerCgroups({ root }).limitHits('w')).toEqual({ processes: 4, memory: 2 });
  });

  it('are counted by version 2', async () => {
    await write('esb/w/pids.events', 'max 4\n');
    await write('esb/w/memory.events', 'low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n');
    expect(new WorkerCgroups({ root }).limitHits('w')).toEqual({ processes: 4, memory: 2 });
  });

  it('are none of a worker that is gone', () => {
    expect(new WorkerCgroups({ root }).limitHits('w')).toBeUndefined();
  });
});

describe('what a worker uses', () => {
  const clock = manualClock();
  const usage = async () => await new WorkerCgroups({ root, clock }).usage('w');

  it.each(['cpuacct', 'cpu,cpuacct'])('is told by version 1, with the processor time in %s', async (hierarchy) => {
    await write(`${hierarchy}/esb/w/cpuacct.usage`, '1500000\n');
    await write('memory/esb/w/memory.usage_in_bytes', '9000\n');
    await write('memory/esb/w/memory.stat', 'inactive_file 1\ntotal_inactive_file 2000\n');
    expect(await usage()).toEqual({ cpuUs: 1_500, memoryBytes: 7_000, takenAt: clock.now() });
  });

  it('is told by version 2', async () => {
    await write('esb/w/cpu.stat', 'usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n');
    await write('esb/w/memory.current', '9000\n');
    await write('esb/w/memory.stat', 'anon 5000\ninactive_file 2000\n');
    expect(await usage()).toEqual({ cpuUs: 1_500, memoryBytes: 7_000, takenAt: clock.now() });
  });

  it('is nothing once the worker is gone', async () => {
    expect(await usage()).toBeUndefined();
  });
});

describe('cgroups that systemd makes', () => {
  it('are found by the names that it gives them', async () => {
    const cgroups = new WorkerCgroups({ root, driver: 'systemd', parent: 'esb-workers.slice' });
    const folder = 'esb.slice/esb-workers.slice/esb-hello-3f2a91bc.scope';
    await write(`${folder}/memory.events`, 'oom_kill 1\n');
    await write('esb.slice/esb-workers.slice/cgroup.procs', '');
    expect(cgroups.oomKills('hello-3f2a91bc')).toBe(1);
    expect(await cgroups.list()).toEqual(['hello-3f2a91bc']);
    expect(cgroups.freezerFolders('hello-3f2a91bc').v2).toBe(join(root, folder));
  });
});

describe('the processes of a worker', () => {
  it('are none where the kernel says 0: that would be the process group of whoever kills it', async () => {
    await write('freezer/esb/w/cgroup.procs', '0\n4242\n0\n');
    expect(await new WorkerCgroups({ root }).processes('w')).toEqual([4242]);
  });
});
