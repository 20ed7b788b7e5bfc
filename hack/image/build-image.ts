import { createHash } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runCommand } from '../../local/common/command.ts';
import { lockProgram } from '../../local/common/program-lock.ts';
import { repositoryRoot } from '../../local/common/repository.ts';
import { type ImageRunConfig, joinImageLayouts, writeImageLayout } from '../../local/image/image-layout.ts';
import { ensureNeeds, type SystemNeed } from '../../local/tools/debian-packages.ts';
import { cacheFolder, familyKey } from '../../local/tools/tool-cache.ts';
import { toolFamilies } from '../../local/tools/tool-catalog.ts';
import { ensureTools } from '../../local/tools/tools.ts';
import type { Progress, Step } from '../../src/cli/progress.ts';
import { writeLayer } from '../../src/oci/image-layer.ts';
import { type DebianPackage, fillBaseRoot, listBasePackages } from './base-root.ts';
import { writeBill } from './bill-of-materials.ts';
import { normaliseModes, setTimes } from './file-tree.ts';
import { BILL_FILE, runConfig } from './image-content.ts';
import { dropUnusedImageParts, keptLayer, markUsed } from './layer-cache.ts';
import { fillModulesRoot, fillProgramRoot } from './program-root.ts';
import { type Architecture, type ImageTarget, ownArchitecture, prepareTarget } from './target.ts';

/** The image on disk. */
export interface BuiltImage {
  /** Folder of its OCI layout. */
  readonly layout: string;
  /** Digest of its manifest or index, `sha256:…`. */
  readonly digest: string;
  /** Version of the program in it, which is its tag. */
  readonly version: string;
  /** Bill of materials: CycloneDX in JSON; of an index a list of them. */
  readonly bill: string;
  /** Whether it is an index of images for several processors. */
  readonly isIndex?: boolean;
}

export interface BuildImageOptions {
  readonly progress: Progress;
  readonly signal?: AbortSignal | undefined;
  /** Default: the user cache. */
  readonly cache?: string;
  /** Default: this repository. */
  readonly repository?: string;
  /** Its processor. Default: that of this machine. */
  readonly architecture?: Architecture;
  /** When it says it was made. Default: SOURCE_DATE_EPOCH, else the beginning of time. */
  readonly created?: Date;
}

/** Programs that the build runs beside npm and Go. */
const buildNeeds: readonly SystemNeed[] = [
  { program: 'dpkg-deb', debianPackage: 'dpkg', purpose: 'unpacking Debian packages into the image' },
  { program: 'tar', debianPackage: 'tar', purpose: 'unpacking Debian packages into the image' },
  { program: 'strip', debianPackage: 'binutils', purpose: 'making Node.js smaller' },
];
/** Inputs of an image beside the files of the repository. */
interface Parts {
  readonly repository: string;
  readonly packages: readonly DebianPackage[];
  /** Folder with the CNI plugins. */
  readonly plugins: string;
  readonly pluginNames: readonly string[];
  readonly pluginKey: string;
  readonly target: ImageTarget;
  /** Where files of the packages are kept. */
  readonly downloads: string;
  readonly step: Step;
  readonly signal: AbortSignal | undefined;
}

/**
 * Builds the image of ESB without a container engine, from Debian packages, npm packages of the lock file, CNI plugins
 * built from source and this repository. Layers of what did not change are kept in the user cache. The same commit,
 * Node.js and package lists give the same digest.
 *
 * @throws {EsbError} `PackagesMissing`, `GoMissing`, `BuildFailed`, `CommandFailed` with what a program said
 */
