import { access } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import type { Progress } from '../../src/cli/progress.ts';
import { retry } from '../../src/cli/retry.ts';
import { EsbError, messageOf } from '../../src/common/errors.ts';
import { runCommand } from '../common/command.ts';
import { localCode } from '../common/error-codes.ts';

/** A part of the operating system that ESB needs, and its Debian package. */
export interface SystemNeed {
  /** A program on PATH or in the sbin folders. */
  readonly program?: string;
  /** A file, for libraries and headers. */
  readonly file?: string;
  readonly debianPackage: string;
  /** The purpose, for the message to the user. */
  readonly purpose: string;
}

/** Needs of a running local instance. */
export const runningNeeds: readonly SystemNeed[] = [
  { program: 'nft', debianPackage: 'nftables', purpose: 'the rules of the worker network' },
  { program: 'ip', debianPackage: 'iproute2', purpose: 'network namespaces and bridges' },
  { program: 'nsenter', debianPackage: 'util-linux', purpose: 'entering network namespaces' },
  { program: 'flock', debianPackage: 'util-linux', purpose: 'locks between processes' },
  { program: 'mount', debianPackage: 'mount', purpose: 'container file systems' },
];

/** Needs of a build of runc. */
export const runcBuildNeeds: readonly SystemNeed[] = [
  { program: 'gcc', debianPackage: 'gcc', purpose: 'building runc' },
  { file: '/usr/include/stdlib.h', debianPackage: 'libc6-dev', purpose: 'building runc' },
  { file: '/usr/include/seccomp.h', debianPackage: 'libseccomp-dev', purpose: 'building runc with seccomp' },
  { program: 'pkg-config', debianPackage: 'pkg-config', purpose: 'building runc with seccomp' },
];

/** Needs of a build of the init, also with the checks of memory that its tests use. */
export const initBuildNeeds: readonly SystemNeed[] = [
  { program: 'gcc', debianPackage: 'gcc', purpose: 'building the init' },
  { program: 'make', debianPackage: 'make', purpose: 'building the init' },
  { file: '/usr/include/stdlib.h', debianPackage: 'libc6-dev', purpose: 'building the init' },
];

/** Needs of a build of the sample images, beside apt itself. */
export const imageBuildNeeds: readonly SystemNeed[] = [
  { program: 'dpkg-deb', debianPackage: 'dpkg', purpose: 'unpacking Debian packages into sample images' },
  { program: 'tar', debianPackage: 'tar', purpose: 'unpacking Debian packages into sample images' },
  { program: 'pip3', debianPackage: 'python3-pip', purpose: 'installing awslambdaric into sample images' },
];

const INSTALL_DEADLINE_MS = 10 * 60_000;
/** Another program may be installing packages; mirrors fail now and then. */
const aptOptions = ['-o', 'DPkg::Lock::Timeout=120', '-o', 'Acquire::Retries=3'] as const;

/** The needs that this machine does not meet. */
export async function missingNeeds(
  needs: readonly SystemNeed[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<SystemNeed[]> {
  const folders = [...(env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  const missing: SystemNeed[] = [];
  for (const need of needs) {
    const paths =
      need.program === undefined ? [need.file ?? ''] : folders.map((folder) => join(folder, need.program ?? ''));
    const present = await Promise.all(paths.map(exists));
    if (!present.includes(true)) {
      missing.push(need);
    }
  }
  return missing;
}

/**
 * Installs the Debian packages of unmet needs.
 *
 * @throws {EsbError} `PackagesMissing`, naming what to install, when this is not Debian, not root, or apt-get
 *   fails
 */
export async function ensureNeeds(
  needs: readonly SystemNeed[],
  progress: Progress,
  signal?: AbortSignal,
): Promise<void> {
  const missing = await missingNeeds(needs);
  if (missing.length === 0) {
    return;
  }
  const packages = [...new Set(missing.map((need) => need.debianPackage))];
  const what = missing.map((need) => `${need.program ?? need.file} (${need.purpose})`).join(', ');
  if (!(await hasAptGet())) {
    throw new EsbError(
      `missing on this machine: ${what}. Install them with your package manager; on Debian the packages are called: ${packages.join(' ')}`,
      { code: localCode('PackagesMissing') },
    );
  }
  if (process.getuid?.() !== 0) {
    throw new EsbError(
      `missing on this machine: ${what}. Install them with: sudo apt-get install ${packages.join(' ')}`,
      {
        code: localCode('PackagesMissing'),
      },
    );
  }
  await progress.step(`Debian packages ${packages.join(', ')}`, async (step) => {
    try {
      step.note('apt-get install');
      await install(packages, signal);
    } catch {
      // On a fresh machine or image there are no package lists yet, or old ones.
      step.note('apt-get update');
      await aptGetUpdate(signal);
      step.note('apt-get install');
      try {
        await retry(() => install(packages, signal), { signal, attempts: 3 });
      } catch (error) {
        throw new EsbError(
          `missing on this machine: ${what}, and apt-get could not install ${packages.join(' ')}: ${messageOf(error)}`,
          { code: localCode('PackagesMissing'), cause: error },
        );
      }
    }
  });
}

/** Whether packages can be had from apt. */
export async function hasAptGet(): Promise<boolean> {
  return (await missingNeeds([{ program: 'apt-get', debianPackage: 'apt', purpose: '' }])).length === 0;
}

/** Fetches the package lists. Needs root. */
export async function aptGetUpdate(signal?: AbortSignal, env: NodeJS.ProcessEnv = process.env): Promise<void> {
  await retry(
    () => runCommand('apt-get', ['update', '-qq', ...aptOptions], { env, deadlineMs: INSTALL_DEADLINE_MS, signal }),
    { signal, attempts: 3 },
  );
}

async function install(packages: readonly string[], signal?: AbortSignal): Promise<void> {
  await runCommand('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...aptOptions, ...packages], {
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    deadlineMs: INSTALL_DEADLINE_MS,
    signal,
  });
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
