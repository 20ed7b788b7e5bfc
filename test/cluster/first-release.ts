import { access, cp, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../../local/common/command.ts';
import { lockProgram } from '../../local/common/program-lock.ts';
import { repositoryRoot } from '../../local/common/repository.ts';
import { cacheFolder } from '../../local/tools/tool-cache.ts';
import type { Progress, Step } from '../../src/cli/progress.ts';
import { foreignCode } from '../../src/common/error-codes.ts';
import { EsbError } from '../../src/common/errors.ts';

/** File that names the commit of 0.1.0, with which compatibility begins. The file is absent until that is released. */
const COMMIT_FILE = 'test/cluster/first-release';
const BUILD_DEADLINE_MS = 20 * 60_000;

/** Chart and image of the first release. */
export interface FirstRelease {
  /** Folder of the chart. */
  readonly chart: string;
  /** Folder of the OCI layout of the image. */
  readonly layout: string;
}

export interface FirstReleaseOptions {
  readonly progress: Progress;
  /** Default: the user cache. */
  readonly cache?: string;
  /** Default: this repository. */
  readonly repository?: string;
}

/**
 * Builds image and chart of the first release from the history of the repository, with the packages of that release's
 * own lock file; once, into the user cache.
 *
 * @returns undefined while no commit of the first release is named
 * @throws {EsbError} `CommitMissing` in a clone without that history, `CommandFailed` with what a program said
 */
export async function ensureFirstRelease(options: FirstReleaseOptions): Promise<FirstRelease | undefined> {
  const { progress, cache = cacheFolder(), repository = repositoryRoot() } = options;
  const commit = await firstCommit(repository);
  if (commit === undefined) {
    return undefined;
  }
  const releases = join(cache, 'releases');
  const folder = join(releases, commit);
  const release = { chart: join(folder, 'chart'), layout: join(folder, 'image') };
  if (await exists(folder)) {
    return release;
  }
  await mkdir(releases, { recursive: true });
  return progress.step(`building the release ${commit.slice(0, 7)}`, async (step) => {
    const lock = await lockProgram(join(releases, 'lock'), {
      onWait: () => step.note('waiting for another process that builds it'),
    });
    const staging = await mkdtemp(join(releases, '.build-'));
    try {
      if (!(await exists(folder))) {
        await build(staging, repository, commit, step);
        await rename(join(staging, 'release'), folder);
      }
      return release;
    } finally {
      await rm(staging, { recursive: true, force: true });
      await lock.release();
    }
  });
}

async function firstCommit(repository: string): Promise<string | undefined> {
  const file = join(repository, COMMIT_FILE);
  return (await exists(file)) ? (await readFile(file, 'utf8')).trim() : undefined;
}

async function build(staging: string, repository: string, commit: string, step: Step): Promise<void> {
  const source = join(staging, 'source');
  const archive = join(staging, 'source.tar');
  const git = ['-C', repository];
  const { exitCode } = await runCommand('git', [...git, 'cat-file', '-e', `${commit}^{commit}`], {
    allowedExitCodes: [0, 1, 128],
  });
  if (exitCode !== 0) {
    throw new EsbError(
      `this clone lacks the commit ${commit} of the first release: git fetch --unshallow brings the history`,
      { code: foreignCode('CommitMissing') },
    );
  }
  await runCommand('git', [...git, 'archive', `--output=${archive}`, commit]);
  await mkdir(source);
  await runCommand('tar', ['-xf', archive, '-C', source]);
  step.note('npm ci, and its image');
  // The launcher of that release installs the packages of its lock file first.
  const { stdout } = await runCommand(process.execPath, ['hack/run.mjs', 'hack/build-image.ts'], {
    cwd: source,
    deadlineMs: BUILD_DEADLINE_MS,
    onErrorLine: (line) => step.note(line.trim()),
  });
  const [layout = ''] = stdout.trim().split('\n').slice(-2);
  const made = join(staging, 'release');
  await mkdir(made);
  await cp(join(source, 'charts/esb'), join(made, 'chart'), { recursive: true });
  await cp(layout, join(made, 'image'), { recursive: true, dereference: true });
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
