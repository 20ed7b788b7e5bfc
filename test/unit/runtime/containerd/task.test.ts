import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../../../src/common/clock.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import type { ContainerdClient } from '../../../../src/containerd/containerd-client.ts';
import { Freezer } from '../../../../src/runtime/containerd/freezer.ts';
import { TaskControl } from '../../../../src/runtime/containerd/task.ts';
import {
  addWorker,
  type FakeContainerd,
  fakeContainerd,
  refused,
  unavailable,
} from '../../../support/fake-containerd.ts';

describe('TaskControl', () => {
  let fake: FakeContainerd;
  let tasks: TaskControl;
  let freezer: string;
  const frozen = async (): Promise<boolean> => (await readFile(freezer, 'utf8')).startsWith('FROZEN');
  const never = new AbortController().signal;

  beforeEach(async () => {
    const root = await mkdtemp(join(tmpdir(), 'esb-cgroup-'));
    onTestFinished(() => rm(root, { recursive: true }));
    await mkdir(join(root, 'freezer/esb/w'), { recursive: true });
    freezer = join(root, 'freezer/esb/w/freezer.state');
    await writeFile(freezer, 'THAWED\n');
    fake = fakeContainerd();
    tasks = new TaskControl({
      client: withFreezer(fake, freezer),
      freezer: new Freezer({
        folders: (id) => ({ v1: join(root, 'freezer/esb', id), v2: join(root, 'esb', id) }),
      }),
      clock: systemClock,
      logger: silentLogger(),
    });
  });

  it('pauses, and finds pausing twice no fault', async () => {
    addWorker(fake, 'w');
    await tasks.pause('w');
    await tasks.pause('w');
    expect(fake.calls).toEqual(['tasks.pause w']);
    expect(await tasks.find('w')).toMatchObject({ status: 'PAUSED', told: 'PAUSED' });
  });

  it.each(['RUNNING', 'PAUSED'] as const)(
    'does not freeze what is %s when nobody waits for it any more',
    async (told) => {
      addWorker(fake, 'w', told);
      await expect(tasks.pause('w', AbortSignal.abort())).rejects.toMatchObject({ code: 'Aborted' });
      expect(await frozen()).toBe(false);
      expect(fake.calls).toEqual([]);
    },
  );

  it.each([
    ['its shim, when containerd answers for others', false, 'TaskUnanswering'],
    ['containerd, when it answers for nobody', true, 'RuntimeUnavailable'],
  ] as const)('blames for a task that is not told of %s', async (_, all, code) => {
    addWorker(fake, 'w');
    fake.hung.add('w');
    fake.deaf = all;
    await expect(tasks.find('w')).rejects.toMatchObject({ code, retryable: true });
    await expect(tasks.pause('w')).rejects.toMatchObject({ code });
    expect(await tasks.settle('w', never), 'it runs on').toBe(false);
    expect(await frozen()).toBe(false);
    expect(fake.calls).toEqual([]);
  });

  it('knows from the kernel alone what there is', async () => {
    await writeFile(join(freezer, '../cgroup.procs'), '7\n');
    expect(tasks.kernelState('w')).toBe('Running');
    await writeFile(freezer, 'FREEZING\n');
    expect(tasks.kernelState('w')).toBe('Paused');
    await writeFile(join(freezer, '../cgroup.procs'), '');
    expect(tasks.kernelState('w')).toBe('Gone');
    expect(tasks.kernelState('nobody')).toBe('Gone');
    await rm(join(freezer, '../../..'), { recursive: true });
    expect(tasks.kernelState('w'), 'the cgroup of all workers is not to be seen').toBe('Untold');
  });

  it('thaws below containerd, and knows that it runs although containerd calls it paused', async () => {
    addWorker(fake, 'w');
    await tasks.pause('w');
    expect(tasks.thawDirectly('w')).toBe(true);
    expect(await frozen()).toBe(false);
    expect(fake.calls).toEqual(['tasks.pause w']);
    expect(await tasks.find('w')).toMatchObject({ status: 'RUNNING', told: 'PAUSED' });
    expect(tasks.thawDirectly('w')).toBe(false);
  });

  it('freezes below containerd what containerd calls paused', async () => {
    addWorker(fake, 'w');
    await tasks.pause('w');
    await tasks.resume('w');
    await tasks.pause('w');
    expect(fake.calls).toEqual(['tasks.pause w']);
    expect(await frozen()).toBe(true);
    expect(await tasks.find('w')).toMatchObject({ status: 'PAUSED', told: 'PAUSED' });
  });

  it('lets containerd know of a thaw below it by a freeze that a resume ends', async () => {
    addWorker(fake, 'w');
    await tasks.pause('w');
    tasks.thawDirectly('w');
    expect(await tasks.settle('w', never)).toBe(true);
    expect(await frozen()).toBe(false);
    expect(fake.tasks.get('w')?.status).toBe('RUNNING');
    expect(await tasks.settle('w', never)).toBe(true);
    expect(fake.calls).toEqual(['tasks.pause w', 'tasks.resume w']);
  });

  it('does not freeze for that what nobody thawed below containerd', async () => {
    addWorker(fake, 'w', 'PAUSED');
    await writeFile(freezer, 'FROZEN\n');
    expect(await tasks.settle('w', never)).toBe(true);
    expect(await frozen()).toBe(true);
    expect(fake.calls).toEqual([]);
  });

  it('thaws in the same step in which that is interrupted', async () => {
    addWorker(fake, 'w', 'PAUSED');
    const hold = Promise.withResolvers<void>();
    const asked = Promise.withResolvers<void>();
    fake.hold = async () => {
      asked.resolve();
      await hold.promise;
    };
    const call = new AbortController();
    const settled = tasks.settle('w', call.signal);
    await asked.promise;
    expect(await frozen()).toBe(true);
    call.abort();
    // Read before anything else can have run.
    expect(tasks.isFrozen('w')).toBe(false);
    hold.resolve();
    expect(await settled).toBe(false);
    expect(await frozen()).toBe(false);
  });

  it('is not begun once it is interrupted', async () => {
    addWorker(fake, 'w', 'PAUSED');
    expect(await tasks.settle('w', AbortSignal.abort())).toBe(false);
    expect(await frozen()).toBe(false);
  });

  it.each([refused('busy'), unavailable()])('leaves it running when containerd says %s', async (error) => {
    addWorker(fake, 'w', 'PAUSED');
    fake.fail('tasks.resume', error);
    expect(await tasks.settle('w', never)).toBe(false);
    expect(await frozen()).toBe(false);
  });

  it('goes by way of containerd where there is no freezer to be seen', async () => {
    addWorker(fake, 'x', 'PAUSED');
    expect(tasks.thawDirectly('x')).toBe(false);
    await tasks.resume('x');
    expect(fake.calls).toEqual(['tasks.resume x']);
    await tasks.pause('x');
    expect(fake.tasks.get('x')?.status).toBe('PAUSED');
  });

  it('believes the state and not the answer', { tags: ['P8'] }, async () => {
    addWorker(fake, 'w');
    fake.fail('tasks.pause', refused('timeout'), 'after');
    await tasks.pause('w');
    expect(fake.tasks.get('w')?.status).toBe('PAUSED');
    await rm(freezer);
    fake.fail('tasks.resume', refused('timeout'), 'after');
    await tasks.resume('w');
    expect(fake.tasks.get('w')?.status).toBe('RUNNING');
  });

  it('takes a failed pause back, below containerd too', { tags: ['P1'] }, async () => {
    addWorker(fake, 'w');
    fake.fail('tasks.pause', refused('the freezer is stuck'));
    fake.hold = () => writeFile(freezer, 'FROZEN');
    await expect(tasks.pause('w')).rejects.toThrow('the freezer is stuck');
    expect(fake.calls).toEqual(['tasks.pause w', 'tasks.resume w']);
    fake.hold = undefined;
    expect(await frozen()).toBe(false);
  });

  it('thaws what containerd calls running and the kernel holds frozen', async () => {
    addWorker(fake, 'w');
    await writeFile(freezer, 'FROZEN');
    expect(await tasks.find('w')).toMatchObject({ status: 'PAUSED', told: 'RUNNING' });
    await tasks.resume('w');
    expect(await frozen()).toBe(false);
  });

  it('asks nothing more while containerd is away', async () => {
    addWorker(fake, 'w');
    fake.fail('tasks.pause', unavailable());
    await expect(tasks.pause('w')).rejects.toMatchObject({ code: 'RuntimeUnavailable' });
    expect(fake.calls).toEqual(['tasks.pause w']);
  });

  it('says that a paused worker could not be resumed', { tags: ['P9'] }, async () => {
    addWorker(fake, 'w', 'PAUSED');
    await rm(freezer);
    fake.fail('tasks.resume', refused('stuck'));
    await expect(tasks.resume('w')).rejects.toThrow('stuck');
  });

  it.each(['STOPPED', 'CREATED'] as const)('neither pauses nor resumes what is %s', async (status) => {
    addWorker(fake, 'w', status);
    await expect(tasks.pause('w')).rejects.toMatchObject({ code: 'NotFound' });
    await expect(tasks.resume('w')).rejects.toMatchObject({ code: 'NotFound' });
  });

  it('asks again before it takes a task for broken', { tags: ['P7'] }, async () => {
    addWorker(fake, 'w', 'UNKNOWN');
    await writeFile(freezer, 'FROZEN');
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
    await writeFile(freezer, status === 'PAUSED' ? 'FROZEN' : 'THAWED');
    const found = fake.tasks.get('w');
    if (found !== undefined) {
      await tasks.end('w', found, graceMs);
    }
    await tasks.delete('w');
    expect(fake.calls).toEqual(calls);
    expect(await tasks.find('w')).toBeUndefined();
  });

  it('gives what was thawed below containerd its grace', async () => {
    addWorker(fake, 'w', 'PAUSED');
    const found = await tasks.find('w');
    if (found !== undefined) {
      await tasks.end('w', found, 1000);
    }
    await tasks.delete('w');
    expect(fake.calls).toEqual(['tasks.kill-15 w', 'tasks.delete w']);
  });

  it('kills what does not end within its grace', async () => {
    addWorker(fake, 'w');
    fake.fail('tasks.kill-15', refused('ignored'));
    const found = await tasks.find('w');
    if (found !== undefined) {
      await tasks.end('w', found, 20);
    }
    await tasks.delete('w');
    expect(fake.calls).toEqual(['tasks.kill-15 w', 'tasks.kill-9 w', 'tasks.resume w', 'tasks.delete w']);
  });
});

/** containerd with runc behind it, which freezes by the kernel's file and resumes only what that says is frozen. */
function withFreezer(fake: FakeContainerd, file: string): ContainerdClient {
  const { tasks } = fake.client;
  const through = async (id: string, call: () => Promise<void>): Promise<void> => {
    const before = fake.tasks.get(id)?.status;
    try {
      await fake.hold?.();
      await call();
    } finally {
      const after = fake.tasks.get(id)?.status;
      if (id === 'w' && before !== after) {
        await writeFile(file, after === 'PAUSED' ? 'FROZEN\n' : 'THAWED\n');
      }
    }
  };
  return {
    ...fake.client,
    tasks: {
      ...tasks,
      pause: (id, options) => through(id, () => tasks.pause(id, options)),
      resume: (id, options) =>
        through(id, async () => {
          if (id === 'w' && (await readFile(file, 'utf8').catch(() => 'FROZEN')).startsWith('THAWED')) {
            fake.calls.push(`tasks.resume ${id}`);
            throw refused('container not paused');
          }
          await tasks.resume(id, options);
        }),
    },
  };
}
