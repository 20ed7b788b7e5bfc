import { copyFile, cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { runCommand } from '../../local/common/command.ts';
import type { Step } from '../../src/cli/progress.ts';
import { retry } from '../../src/cli/retry.ts';
import type { CallOptions } from '../../src/common/deadline.ts';
import { messageOf } from '../../src/common/errors.ts';
import { normaliseModes, walkTree } from './file-tree.ts';
import { isLeftOutOfModules, npmArguments, PROGRAM_FOLDER, programFiles } from './image-content.ts';
import { stripTypes } from './strip-types.ts';

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

/** Fills `root` with the program itself, in JavaScript. */
export async function fillProgramRoot(root: string, { repository }: { readonly repository: string }): Promise<void> {
  const program = join(root, PROGRAM_FOLDER);
  await mkdir(program, { recursive: true });
  for (const name of programFiles) {
    await cp(join(repository, name), join(program, name), { recursive: true });
  }
  await replaceTypeScript(join(program, 'src'));
  await normaliseModes(root);
}

async function replaceTypeScript(folder: string): Promise<void> {
  await walkTree(folder, async (path) => {
    if (path.endsWith('.ts')) {
      await writeFile(path.replace(/ts$/, 'js'), stripTypes(await readFile(path, 'utf8')));
      await rm(path);
    }
    return undefined;
  });
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
