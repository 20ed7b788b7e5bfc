import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { createProgress } from '../../../src/cli/progress.ts';
import { ensurePreviousRelease } from '../../cluster/previous-release.ts';
import { run } from '../../support/command.ts';

it('says how a clone without the history gets it, and leaves nothing behind', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'esb-release-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const repository = join(folder, 'shallow');
  const cache = join(folder, 'cache');
  await run('git', ['init', '--quiet', repository]);
  const progress = createProgress({ write: () => undefined });
  await expect(ensurePreviousRelease({ progress, cache, repository })).rejects.toMatchObject({
    code: 'CommitMissing',
    message: expect.stringContaining('git fetch --unshallow'),
  });
  expect(await readdir(join(cache, 'releases'))).toEqual(['lock']);
});
