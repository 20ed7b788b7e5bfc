import { access, mkdir, mkdtemp, readlink, rename, rm, symlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Progress, Step } from '../../src/cli/progress.ts';
import { retry } from '../../src/cli/retry.ts';
import type { CallOptions } from '../../src/common/deadline.ts';
import { EsbError, errnoOf, hasCode, messageOf } from '../../src/common/errors.ts';
import { runCommand } from '../common/command.ts';
import { localCode } from '../common/error-codes.ts';
import { lockProgram } from '../common/program-lock.ts';
import { repositoryRoot } from '../common/repository.ts';
import { ensureNeeds, runcBuildNeeds } from './debian-packages.ts';
import { findTools } from './found-tools.ts';
import { cacheFolder, familyFolder, toolSetFolder } from './tool-cache.ts';
import { type ToolFamily, type ToolProgram, toolFamilies } from './tool-catalog.ts';

export interface EnsureToolsOptions extends CallOptions {
  readonly progress: Progress;
  /** Default: the user cache. */
  readonly cache?: string;
  /** Default: this repository. */
  readonly root?: string;
  /** Default: every family. */
  readonly families?: readonly ToolFamily[];
  readonly env?: NodeJS.ProcessEnv;
}

/** Every program, by its name. */
export interface ToolSet {
  /** A folder with a link to each of them. */
  readonly folder: string;
  readonly paths: ReadonlyMap<string, string>;
}

/** Milliseconds: a first build of the API server on a slow machine. */
const BUILD_DEADLINE_MS = 60 * 60_000;
const FAMILIES_AT_ONCE = 2;

/**
 * Provides every third-party program: the user's own where it will do, else one built from `hack/tools/<family>` into
 * the user cache, once for all concurrent callers.
 *
 * @throws {EsbError} `GoMissing`, `PackagesMissing`, `BuildFailed`
 */
export async function ensureTools(options: EnsureToolsOptions): Promise<ToolSet> {
  const cache = options.cache ?? cacheFolder(options.env);
  const root = options.root ?? repositoryRoot();
  const families = options.families ?? toolFamilies;
  const paths = new Map<string, string>();
  const waiting = [...families];
  const failures: unknown[] = [];
  const worker = async (): Promise<void> => {
    for (let family = waiting.shift(); family !== undefined; family = waiting.shift()) {
      try {
        for (const [name, path] of await ensureFamily(family, { ...options, cache, root })) {
          paths.set(name, path);
        }
      } catch (error) {
        failures.push(error);
        waiting.length = 0;
      }
    }
  };
  await Promise.all(Array.from({ length: FAMILIES_AT_ONCE }, worker));
  if (failures.length > 0) {
    throw failures[0];
  }
  const folder = toolSetFolder(cache, root, families);
  await mkdir(folder, { recursive: true });
  for (const [name, path] of paths) {
    await ensureLink(join(folder, name), path);
  }
  return { folder, paths };
}

type FamilyOptions = EnsureToolsOptions & { readonly cache: string; readonly root: string };

async function ensureFamily(family: ToolFamily, options: FamilyOptions): Promise<Map<string, string>> {
  const paths = new Map<string, string>();
  const found = await findTools(family, {
    ...(options.env === undefined ? {} : { env: options.env }),
    signal: options.signal,
    onRejected: (path, why) => options.progress.say(`  · not using ${path}: it ${why}`),
  });
  for (const tool of found) {
    options.progress.say(`  · using ${tool.path} (version ${tool.version})`);
    paths.set(tool.name, tool.path);
  }
  const folder = familyFolder(options.cache, family, options.root);
  const wanted = family.programs.filter((program) => !paths.has(program.name));
  if ((await missingPrograms(folder, wanted)).length > 0) {
    await buildFamily(family, wanted, folder, options);
  }
  for (const program of wanted) {
    paths.set(program.name, join(folder, program.name));
  }
  return paths;
}