export async function buildImage(options: BuildImageOptions): Promise<BuiltImage> {
  const cache = join(options.cache ?? cacheFolder(), 'images');
  await mkdir(cache, { recursive: true });
  return withParts(options, async (parts) => {
    const lock = await lockProgram(join(cache, 'esb-lock'), {
      signal: options.signal,
      onWait: () => parts.step.note('waiting for another process that builds it'),
    });
    const staging = await mkdtemp(join(cache, '.esb-'));
    try {
      await dropUnusedImageParts(cache);
      const base = await keptLayer(cache, `esb-base-${await baseKey(parts)}`, (root) =>
        fillBaseRoot(root, parts.packages, parts),
      );
      const modules = await keptLayer(cache, `esb-modules-${await modulesKey(parts)}`, (root) =>
        fillModulesRoot(root, parts),
      );
      const root = join(staging, 'root');
      const bill = await fillChangingRoot(root, parts);
      parts.step.note('packing');
      const file = join(staging, 'program.tar.gz');
      const program = { ...(await writeLayer(root, file)), file };
      const version = await versionOf(parts.repository);
      const made = join(staging, 'layout');
      const digest = await writeImageLayout(made, [base, modules, program], configOf(version), {
        created: options.created ?? sourceDate(),
        architecture: parts.target.architecture,
      });
      const layout = join(cache, `esb-image-${digest.slice('sha256:'.length, 'sha256:'.length + 16)}`);
      await rm(layout, { recursive: true, force: true });
      await rename(made, layout);
      return { layout, digest, version, bill };
    } finally {
      await rm(staging, { recursive: true, force: true });
      await lock.release();
    }
  });
}

/**
 * Builds the image for several processors, as an index of one image for each. None of them is run for that.
 *
 * @throws {EsbError} as {@link buildImage}
 */
export async function buildIndex(
  architectures: readonly Architecture[],
  options: Omit<BuildImageOptions, 'architecture'>,
): Promise<BuiltImage> {
  const images: BuiltImage[] = [];
  for (const architecture of architectures) {
    images.push(await buildImage({ ...options, architecture }));
  }
  const [first] = images;
  if (first === undefined || images.length === 1) {
    return first ?? buildImage(options);
  }
  const cache = join(options.cache ?? cacheFolder(), 'images');
  const made = await mkdtemp(join(cache, '.esb-'));
  const digest = await joinImageLayouts(
    made,
    images.map(({ layout }, index) => ({ layout, architecture: architectures[index] ?? '' })),
  );
  const layout = join(cache, `esb-image-${digest.slice('sha256:'.length, 'sha256:'.length + 16)}`);
  await rm(layout, { recursive: true, force: true });
  await chmod(made, 0o755);
  await rename(made, layout);
  return {
    ...first,
    layout,
    digest,
    bill: `[${images.map(({ bill }) => bill.trimEnd()).join(',\n')}]\n`,
    isIndex: true,
  };
}

/**
 * Fills a folder with the file system of the image, one folder for each of its layers: `base`, `modules` and `program`.
 * The first stage of the Dockerfile does the same.
 */
export async function fillImageRoots(folder: string, options: BuildImageOptions): Promise<void> {
  await withParts(options, async (parts) => {
    await inFolder(join(folder, 'base'), (root) => fillBaseRoot(root, parts.packages, parts));
    await inFolder(join(folder, 'modules'), (root) => fillModulesRoot(root, parts));
    await inFolder(join(folder, 'program'), (root) => fillChangingRoot(root, parts));
    await setTimes(folder, options.created ?? sourceDate());
  });
}

async function inFolder(folder: string, fill: (root: string) => Promise<unknown>): Promise<void> {
  await mkdir(folder, { recursive: true });
  await fill(folder);
  await chmod(folder, 0o755);
}

/** How the image is run, and what it says of itself. */
export function configOf(version: string): ImageRunConfig {
  return {
    ...runConfig,
    Labels: {
      'org.opencontainers.image.title': 'esb',
      'org.opencontainers.image.version': version,
      'org.opencontainers.image.licenses': 'Apache-2.0',
    },
  };
}

/** The time that SOURCE_DATE_EPOCH gives in seconds since 1970, else 1970 itself. */
export function sourceDate(env: NodeJS.ProcessEnv = process.env): Date {
  const seconds = Number(env.SOURCE_DATE_EPOCH ?? 0);
  return new Date(Number.isSafeInteger(seconds) && seconds > 0 ? seconds * 1_000 : 0);
}

