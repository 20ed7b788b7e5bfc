import { createHash } from 'node:crypto';
import { chmod, copyFile, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Progress, Step } from '../../src/cli/progress.ts';
import { EsbError } from '../../src/common/errors.ts';
import { writeLayer } from '../../src/oci/image-layer.ts';
import { runCommand } from '../common/command.ts';
import { lockProgram } from '../common/program-lock.ts';
import { repositoryRoot } from '../common/repository.ts';
import { cacheFolder } from '../tools/tool-cache.ts';
import { type BaseName, baseKey, ensureBaseLayer } from './base-layer.ts';
import { ensurePackageLists, unpackDebianPackages } from './debian-root.ts';
import { type ImageRunConfig, writeImageLayout } from './image-layout.ts';

/** The images of a local instance, each named as its folder below `examples/`. */
export type SampleImageName =
  | 'python-base'
  | 'python-counter'
  | 'nodejs-base'
  | 'nodejs-counter'
  | 'aws-base-shape'
  | 'python-emulator';

export const sampleImageNames: readonly SampleImageName[] = [
  'python-base',
  'python-counter',
  'nodejs-base',
  'nodejs-counter',
  'aws-base-shape',
  'python-emulator',
];

/** An image on disk. */
export interface SampleImage {
  readonly name: SampleImageName;
  /** Folder of its OCI layout. */
  readonly layout: string;
  /** Digest of its manifest, `sha256:…`. */
  readonly digest: string;
}

export interface SampleImageOptions {
  readonly progress: Progress;
  /** Folder with the third-party programs. */
  readonly tools: string;
  readonly signal?: AbortSignal | undefined;
  /** Default: the user cache. */
  readonly cache?: string;
}

const emulator = 'aws-lambda-rie';

/**
 * Builds one of the sample images without Docker, from Debian packages, PyPI and this repository; once, into the user
 * cache.
 *
 * @throws {EsbError} `PackagesMissing` when the machine lacks a program, `CommandFailed` with the output of a
 *   program
 */
export async function ensureSampleImage(name: SampleImageName, options: SampleImageOptions): Promise<SampleImage> {
  const recipe = recipes[name];
  const cache = join(options.cache ?? cacheFolder(), 'images');
  const key = await keyOf(name, recipe, options);
  const layout = join(cache, `${name}-${key}`);
  const built = await readDigest(layout);
  if (built !== undefined) {
    return { name, layout, digest: built };
  }
  return options.progress.step(`building the image ${name}`, async (step) => {
    const lock = await lockProgram(join(cache, 'lock'), {
      signal: options.signal,
      onWait: () => step.note('waiting for another process that builds it'),
    });
    try {
      const digest = (await readDigest(layout)) ?? (await build(name, recipe, cache, layout, options, step));
      return { name, layout, digest };
    } finally {
      await lock.release();
    }
  });
}

/** Pushes an image to a plain-HTTP registry unless it is there; returns its reference. */
export async function pushSampleImage(
  image: SampleImage,
  registry: string,
  options: SampleImageOptions,
): Promise<string> {
  const reference = `${registry}/${image.name}:latest`;
  const crane = join(options.tools, 'crane');
  const there = await runCommand(crane, ['digest', '--insecure', reference], {
    signal: options.signal,
    allowedExitCodes: [0, 1],
  });
  if (there.stdout.trim() !== image.digest) {
    await options.progress.step(`pushing ${reference}`, async () => {
      await runCommand(crane, ['push', '--insecure', image.layout, reference], {
        signal: options.signal,
        deadlineMs: 2 * 60_000,
      });
    });
  }
  return reference;
}

/** The recipe of an image: a shared base, a few files on top, and the command. */
interface Recipe {
  readonly base: BaseName;
  /** Whether the image has AWS's emulator. Default false. */
  readonly emulator?: boolean;
  /** Files of the repository and their places in the image. */
  readonly files: readonly { readonly from: string; readonly to: string; readonly mode: number }[];
  /** Further Debian packages. */
  readonly packages: readonly string[];
  readonly run: ImageRunConfig;
}

const path = 'PATH=/usr/local/bin:/usr/bin:/bin';
const pythonEnv = [path, 'LANG=C.UTF-8', 'PYTHONPATH=/var/runtime', 'LAMBDA_TASK_ROOT=/var/task'];
const pythonFunction = {
  from: 'examples/python-counter/lambda_function.py',
  to: 'var/task/lambda_function.py',
  mode: 0o644,
};

const nodeClient = {
  from: 'examples/nodejs-base/bootstrap.mjs',
  to: 'var/runtime/bootstrap.mjs',
  mode: 0o644,
};