async function buildFamily(
  family: ToolFamily,
  wanted: readonly ToolProgram[],
  folder: string,
  options: FamilyOptions,
): Promise<void> {
  const { progress, signal } = options;
  if (family.cgo) {
    await ensureNeeds(runcBuildNeeds, progress, signal);
  }
  const names = wanted.map((program) => program.name).join(', ');
  await progress.step(`building ${names} (${family.name} ${family.version})`, async (step) => {
    const lock = await lockProgram(`${folder}.lock`, {
      signal,
      onWait: () => step.note('waiting for another process that builds it'),
    });
    try {
      const missing = await missingPrograms(folder, wanted);
      if (missing.length > 0) {
        step.note(`a first build takes ${family.firstBuild}`);
        await retry(() => goBuild(family, missing, folder, options, step), {
          signal,
          firstDelayMs: 5_000,
          worthRetrying: isNetworkFault,
          onRetry: (error) => progress.say(`  ! ${messageOf(error).slice(-400)}\n  … trying again`),
        });
      }
    } finally {
      await lock.release();
    }
  });
}

/** Messages of Go for a failed download, as opposed to a failed build. */
function isNetworkFault(error: unknown): boolean {
  return /dial tcp|i\/o timeout|TLS handshake|connection re(set|fused)|unexpected EOF|no such host|50[0234] |Too Many Requests|bad gateway|temporary failure|stream error/i.test(
    messageOf(error),
  );
}

async function goBuild(
  family: ToolFamily,
  programs: readonly ToolProgram[],
  folder: string,
  options: FamilyOptions,
  step: Step,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  // In the folder itself, so that the renames below stay on one file system.
  const staging = await mkdtemp(join(folder, '.build-'));
  let compiled = 0;
  try {
    // One command for all programs of a family: they share most of their packages.
    await runCommand(
      'go',
      [
        'build',
        '-v',
        '-trimpath',
        ...family.flags,
        '-ldflags',
        ['-s', '-w', ...family.linkFlags].join(' '),
        '-o',
        `${staging}/`,
        ...programs.map((program) => program.goPackage),
      ],
      {
        cwd: join(options.root, 'hack', 'tools', family.name),
        env: {
          ...(options.env ?? process.env),
          CGO_ENABLED: family.cgo ? '1' : '0',
          // Collecting garbage costs a tenth of the time; the linker stays within 2.5 GB without it.
          GOGC: 'off',
          GOFLAGS: '-mod=readonly -buildvcs=false',
          GOWORK: 'off',
        },
        deadlineMs: BUILD_DEADLINE_MS,
        signal: options.signal,
        onErrorLine: (line) => {
          if (line.startsWith('go: downloading')) {
            step.note(line.slice('go: '.length));
          } else if (!line.includes(' ')) {
            compiled += 1;
            step.note(`${compiled} packages compiled, a first build takes ${family.firstBuild}`);
          }
        },
      },
    );
    for (const program of programs) {
      await rename(join(staging, builtName(program)), join(folder, program.name));
    }
  } catch (error) {
    throw buildError(family, error);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** Name of the program for `go build`: the last element of its package path that is no major version. */
function builtName(program: ToolProgram): string {
  const name = basename(program.goPackage);
  return /^v\d+$/.test(name) ? basename(program.goPackage.slice(0, -name.length - 1)) : name;
}

function buildError(family: ToolFamily, error: unknown): EsbError {
  if (hasCode(error, 'ProgramMissing')) {
    return new EsbError(
      'Go is not on PATH. ESB builds its third-party programs (Kubernetes API server, containerd and others) once and ' +
        'needs Go 1.21 or newer for it, which fetches the exact version by itself. Install it from https://go.dev/dl/ ' +
        'or your package manager and run the command again.',
      { code: localCode('GoMissing'), cause: error },
    );
  }
  const failure = EsbError.from(error);
  return new EsbError(`building ${family.name} ${family.version}: ${failure.message}`, {
    code: failure.code === 'CommandFailed' ? localCode('BuildFailed') : failure.code,
    cause: error,
  });
}

async function missingPrograms(folder: string, programs: readonly ToolProgram[]): Promise<ToolProgram[]> {
  const missing: ToolProgram[] = [];
  for (const program of programs) {
    try {
      await access(join(folder, program.name));
    } catch {
      missing.push(program);
    }
  }
  return missing;
}

/** Makes `link` point to `target`, without a moment in between. */
export async function ensureLink(link: string, target: string): Promise<void> {
  try {
    if ((await readlink(link)) === target) {
      return;
    }
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT' && errnoOf(error) !== 'EINVAL') {
      throw error;
    }
  }
  const temporary = `${link}.${process.pid}.tmp`;
  await rm(temporary, { force: true });
  await symlink(target, temporary);
  await rename(temporary, link);
}
