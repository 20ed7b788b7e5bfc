import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { createProgress } from '../../../src/cli/progress.ts';
import { ensureFirstRelease } from '../../cluster/first-release.ts';
import { run } from '../../support/command.ts';

const COMMIT = 'f'.repeat(40);
const progress = createProgress({ write: () => undefined });

/** Repository without a commit, and a cache beside the repository. */
async function emptyRepository() {
  const folder = await mkdtemp(join(tmpdir(), 'esb-release-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const repository = join(folder, 'shallow');
  await run('git', ['init', '--quiet', repository]);
  return { repository, cache: join(folder, 'cache') };
}

it('is none while no file names the commit, and nothing is built', async () => {
  const { repository, cache } = await emptyRepository();
  expect(await ensureFirstRelease({ progress, cache, repository })).toBeUndefined();
  await expect(readdir(cache)).rejects.toMatchObject({ code: 'ENOENT' });
});

it('says how a clone without the history gets it, and leaves nothing behind', async () => {
  const { repository, cache } = await emptyRepository();
  await mkdir(join(repository, 'test/cluster'), { recursive: true });
  await writeFile(join(repository, 'test/cluster/first-release'), `${COMMIT}\n`);
  await expect(ensureFirstRelease({ progress, cache, repository })).rejects.toMatchObject({
    code: 'CommitMissing',
    message: expect.stringMatching(`${COMMIT} .*git fetch --unshallow`),
  });
  expect(await readdir(join(cache, 'releases'))).toEqual(['lock']);
});