/** The command of a function in Python, without a handler. */
const pythonRun = {
  Entrypoint: ['python3', '-m', 'awslambdaric'],
  Env: pythonEnv,
  WorkingDir: '/var/task',
};
/** Sample image for JavaScript. */
const nodeRun = {
  Entrypoint: ['node', '/var/runtime/bootstrap.mjs'],
  Env: [path, 'LAMBDA_TASK_ROOT=/var/task'],
  WorkingDir: '/var/task',
};

const recipes: Readonly<Record<SampleImageName, Recipe>> = {
  'python-base': { base: 'python', files: [], packages: [], run: pythonRun },
  'python-counter': {
    base: 'python',
    files: [pythonFunction],
    packages: [],
    run: { ...pythonRun, Cmd: ['lambda_function.handler'] },
  },
  'nodejs-base': { base: 'nodejs', files: [nodeClient], packages: [], run: nodeRun },
  'nodejs-counter': {
    base: 'nodejs',
    files: [{ from: 'examples/nodejs-counter/index.mjs', to: 'var/task/index.mjs', mode: 0o644 }, nodeClient],
    packages: [],
    run: { ...nodeRun, Cmd: ['index.handler'] },
  },
  'aws-base-shape': {
    base: 'python',
    emulator: true,
    files: [
      pythonFunction,
      { from: 'examples/aws-base-shape/lambda-entrypoint.sh', to: 'lambda-entrypoint.sh', mode: 0o755 },
      { from: 'examples/aws-base-shape/bootstrap', to: 'var/runtime/bootstrap', mode: 0o755 },
    ],
    packages: ['dash'],
    run: { Entrypoint: ['/lambda-entrypoint.sh'], Env: pythonEnv, WorkingDir: '/var/task' },
  },
  'python-emulator': {
    base: 'python',
    emulator: true,
    files: [pythonFunction],
    packages: [],
    run: {
      ...pythonRun,
      Entrypoint: [`/usr/local/bin/${emulator}`, ...pythonRun.Entrypoint],
      Cmd: ['lambda_function.handler'],
    },
  },
};

async function build(
  name: SampleImageName,
  recipe: Recipe,
  cache: string,
  layout: string,
  options: SampleImageOptions,
  step: Step,
): Promise<string> {
  const staging = await mkdtemp(join(cache, '.build-'));
  try {
    const base = await ensureBaseLayer(recipe.base, cache, staging, options, step);
    const top = join(staging, 'top');
    await mkdir(top);
    if (recipe.packages.length > 0) {
      await ensurePackageLists(recipe.packages[0] ?? '', step, options.signal);
      await unpackDebianPackages(recipe.packages, top, step, { signal: options.signal });
    }
    const files = recipe.files.map(({ from, ...file }) => ({ ...file, from: join(repositoryRoot(), from) }));
    if (recipe.emulator === true) {
      files.push({ from: join(options.tools, emulator), to: `usr/local/bin/${emulator}`, mode: 0o755 });
    }
    for (const { from, mode, to } of files) {
      const target = join(top, to);
      await mkdir(dirname(target), { recursive: true });
      // The file itself: the folder of programs holds links.
      await copyFile(from, target);
      await chmod(target, mode);
    }
    step.note('packing');
    const topFile = join(staging, 'top.tar.gz');
    const layer = await writeLayer(top, topFile);
    const made = join(staging, 'layout');
    // As official images of Python have it: builds on top of this one choose packages by it.
    const version = base.pythonVersion === undefined ? [] : [`PYTHON_VERSION=${base.pythonVersion}`];
    const run = { ...recipe.run, Env: [...recipe.run.Env, ...version] };
    const digest = await writeImageLayout(made, [base, { ...layer, file: topFile }], run);
    await writeFile(join(made, 'digest'), digest);
    await rm(layout, { recursive: true, force: true });
    await rename(made, layout);
    return digest;
  } catch (error) {
    const failure = EsbError.from(error);
    throw new EsbError(`the image ${name} could not be built: ${failure.message}`, {
      code: failure.code,
      cause: error,
    });
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function keyOf(name: SampleImageName, recipe: Recipe, options: SampleImageOptions): Promise<string> {
  const hash = createHash('sha256').update(baseKey(recipe.base));
  hash.update(JSON.stringify([name, recipe]));
  if (recipe.emulator === true) {
    hash.update(await readFile(join(options.tools, emulator)));
  }
  for (const file of recipe.files) {
    hash.update(await readFile(join(repositoryRoot(), file.from)));
  }
  return hash.digest('hex').slice(0, 16);
}

async function readDigest(layout: string): Promise<string | undefined> {
  try {
    return await readFile(join(layout, 'digest'), 'utf8');
  } catch {
    return undefined;
  }
}
