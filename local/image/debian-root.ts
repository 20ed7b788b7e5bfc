import { mkdir, readdir, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Step } from '../../src/cli/progress.ts';
import { retry } from '../../src/cli/retry.ts';
import type { CallOptions } from '../../src/common/deadline.ts';
import { EsbError, messageOf } from '../../src/common/errors.ts';
import { runCommand } from '../common/command.ts';
import { localCode } from '../common/error-codes.ts';
import { aptGetUpdate, hasAptGet } from '../tools/debian-packages.ts';

const APT_DEADLINE_MS = 5 * 60_000;
/** Folders that Debian keeps below /usr and links from the root. */
const mergedFolders = ['bin', 'lib', 'lib64', 'sbin'] as const;
/** Files that a function at work never opens. */
const leftOut = ['./usr/share/doc', './usr/share/man', './usr/share/locale', './usr/share/lintian', './etc/cron*'];

/** Settings of apt. */
export interface AptOptions {
  /** Environment of apt, where `APT_CONFIG` may name another configuration. Default: that of this process. */
  readonly env?: NodeJS.ProcessEnv;
}

/**
 * The packages of the closure of `roots` with names that match `wanted`, by this machine's package lists.
 *
 * @throws {EsbError} `PackagesMissing` when there are no package lists or no such packages
 */
export async function debianClosure(
  roots: readonly string[],
  wanted: RegExp,
  options: CallOptions & AptOptions = {},
): Promise<string[]> {
  const args = ['depends', '--recurse', '--no-recommends', '--no-suggests', '--no-conflicts', '--no-breaks'];
  const { stdout } = await runCommand('apt-cache', [...args, '--no-replaces', '--no-enhances', ...roots], options);
  const names = new Set(
    stdout
      .split('\n')
      .filter((line) => /^[a-z0-9]/.test(line))
      .map((line) => line.replace(/:.*$/, '').trim()),
  );
  return [...names].filter((name) => wanted.test(name)).sort();
}

/**
 * Fetches the machine's package lists where they do not know `name`.
 *
 * @throws {EsbError} `PackagesMissing` on machines without apt, or when the lists cannot be fetched
 */
export async function ensurePackageLists(
  name: string,
  step: Step,
  signal?: AbortSignal,
  { env = process.env }: AptOptions = {},
): Promise<void> {
  if (!(await hasAptGet())) {
    throw new EsbError(
      'the sample images are put together from Debian packages, and this machine has no apt-get. ' +
        'Build them with Docker instead (examples/*/Dockerfile), and run: npm run up -- --no-sample',
      { code: localCode('PackagesMissing') },
    );
  }
  const known = async (): Promise<boolean> =>
    (await runCommand('apt-cache', ['show', name], { env, signal, allowedExitCodes: [0, 100] })).exitCode === 0;
  if (await known()) {
    return;
  }
  if (process.getuid?.() !== 0) {
    throw new EsbError('the package lists of this machine are empty. Fetch them with: sudo apt-get update', {
      code: localCode('PackagesMissing'),
    });
  }
  step.note('apt-get update');
  await aptGetUpdate(signal, env);
  if (!(await known())) {
    throw new EsbError(`this machine's package lists do not know ${name}`, {
      code: localCode('PackagesMissing'),
    });
  }
}

export interface UnpackOptions extends Pick<CallOptions, 'signal'>, AptOptions {
  /** Patterns of `tar` to leave out. Default: documentation, translations and the like, copyright notices too. */
  readonly leftOut?: readonly string[];
  /** Folder that keeps the package files of these packages, for a next time without network. Default: none. */
  readonly downloads?: string;
  /** Called with each package file. */
  readonly onPackage?: (file: string) => Promise<void>;
}

/** Downloads packages and unpacks them into `root`, as a minimal Debian file system. */
export async function unpackDebianPackages(
  packages: readonly string[],
  root: string,
  step: Step,
  options: UnpackOptions = {},
): Promise<void> {
  const { env = process.env, signal } = options;
  const downloads = options.downloads ?? `${root}.packages`;
  await mkdir(downloads, { recursive: true });
  try {
    await download(packages, downloads, step, env, signal);
    for (const folder of mergedFolders) {
      await mkdir(join(root, 'usr', folder), { recursive: true });
      await symlink(`usr/${folder}`, join(root, folder));
    }
    for (const file of (await readdir(downloads)).filter((name) => name.endsWith('.deb')).sort()) {
      step.note(`unpacking ${file}`);
      const exclude = (options.leftOut ?? leftOut).map((pattern) => `--exclude='${pattern}'`).join(' ');
      await runCommand(
        'bash',
        [
          '-c',
          `set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar -x --no-same-owner --keep-directory-symlink ${exclude} -C "$2"`,
          'unpack',
          join(downloads, file),
          root,
        ],
        { signal },
      );
      await options.onPackage?.(join(downloads, file));
    }
  } finally {
    if (options.downloads === undefined) {
      await rm(downloads, { recursive: true, force: true });
    }
  }
}

async function download(
  packages: readonly string[],
  folder: string,
  step: Step,
  env: NodeJS.ProcessEnv,
  signal: AbortSignal | undefined,
): Promise<void> {
  await retry(
    async () => {
      step.note(`apt-get download of ${packages.length} packages`);
      await runCommand(
        'apt-get',
        // Root may write to the folder; apt's own user may not.
        ['download', '-qq', '-o', 'APT::Sandbox::User=root', '-o', 'Acquire::Retries=3', ...packages],
        { cwd: folder, env, signal, deadlineMs: APT_DEADLINE_MS },
      );
    },
    {
      signal,
      onRetry: (error) => step.note(`trying again: ${messageOf(error).slice(-200)}`),
      // Old lists name versions that the mirror has replaced since.
      beforeRetry: async () => {
        if (process.getuid?.() === 0) {
          step.note('apt-get update');
          await aptGetUpdate(signal, env);
        }
      },
    },
  );
}