/** Pushes the image; gives its reference with the digest. Plain HTTP only where `insecure`. */
export async function pushImage(
  image: BuiltImage,
  reference: string,
  options: { readonly insecure: boolean; readonly progress: Progress; readonly signal?: AbortSignal },
): Promise<string> {
  const family = familyNamed('registry');
  const tools = await ensureTools({ progress: options.progress, families: [family], signal: options.signal });
  const crane = tools.paths.get('crane') ?? 'crane';
  const flags = [...(options.insecure ? ['--insecure'] : []), ...(image.isIndex === true ? ['--index'] : [])];
  await options.progress.step(`pushing ${reference}`, () =>
    runCommand(crane, ['push', ...flags, image.layout, reference], {
      signal: options.signal,
      deadlineMs: 5 * 60_000,
    }),
  );
  return `${reference.replace(/(@.*|:[^/:]*)$/, '')}@${image.digest}`;
}

async function withParts<T>(options: BuildImageOptions, work: (parts: Parts) => Promise<T>): Promise<T> {
  const { progress, signal } = options;
  await ensureNeeds(buildNeeds, progress, signal);
  const family = familyNamed('cni');
  const { architecture = ownArchitecture(), cache = cacheFolder() } = options;
  const target = await prepareTarget(architecture, join(cache, 'images'), { progress, signal });
  const tools = await ensureTools({
    progress,
    signal,
    families: [family],
    cache: target.toolCache ?? cache,
    env: target.env,
  });
  const pluginNames = family.programs.map((program) => program.name);
  return progress.step(`building the image esb for ${architecture}`, async (step) => {
    const packages = await listBasePackages(step, target.env, signal);
    const downloads = join(cacheFolder(), 'images', `esb-packages-${await keyOf([], [packages])}`);
    await mkdir(downloads, { recursive: true });
    await markUsed(downloads);
    return work({
      repository: options.repository ?? repositoryRoot(),
      packages,
      downloads,
      plugins: dirname(tools.paths.get(pluginNames[0] ?? '') ?? ''),
      pluginNames,
      pluginKey: familyKey(family),
      target,
      step,
      signal,
    });
  });
}

function familyNamed(name: string): (typeof toolFamilies)[number] {
  const family = toolFamilies.find((each) => each.name === name);
  if (family === undefined) {
    throw new Error(`no tool family ${name}`);
  }
  return family;
}

/** The program and the bill of materials; gives the latter. */
async function fillChangingRoot(root: string, parts: Parts): Promise<string> {
  await fillProgramRoot(root, parts);
  const bill = await writeBill({
    ...parts,
    architecture: parts.target.architecture,
    debianPackages: parts.packages,
    debianRelease: await debianRelease(),
    goPrograms: parts.pluginNames.map((name) => join(parts.plugins, name)),
  });
  const file = join(root, BILL_FILE);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, bill);
  await normaliseModes(root);
  return bill;
}

async function versionOf(repository: string): Promise<string> {
  const text = await readFile(join(repository, 'package.json'), 'utf8');
  return (JSON.parse(text) as { readonly version: string }).version;
}

/** Packages come from the release of this machine. */
async function debianRelease(): Promise<string> {
  return /^VERSION_ID="?(\d+)/m.exec(await readFile('/etc/os-release', 'utf8'))?.[1] ?? 'unknown';
}

async function baseKey(parts: Parts): Promise<string> {
  const { architecture, initProgram, strip: program } = parts.target;
  const { stdout: strip } = await runCommand(program, ['--version'], { signal: parts.signal });
  const init = await readFile(initProgram, 'base64');
  return keyOf(
    ['base-root.ts', 'image-content.ts'],
    [process.version, architecture, strip, parts.pluginKey, init, parts.packages],
  );
}

async function modulesKey(parts: Parts): Promise<string> {
  const lock = await readFile(join(parts.repository, 'package-lock.json'), 'utf8');
  return keyOf(['program-root.ts', 'image-content.ts'], [lock]);
}

/** A key of recipes, which are files of this folder, and of what goes into them. */
async function keyOf(recipes: readonly string[], inputs: readonly unknown[]): Promise<string> {
  const hash = createHash('sha256');
  for (const name of recipes) {
    hash.update(await readFile(fileURLToPath(new URL(name, import.meta.url))));
  }
  hash.update(JSON.stringify(inputs));
  return hash.digest('hex').slice(0, 16);
}
