import { mkdtemp, readdir, rm, stat, statfs, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
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

it('a file counts while it is there, and leaves nothing behind', async () => {
  const folder = await mkdtemp('/dev/shm/esb-tmp-files-');
  onTestFinished(() => rm(folder, { recursive: true }));
  const runner: CommandRunner = {
    run: async ({ args, program }) => {
      if (program === 'mke2fs') {
        await writeFile(args.at(-2) ?? '', '');
      }
      if (program === 'fallocate') {
        await truncate(args.at(-1) ?? '', Number(args[1]));
      }
      return { code: 0, stdout: 'inode table at 1\ndebugfs: blocks /\n2\n', stderr: '' };
    },
  };
  const roomOf = async () => {
    const sizes = await Promise.all((await readdir(folder)).map(async (name) => (await stat(join(folder, name))).size));
    const usedBytes = sizes.reduce((sum, bytes) => sum + bytes, 0);
    return { totalBytes: 1000 * MIB, freeBytes: 1000 * MIB - usedBytes, totalFiles: 1, freeFiles: 1 };
  };
  const files = new TmpFiles(folder, runner, { roomOf });
  const before = await files.room();
  await files.make('one', 100);
  expect([await files.list(), await files.room()]).toEqual([['one'], { ...before, allocatedMiB: 100 }]);
  await expect(files.make('two', 700)).rejects.toMatchObject({ code: 'NodeFull' });
  await files.remove('one');
  await files.remove('one');
  expect([await files.list(), await files.room()]).toEqual([[], before]);
  await files.make('two', 700);
});
