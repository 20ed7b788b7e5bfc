import { chmod, copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { runCommand } from '../../local/common/command.ts';
import { debianClosure, ensurePackageLists, unpackDebianPackages } from '../../local/image/debian-root.ts';
import type { Step } from '../../src/cli/progress.ts';
import type { CallOptions } from '../../src/common/deadline.ts';
import { normaliseModes, walkTree } from './file-tree.ts';
import {
  CNI_FOLDER,
  debianLeftOut,
  debianPackages,
  debianRoots,
  INIT_FILE,
  launcher,
  leftOutLibraryFolders,
  systemFiles,
  systemPrograms,
} from './image-content.ts';
import type { ImageTarget } from './target.ts';

/** A Debian package that the image has files of. */
export interface DebianPackage {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
}

export interface BaseRootOptions extends Pick<CallOptions, 'signal'> {
  /** Folder with the CNI plugins. */
  readonly plugins: string;
  readonly pluginNames: readonly string[];
  readonly target: ImageTarget;
  /** Where files of these packages are kept. */
  readonly downloads: string;
  readonly step: Step;
}

/** Copyright notices stay, beside what runs. */
const leftOut = ['./usr/share/man', './usr/share/locale', './usr/share/lintian'];
/** Folders that are there to be mounted or written to. */
const emptyFolders = ['dev', 'etc', 'opt', 'proc', 'root', 'run', 'sys', 'tmp', 'var/lib', 'var/log'] as const;
const STRIP_DEADLINE_MS = 60_000;

/**
 * The Debian packages that a base root is made of, as the package lists have them.
 *
 * @throws {EsbError} `PackagesMissing` on machines without apt, or when the lists cannot be fetched
 */
export async function listBasePackages(
  step: Step,
  env: NodeJS.ProcessEnv,
  signal?: AbortSignal,
): Promise<DebianPackage[]> {
  await ensurePackageLists(debianRoots[0], step, signal, { env });
  const names = await debianClosure(debianRoots, debianPackages, { env, signal });
  const { stdout } = await runCommand('apt-cache', ['show', '--no-all-versions', ...names], { env, signal });
  return stdout
    .split('\n\n')
    .filter((stanza) => stanza.trim() !== '')
    .map(packageOf)
    .sort((one, other) => (one.name < other.name ? -1 : 1));
}

/** A package as its control file tells of it. */
export function packageOf(control: string): DebianPackage {
  const field = (name: string): string => new RegExp(`^${name}: (.*)$`, 'm').exec(control)?.[1] ?? '';
  return { name: field('Package'), version: field('Version'), architecture: field('Architecture') };
}

/** Fills `root` with everything that changes seldom: system libraries and programs, Node.js, CNI plugins. */
export async function fillBaseRoot(
  root: string,
  packages: readonly DebianPackage[],
  options: BaseRootOptions,
): Promise<void> {
  const { step, signal, target } = options;
  const records = join(root, 'var/lib/dpkg/status.d');
  await unpackDebianPackages(
    packages.map(({ name, version }) => `${name}=${version}`),
    root,
    step,
    {
      env: target.env,
      signal,
      leftOut,
      downloads: options.downloads,
      // File that scanners of images read where there is no package manager.
      onPackage: async (file) => {
        const { stdout } = await runCommand('dpkg-deb', ['--field', file], { signal });
        await mkdir(records, { recursive: true });
        await writeFile(join(records, packageOf(stdout).name), stdout);
      },
    },
  );
  await dropUnused(root);
  for (const folder of emptyFolders) {
    await mkdir(join(root, folder), { recursive: true });
  }
  for (const [name, text] of Object.entries(systemFiles)) {
    await place(join(root, name), (path) => writeFile(path, text), 0o644);
  }
  await writeCertificates(root);
  step.note('stripping the Node.js program');
  await place(
    join(root, 'usr/local/bin/node'),
    (path) => runCommand(target.strip, ['-o', path, target.node], { signal, deadlineMs: STRIP_DEADLINE_MS }),
    0o755,
  );
  await place(join(root, 'usr/local/bin/esb'), (path) => writeFile(path, launcher), 0o755);
  for (const name of options.pluginNames) {
    await place(join(root, CNI_FOLDER, name), (path) => copyFile(join(options.plugins, name), path), 0o755);
  }
  await place(join(root, INIT_FILE), (path) => copyFile(target.initProgram, path), 0o755);
  await normaliseModes(root);
  await chmod(join(root, 'tmp'), 0o1777);
}

async function place(path: string, make: (path: string) => Promise<unknown>, mode: number): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await make(path);
  await chmod(path, mode);
}

async function dropUnused(root: string): Promise<void> {
  const kept = new Set<string>(systemPrograms);
  for (const folder of ['usr/bin', 'usr/sbin']) {
    for (const name of await readdir(join(root, folder))) {
      if (!kept.has(name)) {
        await rm(join(root, folder, name), { recursive: true, force: true });
      }
    }
  }
  for (const path of debianLeftOut) {
    await rm(join(root, path), { recursive: true, force: true });
  }
  for (const entry of await readdir(join(root, 'usr/lib'), { withFileTypes: true })) {
    for (const name of entry.isDirectory() ? leftOutLibraryFolders : []) {
      await rm(join(root, 'usr/lib', entry.name, name), { recursive: true, force: true });
    }
  }
  await dropDocumentation(join(root, 'usr/share/doc'));
}

/** Leaves nothing but copyright notices. */
async function dropDocumentation(folder: string): Promise<void> {
  await walkTree(folder, async (path, entry) => {
    if (entry.isFile() && entry.name !== 'copyright') {
      await rm(path);
    }
    return undefined;
  });
}

/** Does what the package `ca-certificates` does when it is installed. */
async function writeCertificates(root: string): Promise<void> {
  const source = join(root, 'usr/share/ca-certificates/mozilla');
  const names = (await readdir(source)).filter((name) => name.endsWith('.crt')).sort();
  const texts = await Promise.all(names.map((name) => readFile(join(source, name), 'utf8')));
  const bundle = texts.map((text) => `${text.trimEnd()}\n`).join('');
  await place(join(root, 'etc/ssl/certs/ca-certificates.crt'), (path) => writeFile(path, bundle), 0o644);
  await rm(join(root, 'usr/share/ca-certificates'), { recursive: true });
}
