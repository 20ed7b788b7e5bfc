import { mkdtemp, readdir, readFile, rm, statfs, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { CommandRunner } from '../../../../src/common/exec/command-runner.ts';
import { TmpFiles } from '../../../../src/runtime/tmp/tmp-files.ts';

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
  async function lab() {
    const folder = await mkdtemp('/dev/shm/esb-tmp-files-');
    onTestFinished(() => rm(folder, { recursive: true }));
    const allocated: string[] = [];
    const runner: CommandRunner = {
      run: async ({ args, program }) => {
        const path = args.at(program === 'mke2fs' ? -2 : -1) ?? '';
        if (program === 'mke2fs') {
          await writeFile(path, '');
        }
        if (program === 'fallocate') {
          await truncate(path, Number(args[1]));
          allocated.push(path.slice(folder.length + 1));
        }
        return { code: 0, stdout: 'inode table at 1\ndebugfs: blocks /\n2\n', stderr: '' };
      },
    };
    const spares = async () => (await readdir(folder)).filter((name) => name.startsWith('.spare'));
    return { allocated, files: new TmpFiles(folder, runner), folder, next: () => new TmpFiles(folder, runner), spares };
  }

  it('leaves an empty one of its size, which the next container takes', async () => {
    const { allocated, files, spares } = await lab();
    await files.make('one', 4);
    await writeFile(join(files.folder, 'one'), 'a secret', { flag: 'r+' });
    await files.remove('one');
    await files.remove('one');
    expect([allocated, await spares(), await files.list()]).toEqual([['one', '.spare-1'], ['.spare-1'], []]);
    await files.make('two', 4);
    expect([allocated.length, await spares(), await files.list()]).toEqual([2, [], ['two']]);
    expect(await readFile(join(files.folder, 'two'), 'latin1')).not.toContain('a secret');
    await files.make('three', 4);
    expect(allocated.at(-1)).toBe('three');
  });

  it('leaves none beside those of two sizes, none of a large size, and none to the next agent', async () => {
    const { files, next, spares } = await lab();
    for (const [index, sizeMiB] of [4, 5, 6, 1025].entries()) {
      await files.make(`w-${index}`, sizeMiB);
      await files.remove(`w-${index}`);
    }
    expect(await spares()).toEqual(['.spare-2', '.spare-3']);
    await next().room();
    expect(await spares()).toEqual([]);
    await files.make('later', 6);
    expect(await files.list()).toEqual(['later']);
  });

  it('leaves none once the agent stops, and those of containers stay', async () => {
    const { files, spares } = await lab();
    await files.make('one', 4);
    await files.make('two', 4);
    await files.remove('one');
    await files.stop();
    await files.remove('two');
    await files.make('three', 4);
    expect([await spares(), await files.list()]).toEqual([[], ['three']]);
  });

  it('counts as free, and makes room for a file that would have none', async () => {
    const { files, spares } = await lab();
    const { bavail, blocks, bsize } = await statfs(files.folder);
    const before = (await files.room()).capacityMiB;
    // Of a size beside which what other programs write to the file system does not count.
    await files.make('one', 32);
    await files.remove('one');
    expect((await files.room()).capacityMiB).toBeGreaterThanOrEqual(before);
    expect(await spares()).toHaveLength(1);
    const tooMuchMiB = Math.ceil((bavail * bsize) / 2 ** 20 - blocks * bsize * (0.2 / 2 ** 20)) + 1;
    await expect(files.make('two', tooMuchMiB)).rejects.toMatchObject({ code: 'NodeFull' });
    expect(await spares()).toEqual([]);
  });
});
