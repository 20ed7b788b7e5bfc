import { tmpdir } from 'node:os';
import { describe, expect, it } from 'vitest';
import { systemCommandRunner } from '../../../../src/common/exec/command-runner.ts';
import { fileBytes, TmpFiles } from '../../../../src/runtime/tmp/tmp-files.ts';
import { TmpMedium } from '../../../../src/runtime/tmp/tmp-medium.ts';
import { manualClock } from '../../../support/manual-clock.ts';

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

  it('is tried again, ever more seldom, where no file could be used, and is on disk from then on', async () => {
    const clock = manualClock();
    const medium = new TmpMedium(files, true);
    const began = clock.monotonic();
    const triedAt: number[] = [];
    const trial = (): Promise<string | undefined> => {
      triedAt.push((clock.monotonic() - began) / 60_000);
      if (triedAt.length === 2) {
        return Promise.reject(new Error('containerd is away'));
      }
      const fault = triedAt.length === 1 ? 'no loop device' : 'still no loop device';
      return Promise.resolve(triedAt.length < 10 ? fault : undefined);
    };
    const trying = medium.keepTrying(trial, clock, never);
    await medium.decide(trial);
    await clock.advance(60_000);
    expect(await medium.storage()).toEqual({ medium: 'Tmpfs', message: 'no loop device' });
    await clock.advance(120_000);
    expect(await medium.storage()).toEqual({ medium: 'Tmpfs', message: 'still no loop device' });
    await clock.advance(5 * 3_600_000);
    expect(triedAt).toEqual([0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
    expect(await trying).toBe(true);
    expect(medium.isOnDisk).toBe(true);
    expect(await medium.chosen(never)).toEqual({ kind: 'Disk', files });
  });

  it('is not tried again where it is on disk, or is to be memory, or the agent ends', async () => {
    const fail = (): Promise<undefined> => Promise.reject(new Error('tried again'));
    const clock = manualClock();
    const onDisk = new TmpMedium(files, true);
    await onDisk.decide(() => Promise.resolve(undefined));
    expect(await onDisk.keepTrying(fail, clock, never)).toBe(false);
    expect(await new TmpMedium(files, false).keepTrying(fail, clock, never)).toBe(false);
    const stopping = new AbortController();
    const inMemory = new TmpMedium(files, true);
    await inMemory.decide(() => Promise.resolve('no loop device'));
    const trying = inMemory.keepTrying(fail, clock, stopping.signal);
    stopping.abort();
    await expect(trying).rejects.toMatchObject({ code: 'Aborted' });
  });

  it('takes a little more of the disk than a worker may write', () => {
    expect([1, 64, 1_024].map((size) => fileBytes(size) / 2 ** 20)).toEqual([3, 69, 1_087]);
  });
});
