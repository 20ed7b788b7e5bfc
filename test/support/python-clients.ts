import { createHash } from 'node:crypto';
import { access, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../../local/common/command.ts';
import { lockProgram } from '../../local/common/program-lock.ts';
import { findPip } from '../../local/image/pip.ts';
import { cacheFolder } from '../../local/tools/tool-cache.ts';
import type { Progress } from '../../src/cli/progress.ts';
import { retry } from '../../src/cli/retry.ts';
import { foreignCode } from '../../src/common/error-codes.ts';
import { EsbError, messageOf } from '../../src/common/errors.ts';

/** boto3 and the AWS command line, as other people have them. */
export interface PythonClients {
  /** The Python that runs them. */
  readonly python: string;
  /** Folder of the packages: its PYTHONPATH. */
  readonly packages: string;
}

const INSTALL_DEADLINE_MS = 5 * 60_000;

/** Packages that `requirements.txt` of a folder pins by version and hash. */
interface PinnedPackages {
  readonly name: string;
  /** Folder beside this file. */
  readonly folder: string;
  /** Their description, for progress and errors. */
  readonly what: string;
  /** Further arguments of pip. */
  readonly args: readonly string[];
}

const clientPackages: PinnedPackages = {
  name: 'clients',
  folder: 'python-clients',
  what: 'boto3 and the AWS command line',
  args: [],
};
/** For the Python of the sample images. */
const webPackages: PinnedPackages = {
  name: 'web',
  folder: 'web-function',
  what: 'FastAPI',
  args: ['--python-version=3.11', '--no-compile'],
};

/** Zappa, a deploy tool, beside the clients. */
const zappaPackages: PinnedPackages = { name: 'zappa', folder: 'zappa', what: 'Zappa', args: [] };

/**
 * Installs what `python-clients/requirements.txt` pins by version and hash, once, into the user cache. No virtual
 * environment: Debian's Python can make one only with a package more.
 *
 * @throws {EsbError} `PackagesMissing` without Python or pip, `CommandFailed` with what pip said
 */
export function ensurePythonClients(progress: Progress): Promise<PythonClients> {
  return ensurePackages(clientPackages, progress);
}

/**
 * Installs the packages of `web-function/requirements.txt`, and gives their folder.
 *
 * @throws {EsbError} as {@link ensurePythonClients}
 */
export async function ensureWebPackages(progress: Progress): Promise<string> {
  const { packages } = await ensurePackages(webPackages, progress);
  return packages;
}

/** The clients with Zappa beside them; as {@link ensurePythonClients}. */
export async function ensureZappa(progress: Progress): Promise<PythonClients> {
  const [clients, zappa] = [await ensurePythonClients(progress), await ensurePackages(zappaPackages, progress)];
  return { python: clients.python, packages: `${clients.packages}:${zappa.packages}` };
}

async function ensurePackages(pinned: PinnedPackages, progress: Progress): Promise<PythonClients> {
  const { what } = pinned;
  const requirements = join(import.meta.dirname, pinned.folder, 'requirements.txt');
  const pip = await findPip({ progress, purpose: `installing ${what} for tests` });
  if (pip.python === undefined) {
    throw new EsbError('there is pip but no python3 that has it', { code: foreignCode('PackagesMissing') });
  }
  const { python } = pip;
  const { stdout: version } = await runCommand(python, ['-c', 'import sys; print(sys.version)']);
  const hash = createHash('sha256').update(await readFile(requirements));
  const key = hash.update(`${version} ${process.arch}`).digest('hex').slice(0, 16);
  const folder = join(cacheFolder(), 'python');
  const packages = join(folder, `${pinned.name}-${key}`);
  if (!(await exists(packages))) {
    await progress.step(`installing ${what}`, async (step) => {
      const lock = await lockProgram(join(folder, 'lock'), {
        onWait: () => step.note('waiting for another process that installs them'),
      });
      try {
        if (!(await exists(packages))) {
          const args = [...pinned.args, `--requirement=${requirements}`];
          await retry(() => install([...pip.command, 'install', ...args], folder, packages), {
            onRetry: (error) => step.note(`trying again: ${messageOf(error).slice(-200)}`),
          });
        }
      } finally {
        await lock.release();
      }
    });
  }
  return { python, packages };
}

async function install(pip: readonly string[], folder: string, packages: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const staging = await mkdtemp(join(folder, '.install-'));
  try {
    await runCommand(
      pip[0] ?? '',
      [
        ...pip.slice(1),
        '--quiet',
        '--disable-pip-version-check',
        '--require-hashes',
        '--no-deps',
        '--only-binary=:all:',
        `--target=${staging}`,
      ],
      { deadlineMs: INSTALL_DEADLINE_MS, env: { ...process.env, PIP_ROOT_USER_ACTION: 'ignore' } },
    );
    await writeFile(join(staging, 'installed'), '');
    await rename(staging, packages);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function exists(folder: string): Promise<boolean> {
  try {
    await access(join(folder, 'installed'));
    return true;
  } catch {
    return false;
  }
}
