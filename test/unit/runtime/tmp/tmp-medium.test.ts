import { tmpdir } from 'node:os';
import { describe, expect, it } from 'vitest';
import { systemCommandRunner } from '../../../../src/common/exec/command-runner.ts';
import { fileBytes, TmpFiles } from '../../../../src/runtime/tmp/tmp-files.ts';
import { TmpMedium } from '../../../../src/runtime/tmp/tmp-medium.ts';

const files = new TmpFiles(tmpdir(), systemCommandRunner);
const never = new AbortController().signal;

describe('the medium of /tmp', () => {
  it('is memory at once where no disk is asked for', async () => {
    const medium = new TmpMedium(files, false);
    expect(medium.isOnDisk).toBe(false);
    expect(await medium.chosen(never)).toMatchObject({ kind: 'Memory' });
    expect(await medium.storage()).toMatchObject({ medium: 'Tmpfs' });
  });

  it('is waited for until it was tried, and tried once', async () => {
    const medium = new TmpMedium(files, true);
    expect(await medium.storage()).toBeUndefined();
    const waiting = medium.chosen(never);
    let trials = 0;
    const trial = (): Promise<string | undefined> => {
      trials += 1;
      return Promise.resolve(undefined);
    };
    await medium.decide(trial);
    await medium.decide(trial);
    expect(await waiting).toEqual({ kind: 'Disk', files });
    expect([medium.isOnDisk, trials]).toEqual([true, 1]);
  });

  it('is memory where a file cannot be used, and not decided where that is not known', async () => {
    const medium = new TmpMedium(files, true);
    await expect(medium.decide(() => Promise.reject(new Error('containerd is away')))).rejects.toThrow();
    const given = new AbortController();
    const waiting = medium.chosen(given.signal);
    given.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'Aborted' });
    await medium.decide(() => Promise.resolve('no loop device'));
    expect(await medium.storage()).toEqual({ medium: 'Tmpfs', message: 'no loop device' });
  });

  it('takes a little more of the disk than a worker may write', () => {
    expect([1, 64, 1_024].map((size) => fileBytes(size) / 2 ** 20)).toEqual([3, 69, 1_087]);
  });
});
