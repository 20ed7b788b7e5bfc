import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CallOptions } from '../../common/deadline.ts';
import { EsbError, messageOf, undefinedIfNoFile, unreachable } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import { type EntriesOptions, type LayerEntry, layerEntries, writeLayerEntries } from '../../oci/image-layer.ts';
import type { Step } from '../progress.ts';
import type { BaseImage } from './base-image.ts';
import { type AddedLayer, type FunctionImage, functionImage, taskFolderOf } from './function-image.ts';
import { buildGoProgram, GO_PROGRAM } from './go-program.ts';
import { checkLinks } from './inner-links.ts';
import type { Language } from './language.ts';
import { IGNORE_FILE, leftOut } from './left-out.ts';
import { hasNodePackages, installNodePackages, NODE_PACKAGES } from './node-packages.ts';
import { installPythonPackages, pythonVersionOf, readRequirements } from './python-packages.ts';

/** A folder with a function, and what is built of it. */
export interface ImageBuild {
  /** Absolute. */
  readonly folder: string;
  /** Files at its top. */
  readonly names: readonly string[];
  readonly language: Language;
  /** Undefined for Go. */
  readonly handler: string | undefined;
  readonly base: BaseImage;
  /** The base as the user has named it. */
  readonly baseName: string;
  /** Processor as images name it. */
  readonly architecture: string;
  /** Default: as the base tells. */
  readonly pythonVersion?: string | undefined;
  /** An empty folder for what is made on the way. */
  readonly staging: string;
  readonly step: Step;
  /** Default: the programs of this machine. */
  readonly runner?: CommandRunner | undefined;
}

/**
 * Builds the image of a function: its packages and its code as layers on top of the base.
 *
 * @throws {EsbError} `InvalidArgument`, `ProgramMissing`, `CommandFailed`, each with the way out; errors of the file
 *   system
 */
export async function buildImage(build: ImageBuild, options: CallOptions): Promise<FunctionImage> {
  const workingDir = taskFolderOf(build.base);
  const task = workingDir.slice(1);
  const packing = { below: task, plainModes: true, signal: options.signal };
  switch (build.language) {
    case 'python':
    case 'node': {
      const packages = await packagesLayer(build, packing, options);
      const ignored = await undefinedIfNoFile(readFile(join(build.folder, IGNORE_FILE), 'utf8'));
      const isInstalled = packages !== undefined && build.language === 'node';
      const isLeftOut = leftOut(ignored, isInstalled ? NODE_PACKAGES : undefined);
      build.step.note('packing the code');
      const entries = await entriesOf(build.folder, { ...packing, isLeftOut });
      const wayOut = `put the files into the folder, or leave the link out with a line in ${IGNORE_FILE}`;
      checkLinks(entries, build.folder, task, wayOut);
      const code = await layerOf(build, 'code', entries, options);
      const cmd = build.handler === undefined ? [] : [build.handler];
      return functionImage(build.base, [...(packages === undefined ? [] : [packages]), code], { cmd, workingDir });
    }
    case 'go': {
      build.step.note('go build');
      const path = join(build.staging, GO_PROGRAM);
      await buildGoProgram(build.folder, path, build.architecture, { ...options, runner: build.runner });
      const [program] = await entriesOf(build.staging, packing);
      const layer = await layerOf(build, 'program', program === undefined ? [] : [program], options);
      return functionImage(build.base, [layer], { entrypoint: [`${workingDir}/${GO_PROGRAM}`], cmd: [], workingDir });
    }
    default:
      return unreachable(build.language);
  }
}

/** The layer of installed packages; undefined where the function names none. */
async function packagesLayer(
  build: ImageBuild,
  packing: EntriesOptions & { readonly below: string },
  options: CallOptions,
): Promise<AddedLayer | undefined> {
  const { architecture, folder, names, runner, staging, step } = build;
  const target = join(staging, 'packages');
  await mkdir(target);
  if (build.language === 'python') {
    const requirements = await readRequirements(folder);
    if (requirements === undefined) {
      return undefined;
    }
    const version = pythonVersionOf(build.baseName, build.base.config.env, build.pythonVersion);
    if (version === undefined) {
      throw new EsbError(
        `the base ${build.baseName} does not say which Python it has, and requirements.txt needs to know: ` +
          'name the version with --python-version, such as 3.13',
        { code: 'InvalidArgument' },
      );
    }
    step.note('pip install');
    await installPythonPackages(requirements, target, { version, architecture }, { ...options, runner });
    return layerOf(build, 'packages', await entriesOf(target, packing), options);
  }
  if (!(await hasNodePackages(folder, names))) {
    return undefined;
  }
  step.note('npm ci');
  await installNodePackages(folder, target, architecture, { ...options, runner });
  const isOther = (path: string): boolean => path !== NODE_PACKAGES && !path.startsWith(`${NODE_PACKAGES}/`);
  const entries = await entriesOf(target, { ...packing, isLeftOut: isOther });
  const wayOut = 'npm links packages from folders: publish such a package, or copy its code into the folder';
  checkLinks(entries, target, packing.below, wayOut);
  return layerOf(build, 'packages', entries, options);
}

async function entriesOf(folder: string, options: EntriesOptions): Promise<readonly LayerEntry[]> {
  try {
    return await layerEntries(folder, options);
  } catch (error) {
    throw error instanceof EsbError
      ? error
      : new EsbError(`${folder} cannot be packed: ${messageOf(error)}`, { code: 'InvalidArgument', cause: error });
  }
}

async function layerOf(
  { staging }: ImageBuild,
  holds: string,
  entries: readonly LayerEntry[],
  options: CallOptions,
): Promise<AddedLayer> {
  const file = join(staging, `${holds}.tar.gz`);
  return { ...(await writeLayerEntries(entries, file, options)), file, holds };
}
