import { copyFile, cp, mkdir, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { runCommand } from '../../local/common/command.ts';
import { retry } from '../../local/common/retry.ts';
import type { Step } from '../../src/cli/progress.ts';
import type { CallOptions } from '../../src/common/deadline.ts';
import { messageOf } from '../../src/common/errors.ts';
import { normaliseModes, walkTree } from './file-tree.ts';
import { isLeftOutOfModules, npmArguments, PROGRAM_FOLDER, programFiles } from './image-content.ts';

export interface ProgramRootOptions extends Pick<CallOptions, 'signal'> {
  /** Folder of the repository. */
  readonly repository: string;
  readonly step: Step;
}

const NPM_DEADLINE_MS = 5 * 60_000;

/** Fills `root` with the npm packages of the program, exactly those of the lock file, without any for development. */
export async function fillModulesRoot(root: string, options: ProgramRootOptions): Promise<void> {
  const { repository, step, signal } = options;
  const program = join(root, PROGRAM_FOLDER);
  const lockFiles = ['package.json', 'package-lock.json'];
  await mkdir(program, { recursive: true });
  for (const name of lockFiles) {
    await copyFile(join(repository, name), join(program, name));
  }
  await retry(
    async () => {
      step.note(`npm ${npmArguments.join(' ')}`);
      await runCommand('npm', npmArguments, { cwd: program, signal, deadlineMs: NPM_DEADLINE_MS });
    },
    { signal, onRetry: (error) => step.note(`trying again: ${messageOf(error).slice(-200)}`) },
  );
  for (const name of lockFiles) {
    await rm(join(program, name));
  }
  await dropUnused(join(program, 'node_modules'));
  await normaliseModes(root);
}

/** Fills `root` with the program itself. */
export async function fillProgramRoot(root: string, options: ProgramRootOptions): Promise<void> {
  const program = join(root, PROGRAM_FOLDER);
  await mkdir(program, { recursive: true });
  for (const name of programFiles) {
    await cp(join(options.repository, name), join(program, name), { recursive: true });
  }
  await normaliseModes(root);
}

async function dropUnused(modules: string): Promise<void> {
  await walkTree(modules, async (path) => {
    // A package within a package is looked at as one of its own.
    if (!isLeftOutOfModules(relative(modules, path).replace(/^.*\/node_modules\//, ''))) {
      return undefined;
    }
    await rm(path, { recursive: true });
    return 'skip';
  });
}
