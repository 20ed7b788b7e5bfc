import { EsbError } from '../../src/common/errors.ts';
import { runCommand } from '../common/command.ts';
import { localCode } from '../common/error-codes.ts';
import type { Progress } from '../common/progress.ts';
import { ensureNeeds } from '../tools/debian-packages.ts';

/** A working pip. */
export interface Pip {
  /** Program and first arguments. */
  readonly command: readonly string[];
  /** The Python of that pip, where it is known. */
  readonly python?: string;
}

export interface FindPipOptions {
  readonly progress: Progress;
  /** The purpose of pip, shown when it has to be installed. */
  readonly purpose: string;
  readonly signal?: AbortSignal | undefined;
}

/** The first that answers: the first on PATH may be a shim without a version behind it. */
const candidates: readonly Pip[] = [
  { command: ['python3', '-m', 'pip'], python: 'python3' },
  { command: ['/usr/bin/python3', '-m', 'pip'], python: '/usr/bin/python3' },
  { command: ['pip3'] },
];

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

async function look(signal: AbortSignal | undefined): Promise<Pip | undefined> {
  for (const pip of candidates) {
    const [program = '', ...args] = pip.command;
    try {
      await runCommand(program, [...args, '--version'], { signal });
      return pip;
    } catch {
      // This one does not work.
    }
  }
  return undefined;
}
