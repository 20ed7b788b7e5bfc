import { expect, it } from 'vitest';
import { waitFor } from '../../../support/wait-for.ts';
import type { ConformanceTests } from './conformance-suite.ts';

/** Errors of workers that are no good. */
export const faultContract: ConformanceTests = (bench) => {
  it('tells of one that exits at once with its code and last output, and keeps only its log', async () => {
    const { request, runtime } = bench();
    const wanted = request('crasher', {
      env: [
        { name: 'EXIT', value: '7' },
        { name: 'PRINT', value: 'cannot find my wand' },
      ],
    });
    await expect(runtime.ensure(wanted)).rejects.toMatchObject({
      code: 'ExitedAtOnce',
      retryable: true,
      message: expect.stringContaining('cannot find my wand'),
      exit: { exitCode: 7, oomKilled: false, output: 'cannot find my wand\n', finishedAt: expect.any(Date) },
    });
    expect(await runtime.inspect(wanted.containerId)).toBeUndefined();
    expect((await runtime.readLog(wanted.containerId, 1000)).toString()).toBe('cannot find my wand\n');
    await runtime.destroy(wanted.containerId);
  });

  it('tells of one that needs more memory than it may have', async () => {
    const { request, runtime } = bench();
    const wanted = request('greedy', { memoryMiB: 32, env: [{ name: 'ALLOCATE', value: '200' }] });
    await expect(runtime.ensure(wanted)).rejects.toMatchObject({
      code: 'ExitedAtOnce',
      message: expect.stringContaining('memory'),
      exit: { exitCode: 137, oomKilled: true },
    });
    await runtime.destroy(wanted.containerId);
  });

  it('tells of one that outgrows its memory in a call, and of the event', async () => {
    const { lab, request, runtime, state } = bench();
    const seen: string[] = [];
    const unsubscribe = runtime.subscribe(({ kind }) => seen.push(kind));
    const wanted = request('growing', { memoryMiB: 32 });
    const { address } = await runtime.ensure(wanted);
    await expect(lab.call(address, { allocate: 200 })).rejects.toThrow();
    await waitFor('its end', async () => (await state(wanted.containerId)) === 'Stopped');
    await waitFor('the event', () => seen.includes('OutOfMemory'));
    // Docker learns of the end first, and of the kernel's reason a moment later.
    const task = await waitFor('the reason', async () => {
      const info = await runtime.inspect(wanted.containerId);
      return info?.task.kind === 'Stopped' && info.task.oomKilled ? info.task : undefined;
    });
    expect(task).toMatchObject({ exitCode: 137 });
    unsubscribe();
  });

  it('tells of a limit that is too small to start at all', async () => {
    const { request, runtime } = bench();
    const wanted = request('tiny', { memoryMiB: 1, ephemeralStorageMiB: 1 });
    await expect(runtime.ensure(wanted)).rejects.toMatchObject({ code: 'MemoryTooSmall' });
    await runtime.destroy(wanted.containerId);
  });

  it('tells of one that does not listen where it should, with its output', async () => {
    const { lab, request } = bench();
    const wanted = request('elsewhere', { port: 9999 });
    const impatient = await lab.runtime({ listenDeadlineMs: 3_000 });
    await expect(impatient.ensure(wanted)).rejects.toMatchObject({
      code: 'NotListening',
      message: expect.stringMatching(/9999.*listening on 0\.0\.0\.0:8080/s),
    });
    await impatient.destroy(wanted.containerId);
    await impatient.stop();
  });

  it('tells of a program that is not in the image', async () => {
    const { lab, request, runtime } = bench();
    await expect(runtime.ensure(request('lost', { command: ['/no/such/program'] }))).rejects.toMatchObject({
      code: expect.stringMatching(/^(Create|Start)Failed$/),
      message: expect.stringContaining('/no/such/program'),
    });
    expect(await lab.leftovers()).toEqual([]);
  });
};
