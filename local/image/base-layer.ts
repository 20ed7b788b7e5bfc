import { createHash } from 'node:crypto';
import { access, chmod, copyFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EsbError, messageOf } from '../../src/common/errors.ts';
import { runCommand } from '../common/command.ts';
import { localCode } from '../common/error-codes.ts';
import type { Progress, Step } from '../common/progress.ts';
import { retry } from '../common/retry.ts';
import { debianClosure, ensurePackageLists, unpackDebianPackages } from './debian-root.ts';
import { type LayerDescriptor, writeLayer } from './image-layer.ts';
import type { LayerFile } from './image-layout.ts';
import { findPip } from './pip.ts';

export type BaseName = 'python' | 'nodejs';

export interface BaseLayerOptions {
  readonly progress: Progress;
  readonly signal?: AbortSignal | undefined;
}

/** Part of every key below; raise it when the recipes change. */
const RECIPE_REVISION = 3;
/** Packages of the Python images from PyPI. */
const pythonRequirements = ['awslambdaric==4.2.2', 'simplejson==4.3.0', 'snapshot-restore-py==1.0.0'] as const;
const pythonPackages =
  /^(python3\.\d+-minimal|libpython3\.\d+-(minimal|stdlib)|libc6|zlib1g|libexpat1|libssl3(t64)?|libgcc-s1|libstdc\+\+6|libbz2-1\.0|liblzma5|libffi\d+|libuuid1|libcrypt1|libzstd1)$/;
const nodePackages = /^(libc6|libgcc-s1|libstdc\+\+6|libatomic1)$/;
const PIP_DEADLINE_MS = 5 * 60_000;

/** The layer that images of one language share: the language, and the runtime client of Python. */
export async function ensureBaseLayer(
  base: BaseName,
  cache: string,
  staging: string,
  options: BaseLayerOptions,
  step: Step,
): Promise<LayerFile> {
  const file = join(cache, `base-${base}-${baseKey(base)}.tar.gz`);
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
  step.note('packing');
  const made = join(staging, `${base}.tar.gz`);
  const descriptor = await writeLayer(root, made);
  await rm(root, { recursive: true, force: true });
  await rename(made, file);
  await writeFile(descriptorFile, JSON.stringify(descriptor));
  return { ...descriptor, file };
}

async function fillPython(root: string, options: BaseLayerOptions, step: Step): Promise<void> {
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
  options: BaseLayerOptions,
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

async function fillNode(root: string, options: BaseLayerOptions, step: Step): Promise<void> {
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

/** Key of all that the layer is made from. */
export function baseKey(base: BaseName): string {
  const hash = createHash('sha256').update(`${RECIPE_REVISION} ${base} ${process.arch}`);
  hash.update(base === 'python' ? pythonRequirements.join(' ') : process.version);
  return hash.digest('hex').slice(0, 16);
}

async function exists(file: string): Promise<boolean> {
  try {
    await access(file);
    return true;
  } catch {
    return false;
  }
}
