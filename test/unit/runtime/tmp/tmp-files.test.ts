import { mkdtemp, readdir, readFile, rm, stat, statfs, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { abortable } from '../../../../src/common/deadline.ts';
import { undefinedIfNoFile } from '../../../../src/common/errors.ts';
import type { CommandRunner } from '../../../../src/common/exec/command-runner.ts';
import { TmpFiles } from '../../../../src/runtime/tmp/tmp-files.ts';

const MIB = 2 ** 20;

it('files that are made at the same time leave the part of the disk free that is to stay free', async () => {
  const folder = await mkdtemp('/dev/shm/esb-tmp-files-');
  onTestFinished(() => rm(folder, { recursive: true }));
  const allocations: (() => void)[] = [];
  const runner: CommandRunner = {
    run: async ({ args, program }) => {
      if (program === 'mke2fs') {
        await writeFile(args.at(-2) ?? '', '');
      }
      if (program === 'fallocate') {
        await new Promise<void>((resolve) => allocations.push(resolve));
      }
      return { code: 0, stdout: 'inode table at 1\ndebugfs: blocks /\n2\n', stderr: '' };
    },
  };
  const files = new TmpFiles(folder, runner);
  const { bavail, blocks, bsize } = await statfs(folder);
  const usableMiB = ((bavail - blocks * 0.2) * bsize) / 2 ** 20;
  const sizeMiB = Math.floor(usableMiB * 0.6);
  const made = Promise.allSettled(['one', 'two', 'three'].map((id) => files.make(id, sizeMiB)));
  await expect.poll(() => allocations.length).toBeGreaterThan(0);
  const release = setInterval(() => {
    for (const end of allocations) {
      end();
    }
  }, 100);
  onTestFinished(() => clearInterval(release));
  const refused = (await made).filter(({ status }) => status === 'rejected');
  expect(refused).toMatchObject([{ reason: { code: 'NodeFull' } }, { reason: { code: 'NodeFull' } }]);
  // A file that is made takes its blocks alone, and these have none.
  await files.make('four', sizeMiB);
});

describe('a file that is removed', () => {
  /** A disk of 1,000 MiB of which files take what is written here, and a program that allocates files once it may. */
  async function lab(spareDeadlineMs = 60_000) {
    const folder = await mkdtemp('/dev/shm/esb-tmp-files-');
    onTestFinished(() => rm(folder, { recursive: true }));
    const allocated: string[] = [];
    const disk = {
      mayAllocate: Promise.resolve(),
      /** Between the blocks and the end of the program. */
      mayEnd: Promise.resolve(),
      /** Once the room has been measured. */
      measured: async (): Promise<void> => undefined,
      otherBytes: 0,
    };
    const runner: CommandRunner = {
      run: async ({ args, program, signal }) => {
        const path = args.at(program === 'mke2fs' ? -2 : -1) ?? '';
        if (program === 'mke2fs') {
          await writeFile(path, '');
        }
        if (program === 'fallocate') {
          allocated.push(path.slice(folder.length + 1));
          await abortable<void>('allocating', signal, (resolve) => {
            void disk.mayAllocate.then(resolve);
            return undefined;
          });
          await truncate(path, Number(args[1]));
          await disk.mayEnd;
        }
        return { code: 0, stdout: 'inode table at 1\ndebugfs: blocks /\n2\n', stderr: '' };
      },
    };
    const sizes = async (names: readonly string[]) =>
      await Promise.all(names.map(async (name) => (await undefinedIfNoFile(stat(join(folder, name))))?.size ?? 0));
    const roomOf = async () => {
      const used = (await sizes(await readdir(folder))).reduce((sum, bytes) => sum + bytes, disk.otherBytes);
      await disk.measured();
      return { totalBytes: 1000 * MIB, freeBytes: 1000 * MIB - used, totalFiles: 1, freeFiles: 1 };
    };
    const files = new TmpFiles(folder, runner, { roomOf, spareDeadlineMs });
    const spareNames = async () => (await readdir(folder)).filter((name) => name.startsWith('.spare'));
    return {
      allocated,
      disk,
      files,
      next: () => new TmpFiles(folder, runner, { roomOf, spareDeadlineMs }),
      /** Removes a file. The next one is being made by then, and has its blocks once the test says so. */
      removing: async (containerId: string) => {
        const gate = Promise.withResolvers<void>();
        disk.mayAllocate = gate.promise;
        const { length } = allocated;
        const removed = files.remove(containerId);
        await expect.poll(() => allocated.length).toBe(length + 1);
        return { removed, allocate: gate.resolve };
      },
      /** MiB of the empty files. */
      spares: async () => (await sizes(await spareNames())).map((bytes) => bytes / MIB).toSorted((a, b) => a - b),
    };
  }

  it('leaves an empty one of its size, which the next container takes', async () => {
    const { allocated, files, spares } = await lab();
    await files.make('one', 4);
    await writeFile(join(files.folder, 'one'), 'a secret', { flag: 'r+' });
    await files.remove('one');
    await files.remove('one');
    expect(await spares()).toEqual([6]);
    expect([allocated, await files.list()]).toEqual([['one', '.spare-1'], []]);
    await files.make('two', 4);
    expect([allocated.length, await spares(), await files.list()]).toEqual([2, [], ['two']]);
    expect(await readFile(join(files.folder, 'two'), 'latin1')).not.toContain('a secret');
    await files.make('three', 4);
    expect(allocated.at(-1)).toBe('three');
  });

  it('leaves one for which one container of its size waits', async () => {
    const { allocated, files, removing } = await lab();
    await files.make('one', 4);
    const { allocate, removed } = await removing('one');
    const made = Promise.all([files.make('two', 4), files.make('three', 4)]);
    await expect.poll(() => allocated.length).toBe(3);
    allocate();
    await Promise.all([removed, made]);
    expect(allocated).toEqual(['one', '.spare-1', expect.stringMatching(/^(two|three)$/)]);
  });

  it('leaves one for another container where the one that waits is given up', async () => {
    const { allocated, files, removing } = await lab();
    await files.make('one', 4);
    const { allocate, removed } = await removing('one');
    const end = new AbortController();
    const given = files.make('two', 4, end.signal);
    given.catch(() => undefined);
    // The wait for the empty file has begun.
    await setTimeout(50);
    end.abort();
    await expect(given).rejects.toMatchObject({ code: 'Aborted' });
    const made = files.make('three', 4);
    await setTimeout(50);
    allocate();
    await Promise.all([removed, made]);
    expect([allocated, await files.list()]).toEqual([['one', '.spare-1'], ['three']]);
  });

  it('leaves none where the disk takes too long for it', async () => {
    const { disk, files, spares } = await lab(20);
    await files.make('one', 4);
    disk.mayAllocate = new Promise(() => undefined);
    await files.remove('one');
    expect(await spares()).toEqual([]);
  });

  it('leaves those of the two sizes removed last, none of a large size, and none to the next agent', async () => {
    const { disk, files, next, spares } = await lab();
    disk.otherBytes = -2000 * MIB;
    for (const id of ['4-a', '4-b', '5-a', '6-a', '1025-a']) {
      await files.make(id, Number.parseInt(id, 10));
    }
    for (const [id, kept] of [
      ['4-a', [6]],
      ['5-a', [6, 7]],
      ['4-b', [6, 7]],
      ['6-a', [6, 8]],
      ['1025-a', [6, 8]],
    ] as const) {
      await files.remove(id);
      expect(await spares()).toEqual(kept);
    }
    await next().room();
    expect(await spares()).toEqual([]);
    await files.make('later', 6);
    expect(await files.list()).toEqual(['later']);
  });

  it('leaves none once the agent stops, nor one of a killed agent, and those of containers stay', async () => {
    const { allocated, disk, files, next, spares } = await lab();
    await files.make('one', 4);
    await files.make('two', 5);
    await files.remove('one');
    expect(await spares()).toEqual([6]);
    await next().stop();
    expect(await spares()).toEqual([]);
    disk.mayAllocate = new Promise(() => undefined);
    const removed = files.remove('two');
    await expect.poll(() => allocated.length).toBe(4);
    await files.stop();
    await removed;
    disk.mayAllocate = Promise.resolve();
    await files.make('three', 4);
    await files.remove('three');
    await files.make('four', 4);
    expect([await spares(), await files.list()]).toEqual([[], ['four']]);
  });

  it('counts as free, and goes where others make the disk short', async () => {
    const { disk, files, spares } = await lab();
    const before = await files.room();
    await files.make('one', 100);
    await files.remove('one');
    expect(await spares()).toEqual([107]);
    expect(await files.room()).toEqual(before);
    disk.otherBytes = 700 * MIB;
    expect((await files.room()).capacityMiB).toBe(94);
    expect(await spares()).toEqual([]);
  });

  it('counts as free while it is being made', async () => {
    const { allocated, disk, files, spares } = await lab();
    const before = await files.room();
    await files.make('one', 100);
    const gate = Promise.withResolvers<void>();
    disk.mayEnd = gate.promise;
    const removed = files.remove('one');
    await expect.poll(() => allocated.length).toBe(2);
    await expect.poll(spares).toEqual([107]);
    expect(await files.room()).toEqual(before);
    gate.resolve();
    await removed;
    expect(await files.room()).toEqual(before);
  });

  it('leaves none where images would be collected soon after that', async () => {
    const { allocated, disk, files } = await lab();
    await files.make('one', 100);
    disk.otherBytes = 600 * MIB;
    await files.remove('one');
    await files.make('two', 10);
    expect(allocated).toEqual(['one', 'two']);
  });

  it('makes room for two containers at the same time', async () => {
    const { files, spares } = await lab();
    for (const [sizeMiB, kept] of [
      [250, [266]],
      [200, [213, 266]],
    ] as const) {
      await files.make('one', sizeMiB);
      await files.remove('one');
      expect(await spares()).toEqual(kept);
    }
    await Promise.all(['two', 'three'].map((id) => files.make(id, 350)));
    expect(await spares()).toEqual([]);
    await expect(files.make('four', 350)).rejects.toMatchObject({ code: 'NodeFull' });
  });

  it('makes room for a container while the empty one is being made', async () => {
    const { disk, files, removing } = await lab();
    await files.make('one', 370);
    const { removed } = await removing('one');
    disk.mayAllocate = Promise.resolve();
    await files.make('two', 400);
    await removed;
    expect(await files.list()).toEqual(['two']);
  });

  it('makes room for a container beside which another is removed', async () => {
    const { allocated, disk, files } = await lab();
    await files.make('one', 150);
    await files.make('two', 100);
    await files.remove('one');
    const looked = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    let looks = 0;
    disk.measured = async () => {
      looks += 1;
      if (looks === 2) {
        looked.resolve();
        await gate.promise;
      }
    };
    const made = files.make('large', 600);
    await looked.promise;
    disk.mayAllocate = new Promise(() => undefined);
    const removed = files.remove('two');
    await expect.poll(() => allocated.filter((name) => name.startsWith('.spare')).length).toBe(2);
    disk.mayAllocate = Promise.resolve();
    gate.resolve();
    await made;
    await removed;
    expect(await files.list()).toEqual(['large']);
  });
});
