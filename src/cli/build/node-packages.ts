import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CallOptions } from '../../common/deadline.ts';
import { EsbError, messageOf, undefinedIfNoFile } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import { linuxPlatform } from '../../oci/image-config.ts';
import { runTool } from './tool.ts';

/** Files that npm reads; one of each has to be there. */
const PACKAGE_FILE = 'package.json';
const LOCK_FILES = ['package-lock.json', 'npm-shrinkwrap.json'] as const;

/** Folder of the packages, in the image as on this machine. */
export const NODE_PACKAGES = 'node_modules';

/**
 * Whether a function in Node.js has packages to install.
 *
 * @param names files at the top of its folder
 * @throws {EsbError} `InvalidArgument` for a package.json that is no JSON, or that no lock file goes with
 */
export async function hasNodePackages(folder: string, names: readonly string[]): Promise<boolean> {
  const text = await undefinedIfNoFile(readFile(join(folder, PACKAGE_FILE), 'utf8'));
  if (text === undefined) {
    return false;
  }
  let dependencies: object;
  try {
    const read = JSON.parse(text) as { readonly dependencies?: object; readonly optionalDependencies?: object };
    dependencies = { ...read.dependencies, ...read.optionalDependencies };
  } catch (error) {
    throw new EsbError(`${join(folder, PACKAGE_FILE)} is not JSON: ${messageOf(error)}`, { code: 'InvalidArgument' });
  }
  if (Object.keys(dependencies).length === 0) {
    return false;
  }
  if (!LOCK_FILES.some((name) => names.includes(name))) {
    throw new EsbError(
      `${folder} has dependencies and no package-lock.json, without which each build may bring other versions: ` +
        'write it with npm install --package-lock-only',
      { code: 'InvalidArgument' },
    );
  }
  return true;
}

/**
 * Options of npm that install for a platform. Scripts of packages run on this machine's processor and system, and so
 * only where these are the ones of the image.
 */
export function installOptions(
  architecture: string,
  own: Pick<NodeJS.Process, 'arch' | 'platform'> = process,
): readonly string[] {
  const isOwn = own.platform === 'linux' && linuxPlatform(own.arch).architecture === architecture;
  const cpu = architecture === 'amd64' ? 'x64' : architecture;
  const platform = ['--os=linux', `--cpu=${cpu}`, '--libc=glibc'];
  return ['ci', '--omit=dev', '--no-audit', '--no-fund', '--loglevel=error', ...platform].concat(
    isOwn ? [] : ['--ignore-scripts'],
  );
}

/**
 * Installs the packages of a function below `target`, by the npm of this machine.
 *
 * @throws {EsbError} `ProgramMissing` without npm, `CommandFailed` with its words
 */
export async function installNodePackages(
  folder: string,
  target: string,
  architecture: string,
  options: CallOptions & { readonly runner?: CommandRunner | undefined },
): Promise<void> {
  await writeFile(join(target, PACKAGE_FILE), withoutScripts(await readFile(join(folder, PACKAGE_FILE), 'utf8')));
  for (const name of [...LOCK_FILES, '.npmrc']) {
    await undefinedIfNoFile(copyFile(join(folder, name), join(target, name)));
  }
  await runTool({
    ...options,
    program: 'npm',
    args: installOptions(architecture),
    cwd: target,
    wayOut: 'install Node.js with npm, which puts the packages of package.json into the image',
  });
}

/** A package.json without the function's own scripts: `prepare` and its like want files and tools that stay behind. */
function withoutScripts(text: string): string {
  return JSON.stringify({ ...(JSON.parse(text) as object), scripts: undefined });
}
