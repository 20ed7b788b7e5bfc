import { createHash, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { Progress } from '../../src/cli/progress.ts';
import { runCommand } from '../common/command.ts';
import { repositoryRoot } from '../common/repository.ts';
import { ensureNeeds, initBuildNeeds } from './debian-packages.ts';
import { cacheFolder } from './tool-cache.ts';

/**
 * Builds a program from the files of a folder into the user cache, once for each version of them. Returns its path.
 */
export async function builtProgram(
  name: string,
  source: string,
  build: (program: string) => Promise<unknown>,
): Promise<string> {
  const hash = createHash('sha256').update(process.arch);
  for (const file of (await readdir(source)).toSorted()) {
    hash.update(await readFile(join(source, file)));
  }
  const folder = join(cacheFolder(), name);
  const program = join(folder, hash.digest('hex').slice(0, 16));
  if (!existsSync(program)) {
    await mkdir(folder, { recursive: true });
    const fresh = `${program}.${randomUUID()}`;
    await build(fresh);
    await rename(fresh, program);
  }
  return program;
}

export interface InitProgramOptions {
  readonly progress: Progress;
  readonly signal?: AbortSignal | undefined;
}

/** Folder of the source of the init. */
export const initSource = join(repositoryRoot(), 'init');

/**
 * The init of workers as a static program for this machine.
 *
 * @throws {EsbError} `PackagesMissing` without a C compiler, with what to install; `CommandFailed` with the words of the
 *   compiler
 */
export function ensureInitProgram({ progress, signal }: InitProgramOptions): Promise<string> {
  return builtProgram('init', initSource, async (program) => {
    await ensureNeeds(initBuildNeeds, progress, signal);
    await progress.step('building the init of workers', () =>
      runCommand('make', [`PROGRAM=${program}`], { cwd: initSource, signal }),
    );
  });
}
