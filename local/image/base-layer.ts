import { createHash } from 'node:crypto';
import { access, chmod, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Progress, Step } from '../../src/cli/progress.ts';
import { type LayerDescriptor, writeLayer } from '../../src/oci/image-layer.ts';
import { runCommand } from '../common/command.ts';
import type { LayerFile } from './image-layout.ts';
import { unpackDebianPython, unpackNode } from './language-root.ts';
import { installWheels } from './pip.ts';

export type BaseName = 'python' | 'nodejs';

/** The layer of a language. */
export interface LanguageLayer extends LayerFile {
  /** Version of its Python, such as `3.11`; undefined for another language. */
  readonly pythonVersion?: string;
}

export interface BaseLayerOptions {
  readonly progress: Progress;
  readonly signal?: AbortSignal | undefined;
}

/** Part of every key below; raise it when the recipes change. */
const RECIPE_REVISION = 4;
/** Packages of the Python images from PyPI. */
const pythonRequirements = ['awslambdaric==4.2.2', 'simplejson==4.3.0', 'snapshot-restore-py==1.0.0'] as const;
const COMPILE_DEADLINE_MS = 5 * 60_000;

/** The layer that images of one language share: the language, and the runtime client of Python. */
export async function ensureBaseLayer(
  base: BaseName,
  cache: string,
  staging: string,
  options: BaseLayerOptions,
  step: Step,
): Promise<LanguageLayer> {
  const file = join(cache, `base-${base}-${baseKey(base)}.tar.gz`);
  const descriptorFile = `${file}.json`;
  if ((await exists(file)) && (await exists(descriptorFile))) {
    return { ...(JSON.parse(await readFile(descriptorFile, 'utf8')) as LayerDescriptor), file };
  }
  const root = join(staging, base);
  await mkdir(root);
  const about = await fillLanguage(base, root, options, step);
  for (const folder of ['tmp', 'proc', 'sys', 'dev', 'etc', 'var/task', 'var/runtime', 'usr/local/bin']) {
    await mkdir(join(root, folder), { recursive: true });
  }
  await chmod(join(root, 'tmp'), 0o1777);
  await writeFile(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n');
  await writeFile(join(root, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n');
  step.note('packing');
  const made = join(staging, `${base}.tar.gz`);
  const descriptor = { ...(await writeLayer(root, made)), ...about };
  await rm(root, { recursive: true, force: true });
  await rename(made, file);
  await writeFile(descriptorFile, JSON.stringify(descriptor));
  return { ...descriptor, file };
}

async function fillLanguage(
  base: BaseName,
  root: string,
  options: BaseLayerOptions,
  step: Step,
): Promise<Pick<LanguageLayer, 'pythonVersion'>> {
  if (base === 'python') {
    return { pythonVersion: await fillPython(root, options, step) };
  }
  await unpackNode(root, step, options.signal);
  return {};
}

/** Returns the version of its Python. */
async function fillPython(root: string, options: BaseLayerOptions, step: Step): Promise<string> {
  const { signal } = options;
  const version = await unpackDebianPython(root, step, signal);
  await installWheels(pythonRequirements, version, join(root, 'var/runtime'), { step, ...options });
  step.note('compiling Python modules');
  // By the image's own Python, and without times: a first call takes 50 ms instead of 144.
  await runCommand(
    'chroot',
    [root, `/usr/bin/python${version}`, '-m', 'compileall', '-q', '--invalidation-mode', 'unchecked-hash']
      .concat(['-x', '/(test|tests|idlelib|lib2to3)/'])
      .concat([`/usr/lib/python${version}`, '/var/runtime']),
    {
      signal,
      deadlineMs: COMPILE_DEADLINE_MS,
      allowedExitCodes: [0, 1],
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    },
  );
  return version;
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
