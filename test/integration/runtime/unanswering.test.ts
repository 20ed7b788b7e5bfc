import { readdir, readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import type { ContainerRuntime } from '../../../src/runtime/contract/runtime.ts';
import { ensureRequest, type Lab, shimsOf } from '../../support/lab.ts';
import { useLab } from '../../support/use-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

describe('a list of workers', () => {
  let lab: Lab;
  let runtime: ContainerRuntime;
  useLab((started, itsRuntime) => {
    [lab, runtime] = [started, itsRuntime];
  });

  /** Two workers, and the shim of the second one. */
  const two = async (): Promise<{ well: string; hung: string; shim: number }> => {
    const { containerId: well } = await runtime.ensure(ensureRequest(lab, 'well'));
    const before = new Set(await shimsOf(lab.socketPath));
    const { containerId: hung } = await runtime.ensure(ensureRequest(lab, 'hung'));
    const shim = (await shimsOf(lab.socketPath)).find((pid) => !before.has(pid)) ?? 0;
    return { well, hung, shim };
  };
  /** Stops a shim; threads of it may answer for a moment after the signal. */
  const hang = async (shim: number): Promise<void> => {
    process.kill(shim, 'SIGSTOP');
    await waitFor('all threads of the shim to be stopped', async () => {
      const threads = await readdir(`/proc/${shim}/task`);
      const states = await Promise.all(threads.map((thread) => readFile(`/proc/${shim}/task/${thread}/stat`, 'utf8')));
      return states.every((stat) => stat.slice(stat.lastIndexOf(')')).startsWith(') T'));
    });
  };
  const listed = async (): Promise<Readonly<Record<string, unknown>>> =>
    Object.fromEntries((await runtime.list()).map(({ containerId, task }) => [containerId, task]));

  it.each(['Running', 'Paused'] as const)('tells of one whose shim hangs what the kernel says: %s', async (kernel) => {
    const { well, hung, shim } = await two();
    if (kernel === 'Paused') {
      await runtime.pause(hung);
    }
    await hang(shim);
    const unanswering = { kind: 'Unanswering', kernel };
    expect(await listed()).toMatchObject({ [well]: { kind: 'Running' }, [hung]: unanswering });
    expect((await runtime.inspect(hung))?.task).toEqual(unanswering);
    expect((await runtime.inspect(hung))?.address).toBeDefined();
    if (kernel === 'Running') {
      await expect(runtime.pause(hung)).rejects.toMatchObject({ code: 'TaskUnanswering' });
      expect(await runtime.settle(hung)).toBe(false);
    } else {
      await runtime.resume(hung);
    }
    expect(runtime.kernelState(hung)).toBe('Running');
    process.kill(shim, 'SIGCONT');
    await waitFor('it to answer again', async () => (await runtime.inspect(hung))?.task.kind === 'Running');
  });

  it('tells of one that ended meanwhile that no process is left in it', async () => {
    const { hung, shim } = await two();
    const task = (await runtime.inspect(hung))?.task;
    await hang(shim);
    process.kill(task?.kind === 'Running' ? task.pid : 0, 'SIGKILL');
    await waitFor('the kernel to say so', () => runtime.kernelState(hung) === 'Gone');
    expect((await listed())[hung]).toEqual({ kind: 'Unanswering', kernel: 'Gone' });
  });

  it('is refused while containerd answers for nobody, and nothing is ended for that', async () => {
    const { well, hung } = await two();
    const shims = await shimsOf(lab.socketPath);
    lab.containerd.signal('SIGSTOP');
    try {
      await Promise.all([
        expect(runtime.list()).rejects.toMatchObject({ code: 'RuntimeUnavailable' }),
        expect(runtime.pause(well)).rejects.toMatchObject({ code: 'RuntimeUnavailable' }),
        expect(runtime.destroy(hung)).rejects.toMatchObject({ code: 'RuntimeUnavailable' }),
      ]);
      expect(await shimsOf(lab.socketPath)).toEqual(shims);
      expect([runtime.kernelState(well), runtime.kernelState(hung)]).toEqual(['Running', 'Running']);
    } finally {
      lab.containerd.signal('SIGCONT');
    }
    await waitFor('containerd', async () => (await runtime.health()).ok);
  });
});
