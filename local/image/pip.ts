import { rm } from 'node:fs/promises';
import { findPip as usersPip, wheelOptions } from '../../src/cli/build/python-packages.ts';
import type { Progress, Step } from '../../src/cli/progress.ts';
import { retry } from '../../src/cli/retry.ts';
import { EsbError, hasCode, messageOf } from '../../src/common/errors.ts';
import { runCommand } from '../common/command.ts';
import { localCode } from '../common/error-codes.ts';
import { ensureNeeds } from '../tools/debian-packages.ts';

/** A working pip. */
export interface Pip {
  /** Program and first arguments. */
  readonly command: readonly [string, ...string[]];
  /** The Python of that pip, where it is known. */
  readonly python?: string;
}

export interface FindPipOptions {
  readonly progress: Progress;
  /** The purpose of pip, shown when it has to be installed. */
  readonly purpose: string;
  readonly signal?: AbortSignal | undefined;
}

const DEADLINE_MS = 5 * 60_000;

/** Platforms of the wheels in images of this project. */
const TAGS = ['manylinux2014', 'manylinux_2_17', 'manylinux_2_28'] as const;

/**
 * Finds pip, and installs the Debian package where there is none.
 *
 * @throws {EsbError} `PackagesMissing` when it cannot be installed, or does not run all the same
 */
export async function findPip(options: FindPipOptions): Promise<Pip> {
  const found = await look(options.signal);
  if (found !== undefined) {
    return found;
  }
  await ensureNeeds(
    [
      {
        file: '/usr/lib/python3/dist-packages/pip/__init__.py',
        debianPackage: 'python3-pip',
        purpose: options.purpose,
      },
    ],
    options.progress,
    options.signal,
  );
  const installed = await look(options.signal);
  if (installed === undefined) {
    throw new EsbError('pip does not run, although the Debian package python3-pip is installed', {
      code: localCode('PackagesMissing'),
    });
  }
  return installed;
}

export interface InstallWheelsOptions {
  readonly progress: Progress;
  readonly step: Step;
  readonly signal?: AbortSignal | undefined;
}

/** Installs `requirements` for the Python of an image into `target`, by a Python of this machine. */
export async function installWheels(
  requirements: readonly string[],
  version: string,
  target: string,
  { progress, step, signal }: InstallWheelsOptions,
): Promise<void> {
  const { command } = await findPip({ progress, purpose: 'installing awslambdaric into images', signal });
  const [program, ...first] = command;
  await retry(
    async () => {
      step.note(`pip install ${requirements[0]}`);
      await rm(target, { recursive: true, force: true });
      await runCommand(
        program,
        [
          ...first,
          'install',
          '--quiet',
          '--disable-pip-version-check',
          '--no-deps',
          '--no-compile',
          ...wheelOptions({ architecture: process.arch, version }, TAGS),
          `--target=${target}`,
          ...requirements,
        ],
        { signal, deadlineMs: DEADLINE_MS, env: { ...process.env, PIP_ROOT_USER_ACTION: 'ignore' } },
      );
    },
    { signal, onRetry: (error) => step.note(`trying again: ${messageOf(error).slice(-200)}`) },
  );
}

async function look(signal: AbortSignal | undefined): Promise<Pip | undefined> {
  try {
    const command = await usersPip(process.cwd(), { signal });
    return command[1] === '-m' ? { command, python: command[0] } : { command };
  } catch (error) {
    if (hasCode(error, 'ProgramMissing')) {
      return undefined;
    }
    throw error;
  }
}
