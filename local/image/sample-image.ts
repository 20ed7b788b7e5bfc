import { createHash } from 'node:crypto';
import { access, chmod, copyFile, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { EsbError, messageOf } from '../../src/common/errors.ts';
import { runCommand } from '../common/command.ts';
import { localCode } from '../common/error-codes.ts';
import { lockProgram } from '../common/program-lock.ts';
import type { Progress, Step } from '../common/progress.ts';
import { repositoryRoot } from '../common/repository.ts';
import { retry } from '../common/retry.ts';
import { cacheFolder } from '../tools/tool-cache.ts';
import { debianClosure, ensurePackageLists, unpackDebianPackages } from './debian-root.ts';
import { type LayerDescriptor, writeLayer } from './image-layer.ts';
import { type ImageRunConfig, type LayerFile, writeImageLayout } from './image-layout.ts';
import { findPip } from './pip.ts';

/** The images of a local instance, each named as its folder below `examples/`. */
export type SampleImageName = 'python-base' | 'python-counter' | 'nodejs-base' | 'nodejs-counter' | 'aws-base-shape';

export const sampleImageNames: readonly SampleImageName[] = [
  'python-base',
  'python-counter',
  'nodejs-base',
  'nodejs-counter',
  'aws-base-shape',
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

/** Part of every key below; raise it when the recipes change. */
const RECIPE_REVISION = 2;
/** Packages of the Python images from PyPI. */
const pythonRequirements = ['awslambdaric==4.2.2', 'simplejson==4.3.0', 'snapshot-restore-py==1.0.0'] as const;
const pythonPackages =
  /^(python3\.\d+-minimal|libpython3\.\d+-(minimal|stdlib)|libc6|zlib1g|libexpat1|libssl3(t64)?|libgcc-s1|libstdc\+\+6|libbz2-1\.0|liblzma5|libffi\d+|libuuid1|libcrypt1|libzstd1)$/;
const nodePackages = /^(libc6|libgcc-s1|libstdc\+\+6|libatomic1)$/;
const PIP_DEADLINE_MS = 5 * 60_000;

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
  /** Files of the repository and their places in the image. */
  readonly files: readonly { readonly from: string; readonly to: string; readonly mode: number }[];
  /** Further Debian packages. */
  readonly packages: readonly string[];
  readonly run: ImageRunConfig;
}

type BaseName = 'python' | 'nodejs';

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

/** The command of a function in Python, without a handler, which the resource gives. */
const pythonRun = {
  Entrypoint: ['/usr/local/bin/aws-lambda-rie', 'python3', '-m', 'awslambdaric'],
  Env: pythonEnv,
  WorkingDir: '/var/task',
};
/** The same for JavaScript. */
const nodeRun = {
  Entrypoint: ['/usr/local/bin/aws-lambda-rie', 'node', '/var/runtime/bootstrap.mjs'],
  Env: [path, 'LAMBDA_TASK_ROOT=/var/task'],
  WorkingDir: '/var/task',
};

const recipes: Readonly<Record<SampleImageName, Recipe>> = {
  'python-base': { base: 'python', files: [], packages: [], run: pythonRun },
  'python-counter': {
    base: 'python',
    files: [pythonFunction],
    packages: [],
    run: { ...pythonRun, Entrypoint: [...pythonRun.Entrypoint, 'lambda_function.handler'] },
  },
  'nodejs-base': { base: 'nodejs', files: [nodeClient], packages: [], run: nodeRun },
  'nodejs-counter': {
    base: 'nodejs',
    files: [{ from: 'examples/nodejs-counter/index.mjs', to: 'var/task/index.mjs', mode: 0o644 }, nodeClient],
    packages: [],
    run: { ...nodeRun, Entrypoint: [...nodeRun.Entrypoint, 'index.handler'] },
  },
  'aws-base-shape': {
    base: 'python',
    files: [
      pythonFunction,
      { from: 'examples/aws-base-shape/lambda-entrypoint.sh', to: 'lambda-entrypoint.sh', mode: 0o755 },
      { from: 'examples/aws-base-shape/bootstrap', to: 'var/runtime/bootstrap', mode: 0o755 },
    ],
    packages: ['dash'],
    run: { Entrypoint: ['/lambda-entrypoint.sh'], Env: pythonEnv, WorkingDir: '/var/task' },
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
    for (const file of recipe.files) {
      const target = join(top, file.to);
      await mkdir(dirname(target), { recursive: true });
      await copyFile(join(repositoryRoot(), file.from), target);
      await chmod(target, file.mode);
    }
    step.note('packing');
    const topFile = join(staging, 'top.tar.gz');
    const layer = await writeLayer(top, topFile);
    const made = join(staging, 'layout');
    const digest = await writeImageLayout(made, [base, { ...layer, file: topFile }], recipe.run);
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

/** The layer that images of one language share. */
async function ensureBaseLayer(
  base: BaseName,
  cache: string,
  staging: string,
  options: SampleImageOptions,
  step: Step,
): Promise<LayerFile> {
  const file = join(cache, `base-${base}-${await baseKey(base, options)}.tar.gz`);
  const descriptorFile = `${file}.json`;
  if ((await exists(file)) && (await exists(descriptorFile))) {
    return { ...(JSON.parse(await readFile(descriptorFile, 'utf8')) as LayerDescriptor), file };
  }
  const root = join(staging, base);
  await mkdir(root);
  await (base === 'python' ? fillPython : fillNode)(root, options, step);
  for (const folder of ['tmp', 'proc', 'sys', 'dev', 'etc', 'var/task', 'var/runtime', 'usr/local/bin']) {
    await mkdir(join(root, folder), { recursive: true });
  }
  await chmod(join(root, 'tmp'), 0o1777);
  await writeFile(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n');
  await writeFile(join(root, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n');
  // A copy, since the folder of programs holds links.
  const emulator = join(root, 'usr/local/bin/aws-lambda-rie');
  await copyFile(join(options.tools, 'aws-lambda-rie'), emulator);
  await chmod(emulator, 0o755);
  step.note('packing');
  const made = join(staging, `${base}.tar.gz`);
  const descriptor = await writeLayer(root, made);
  await rm(root, { recursive: true, force: true });
  await rename(made, file);
  await writeFile(descriptorFile, JSON.stringify(descriptor));
  return { ...descriptor, file };
}

async function fillPython(root: string, options: SampleImageOptions, step: Step): Promise<void> {
  const { signal } = options;
  await ensurePackageLists('python3-minimal', step, signal);
  const { stdout } = await runCommand('apt-cache', ['depends', 'python3-minimal'], { signal });
  const version = /\bpython(3\.\d+)-minimal\b/.exec(stdout)?.[1];
  if (version === undefined) {
    throw new EsbError('the package lists of this machine do not say which Python 3 they have', {
      code: localCode('PackagesMissing'),
    });
  }
  const roots = [`python${version}-minimal`, `libpython${version}-stdlib`, 'libstdc++6'];
  await unpackDebianPackages(await debianClosure(roots, pythonPackages, { signal }), root, step, {
    signal,
  });
  await runCommand('ln', ['-sf', `python${version}`, join(root, 'usr/bin/python3')]);
  await installRequirements(join(root, 'var/runtime'), version, options, step);
  step.note('compiling Python modules');
  // By the image's own Python, and without times: a first call takes 50 ms instead of 144.
  await runCommand(
    'chroot',
    [root, `/usr/bin/python${version}`, '-m', 'compileall', '-q', '--invalidation-mode', 'unchecked-hash']
      .concat(['-x', '/(test|tests|idlelib|lib2to3)/'])
      .concat([`/usr/lib/python${version}`, '/var/runtime']),
    {
      signal,
      deadlineMs: PIP_DEADLINE_MS,
      allowedExitCodes: [0, 1],
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    },
  );
}

/** pip for the image's Python, run by a Python of this machine. */
async function installRequirements(
  target: string,
  version: string,
  options: SampleImageOptions,
  step: Step,
): Promise<void> {
  const { command: pip } = await findPip({
    progress: options.progress,
    purpose: 'installing awslambdaric into the Python sample image',
    signal: options.signal,
  });
  const abi = `cp${version.replace('.', '')}`;
  const machine = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
  const platforms = [`manylinux2014_${machine}`, `manylinux_2_17_${machine}`, `manylinux_2_28_${machine}`];
  await retry(
    async () => {
      step.note(`pip install ${pythonRequirements[0]}`);
      await rm(target, { recursive: true, force: true });
      await runCommand(
        pip[0] ?? '',
        [
          ...pip.slice(1),
          'install',
          '--quiet',
          '--disable-pip-version-check',
          '--no-deps',
          '--no-compile',
          '--only-binary=:all:',
          '--implementation=cp',
          `--python-version=${version}`,
          `--abi=${abi}`,
          '--abi=abi3',
          '--abi=none',
          ...platforms.map((platform) => `--platform=${platform}`),
          '--platform=any',
          `--target=${target}`,
          ...pythonRequirements,
        ],
        {
          signal: options.signal,
          deadlineMs: PIP_DEADLINE_MS,
          env: { ...process.env, PIP_ROOT_USER_ACTION: 'ignore' },
        },
      );
    },
    {
      signal: options.signal,
      onRetry: (error) => step.note(`trying again: ${messageOf(error).slice(-200)}`),
    },
  );
}

async function fillNode(root: string, options: SampleImageOptions, step: Step): Promise<void> {
  await ensurePackageLists('libatomic1', step, options.signal);
  const packages = await debianClosure(['libatomic1', 'libstdc++6'], nodePackages, {
    signal: options.signal,
  });
  await unpackDebianPackages(packages, root, step, { signal: options.signal });
  const target = join(root, 'usr/bin/node');
  await copyFile(process.execPath, target);
  step.note('stripping the Node.js program');
  try {
    await runCommand('strip', [target], { signal: options.signal });
  } catch {
    // Without binutils the image is a little larger.
  }
  await chmod(target, 0o755);
}

async function baseKey(base: BaseName, options: SampleImageOptions): Promise<string> {
  const hash = createHash('sha256').update(`${RECIPE_REVISION} ${base} ${process.arch}`);
  hash.update(base === 'python' ? pythonRequirements.join(' ') : process.version);
  hash.update(await readFile(join(options.tools, 'aws-lambda-rie')));
  return hash.digest('hex').slice(0, 16);
}

async function keyOf(name: SampleImageName, recipe: Recipe, options: SampleImageOptions): Promise<string> {
  const hash = createHash('sha256').update(await baseKey(recipe.base, options));
  hash.update(JSON.stringify([name, recipe]));
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

async function exists(file: string): Promise<boolean> {
  try {
    await access(file);
    return true;
  } catch {
    return false;
  }
}
