import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../../src/common/clock.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { TaskControl } from '../../../src/runtime/task-control.ts';
import { WorkerCgroups } from '../../../src/runtime/worker-cgroup.ts';
import {
  addWorker,
  type FakeContainerd,
  fakeContainerd,
  refused,
  unavailable,
} from '../../support/fake-containerd.ts';

describe('TaskControl', () => {
  let fake: FakeContainerd;
  let tasks: TaskControl;
  let freezer: string;

  beforeEach(async () => {
    const root = await mkdtemp(join(tmpdir(), 'esb-cgroup-'));
    onTestFinished(() => rm(root, { recursive: true }));
    await mkdir(join(root, 'freezer/esb/w'), { recursive: true });
    freezer = join(root, 'freezer/esb/w/freezer.state');
    await writeFile(freezer, 'THAWED\n');
    fake = fakeContainerd();
    const cgroups = new WorkerCgroups({ root, parent: '/esb' });
    tasks = new TaskControl({ client: fake.client, cgroups, clock: systemClock, logger: silentLogger() });
  });

  it('pauses, and finds pausing twice no fault', async () => {
    addWorker(fake, 'w');
    await tasks.pause('w');
    await tasks.pause('w');
    expect(fake.tasks.get('w')?.status).toBe('PAUSED');
  });

  it('believes the state and not the answer', async () => {
    addWorker(fake, 'w');
    fake.fail('tasks.pause', refused('timeout'), 'after');
    await tasks.pause('w');
    expect(fake.tasks.get('w')?.status).toBe('PAUSED');
    fake.fail('tasks.resume', refused('timeout'), 'after');
    await tasks.resume('w');
    expect(fake.tasks.get('w')?.status).toBe('RUNNING');
  });

  it('takes a failed pause back, below containerd too', async () => {
    addWorker(fake, 'w');
    fake.fail('tasks.pause', refused('the freezer is stuck'));
    await writeFile(freezer, 'FROZEN');
    await expect(tasks.pause('w')).rejects.toThrow('the freezer is stuck');
    expect(fake.calls).toEqual(['tasks.pause w', 'tasks.resume w']);
    expect(await readFile(freezer, 'utf8')).toContain('THAWED');
  });

  it('thaws what containerd calls running and the kernel holds frozen', async () => {
    addWorker(fake, 'w');
    await writeFile(freezer, 'FROZEN');
    await tasks.resume('w');
    expect(await readFile(freezer, 'utf8')).toContain('THAWED');
  });

  it('asks nothing more while containerd is away', async () => {
    addWorker(fake, 'w');
    fake.fail('tasks.pause', unavailable());
    await expect(tasks.pause('w')).rejects.toMatchObject({ code: 'RuntimeUnavailable' });
    expect(fake.calls).toEqual(['tasks.pause w']);
  });

  it('says that a paused worker could not be resumed', async () => {
    addWorker(fake, 'w', 'PAUSED');
    fake.fail('tasks.resume', refused('stuck'));
    await expect(tasks.resume('w')).rejects.toThrow('stuck');
  });

  it.each(['STOPPED', 'CREATED'] as const)('neither pauses nor resumes what is %s', async (status) => {
    addWorker(fake, 'w', status);
    await expect(tasks.pause('w')).rejects.toMatchObject({ code: 'NotFound' });
    await expect(tasks.resume('w')).rejects.toMatchObject({ code: 'NotFound' });
  });

  it('asks again before it takes a task for broken', async () => {
    addWorker(fake, 'w', 'UNKNOWN');
    setTimeout(() => fake.setStatus('w', 'PAUSED'), 20);
    expect(await tasks.find('w')).toMatchObject({ status: 'PAUSED' });
  });

  it.each([
    ['RUNNING', 1000, ['tasks.kill-15 w', 'tasks.delete w']],
    ['RUNNING', 0, ['tasks.kill-9 w', 'tasks.resume w', 'tasks.delete w']],
    ['PAUSED', 1000, ['tasks.kill-9 w', 'tasks.resume w', 'tasks.delete w']],
    ['PAUSING', 1000, ['tasks.kill-9 w', 'tasks.resume w', 'tasks.delete w']],
    ['CREATED', 1000, ['tasks.kill-9 w', 'tasks.resume w', 'tasks.delete w']],
    ['UNKNOWN', 1000, ['tasks.kill-9 w', 'tasks.resume w', 'tasks.delete w']],
    ['STOPPED', 1000, ['tasks.delete w']],
  ] as const)('ends what is %s, given %d ms', async (status, graceMs, calls) => {
    addWorker(fake, 'w', status);
    const found = fake.tasks.get('w');
    if (found !== undefined) {
      await tasks.end('w', found, graceMs);
    }
    expect(fake.calls).toEqual(calls);
    expect(await tasks.find('w')).toBeUndefined();
  });

  it('kills what does not end within its grace', async () => {
    addWorker(fake, 'w');
    fake.fail('tasks.kill-15', refused('ignored'));
    const found = await tasks.find('w');
    if (found !== undefined) {
      await tasks.end('w', found, 20);
    }
    expect(fake.calls).toEqual(['tasks.kill-15 w', 'tasks.kill-9 w', 'tasks.resume w', 'tasks.delete w']);
  });
});
