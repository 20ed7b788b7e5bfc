import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { lockProgram } from '../../local/common/program-lock.ts';
import type { LayerFile } from '../../local/image/image-layout.ts';
import { ensureNeeds, type SystemNeed } from '../../local/tools/debian-packages.ts';
import { cacheFolder } from '../../local/tools/tool-cache.ts';
import { createProgress, type Progress, type Step } from '../../src/cli/progress.ts';
import { type LayerDescriptor, writeLayer } from '../../src/oci/image-layer.ts';

/** Parts that all builds of images use. */
export interface BuildContext {
  readonly progress: Progress;
  /** Folder of the third-party programs. */
  readonly tools: string;
  /** Folder that keeps layers and images. */
  readonly cache: string;
}

/** A context of builds into the user cache. Default: without progress. */
export function buildContext(
  tools: string,
  progress: Progress = createProgress({ write: () => undefined }),
): BuildContext {
  return { tools, progress, cache: join(cacheFolder(), 'shapes') };
}

/** A layer of an image, built once for each version of what it is made from. */
export interface LayerRecipe {
  readonly name: string;
  /** Versions and the like. */
  readonly inputs?: readonly unknown[];
  /** Folders and files of which each byte counts. */
  readonly sources?: (context: BuildContext) => readonly string[];
  /** Programs of this machine that build it. */
  readonly needs?: readonly SystemNeed[];
  /** Fills the layer. `scratch` is a folder for files that do not belong to it. */
  readonly fill: (root: string, parts: FillParts) => Promise<unknown>;
}

export interface FillParts extends BuildContext {
  readonly step: Step;
  readonly scratch: string;
}

/** Part of every key; raise it when a builder changes. */
const REVISION = 1;

/** Key of the content of a layer. */
export async function layerKey(recipe: LayerRecipe, context: BuildContext): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify([REVISION, recipe.name, process.arch, recipe.inputs]));
  for (const source of recipe.sources?.(context) ?? []) {
    await addSource(hash, source);
  }
  return hash.digest('hex').slice(0, 16);
}

async function addSource(hash: ReturnType<typeof createHash>, source: string): Promise<void> {
  const below = await readdir(source).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOTDIR') {
      return undefined;
    }
    throw error;
  });
  hash.update(source.slice(source.lastIndexOf('/')));
  if (below === undefined) {
    hash.update(await readFile(source));
    return;
  }
  for (const name of below.toSorted()) {
    await addSource(hash, join(source, name));
  }
}

/** Builds a layer, or takes it from the cache. */
export async function ensureLayer(recipe: LayerRecipe, context: BuildContext): Promise<LayerFile> {
  const folder = join(context.cache, 'layers');
  const file = join(folder, `${recipe.name}-${await layerKey(recipe, context)}.tar.gz`);
  const described = `${file}.json`;
  if (!existsSync(described)) {
    await mkdir(folder, { recursive: true });
    await ensureNeeds(recipe.needs ?? [], context.progress);
    await context.progress.step(`building the layer ${recipe.name}`, async (step) => {
      const lock = await lockProgram(join(folder, `${recipe.name}.lock`), {
        onWait: () => step.note('waiting for another build'),
      });
      try {
        if (!existsSync(described)) {
          await build(recipe, file, { ...context, step });
        }
      } finally {
        await lock.release();
      }
    });
  }
  return { ...(JSON.parse(await readFile(described, 'utf8')) as LayerDescriptor), file };
}

async function build(recipe: LayerRecipe, file: string, parts: BuildContext & { readonly step: Step }): Promise<void> {
  const staging = await mkdtemp(join(parts.cache, '.layer-'));
  try {
    const root = join(staging, 'root');
    const scratch = join(staging, 'scratch');
    await mkdir(root);
    await mkdir(scratch);
    await recipe.fill(root, { ...parts, scratch });
    parts.step.note('packing');
    const made = join(staging, 'layer.tar.gz');
    const descriptor = await writeLayer(root, made);
    await rename(made, file);
    await writeFile(`${file}.json`, JSON.stringify(descriptor));
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}
