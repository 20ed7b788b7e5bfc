import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { CallOptions } from '../../common/deadline.ts';
import { EsbError, hasCode, undefinedIfNoFile } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import { runTool } from './tool.ts';

/** File that names the packages of a function in Python. */
const REQUIREMENTS = 'requirements.txt';
const WAY_OUT = 'install Python with pip, which puts the packages of requirements.txt into the image';
/** pip as it may be called; the first one that answers is taken, since a name on PATH may stand for none. */
const pipCommands: readonly (readonly [string, ...string[]])[] = [
  ['python3', '-m', 'pip'],
  ['/usr/bin/python3', '-m', 'pip'],
  ['pip3'],
];
/** Releases of glibc that wheels are made for, and bases have: 2.28 is that of 2018. */
const glibcTags = ['manylinux_2_28', 'manylinux_2_27', 'manylinux_2_26', 'manylinux_2_24', 'manylinux_2_17'] as const;
const olderTags = ['manylinux2014', 'manylinux2010', 'manylinux1', 'manylinux_2_12', 'manylinux_2_5'] as const;

/** Line of a program in a package's list of files: its path, with digest and size. */
const PROGRAM_RECORD = /^((?:\.\.\/)+bin\/[^,]+),[^\r]*/;
/** Head of a program, as pip writes it for short paths of Python, and for long ones. */
const PYTHON_OF_PROGRAM = /^#!(?:[^\n]*python[^\n/]*|\/bin\/sh\n'''exec' [^\n]*python[^\n/]*\n' ''')\n/;

export interface PythonTarget {
  /** Such as `3.13`. */
  readonly version: string;
  /** Processor as images name it. */
  readonly architecture: string;
}

/**
 * The version of a base's Python: the given one, else that of the variable `PYTHON_VERSION`, which official images
 * have, else that of a reference such as `python:3.13`.
 *
 * @param env `NAME=value` of the base
 * @throws {EsbError} `InvalidArgument` for a given version of another form than `3.13`
 */
export function pythonVersionOf(base: string, env: readonly string[], given: string | undefined): string | undefined {
  if (given !== undefined && !/^3\.\d+$/.test(given)) {
    throw new EsbError(`--python-version ${given} is not a version such as 3.13`, { code: 'InvalidArgument' });
  }
  const [, fromEnv] = env.map((each) => /^PYTHON_VERSION=(\d+\.\d+)/.exec(each)).find((found) => found !== null) ?? [];
  const [, fromName] = /python[^/:@]*:(3\.\d+)/.exec(base) ?? [];
  return given ?? fromEnv ?? fromName;
}

/** Whether a requirements file names anything to install. */
export function namesPackages(requirements: string): boolean {
  return requirements.split('\n').some((line) => !/^\s*(#|$)/.test(line));
}

/** The requirements of a function; undefined where there are none. */
export async function readRequirements(folder: string): Promise<string | undefined> {
  const file = join(folder, REQUIREMENTS);
  const text = await undefinedIfNoFile(readFile(file, 'utf8'));
  return text !== undefined && namesPackages(text) ? file : undefined;
}

/**
 * Options of pip that choose wheels for another Python than the one that runs it.
 *
 * @param tags platforms that wheels may be for, beside those for any
 */
export function wheelOptions(
  { architecture, version }: PythonTarget,
  tags: readonly string[] = [...glibcTags, ...olderTags],
): readonly string[] {
  const machine = architecture === 'arm64' ? 'aarch64' : 'x86_64';
  const platforms = tags.map((tag) => `${tag}_${machine}`);
  return [
    '--only-binary=:all:',
    '--implementation=cp',
    `--python-version=${version}`,
    ...[`cp${version.replace('.', '')}`, 'abi3', 'none'].map((abi) => `--abi=${abi}`),
    ...[...platforms, 'any'].map((platform) => `--platform=${platform}`),
  ];
}

/**
 * Installs the packages of `requirements` into `target`, by a pip of this machine. Paths in the file are meant from the
 * folder of the file on.
 *
 * @throws {EsbError} `ProgramMissing` without pip, `CommandFailed` with its words
 */
export async function installPythonPackages(
  requirements: string,
  target: string,
  python: PythonTarget,
  options: CallOptions & { readonly runner?: CommandRunner | undefined },
): Promise<void> {
  const cwd = dirname(requirements);
  const [program, ...args] = await findPip(cwd, options);
  const quiet = ['--quiet', '--disable-pip-version-check', '--no-input', '--no-compile'];
  try {
    await runTool({
      ...options,
      program,
      args: [
        ...args,
        'install',
        ...quiet,
        ...wheelOptions(python),
        `--target=${target}`,
        '--requirement',
        requirements,
      ],
      cwd,
      env: { PIP_ROOT_USER_ACTION: 'ignore' },
      wayOut: WAY_OUT,
    });
  } catch (error) {
    if (!hasCode(error, 'CommandFailed') || !/No matching distribution|Could not find a version/.test(error.message)) {
      throw error;
    }
    throw new EsbError(
      `${error.message}\nOnly wheels for Python ${python.version} on ${python.architecture} are taken, since nothing is ` +
        'built here: does the package have one? A base that has the package needs none',
      { code: 'CommandFailed', cause: error },
    );
  }
  await dropPaths(target);
}

/**
 * Removes the paths of this machine that pip writes down, which would make another image of the same folder elsewhere:
 * where a package comes from, for paths and URLs, and the Python that its programs run with.
 */
async function dropPaths(target: string): Promise<void> {
  for (const name of (await readdir(target)).filter((each) => each.endsWith('.dist-info'))) {
    const record = join(target, name, 'RECORD');
    const lines = (await undefinedIfNoFile(readFile(record, 'utf8')))?.split('\n');
    if (lines === undefined) {
      continue;
    }
    const isOrigin = (line: string): boolean => line.startsWith(`${name}/direct_url.json,`);
    const kept = lines.filter((line) => !isOrigin(line)).map((line) => line.replace(PROGRAM_RECORD, '$1,,'));
    await writeFile(record, kept.join('\n'));
    if (lines.some(isOrigin)) {
      await rm(join(target, name, 'direct_url.json'), { force: true });
    }
  }
  const programs = join(target, 'bin');
  for (const entry of (await undefinedIfNoFile(readdir(programs, { withFileTypes: true }))) ?? []) {
    const file = join(programs, entry.name);
    const content = entry.isFile() ? await readFile(file) : Buffer.alloc(0);
    if (content.subarray(0, 2).toString() === '#!') {
      await writeFile(
        file,
        content.toString('latin1').replace(PYTHON_OF_PROGRAM, '#!/usr/bin/env python3\n'),
        'latin1',
      );
    }
  }
}

/**
 * The first pip that answers: program and first arguments.
 *
 * @throws {EsbError} `ProgramMissing` without one
 */
export async function findPip(
  cwd: string,
  options: CallOptions & { readonly runner?: CommandRunner | undefined },
): Promise<readonly [string, ...string[]]> {
  for (const pip of pipCommands) {
    const [program, ...args] = pip;
    try {
      await runTool({ ...options, program, args: [...args, '--version'], cwd, wayOut: WAY_OUT });
      return pip;
    } catch (error) {
      if (!hasCode(error, 'ProgramMissing') && !hasCode(error, 'CommandFailed')) {
        throw error;
      }
    }
  }
  throw new EsbError(`there is no pip here: ${WAY_OUT}`, { code: 'ProgramMissing' });
}
