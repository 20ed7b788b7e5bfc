import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { LayerFile } from '../../local/image/image-layout.ts';
import { type LayerDescriptor, writeLayer } from '../../src/oci/image-layer.ts';

/** Names of what this folder's modules keep in the cache, and of what a build that was killed left there. */
const ofTheImage = /^(esb-(base|image|modules|packages)-|\.esb-|\.layer-)/;
const KEPT_MS = 2 * 24 * 60 * 60_000;

/**
 * The layer that is kept below `folder` under `name`, made by `fill` when it is not there. A name says everything that
 * the layer is made from. One process at a time may do this.
 */
export async function keptLayer(
  folder: string,
  name: string,
  fill: (root: string) => Promise<void>,
): Promise<LayerFile> {
  const file = join(folder, `${name}.tar.gz`);
  const descriptorFile = `${file}.json`;
  const kept = await readDescriptor(descriptorFile);
  if (kept !== undefined) {
    await markUsed(file, descriptorFile);
    return { ...kept, file };
  }
  const staging = await mkdtemp(join(folder, '.layer-'));
  try {
    const root = join(staging, 'root');
    await mkdir(root);
    await fill(root);
    const made = join(staging, 'layer.tar.gz');
    const descriptor = await writeLayer(root, made);
    await rename(made, file);
    // Last: without it, the layer is not there.
    await writeFile(`${descriptorFile}.tmp`, JSON.stringify(descriptor));
    await rename(`${descriptorFile}.tmp`, descriptorFile);
    return { ...descriptor, file };
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** Removes what is kept below `folder` and was not used for a while. */
export async function dropUnusedImageParts(folder: string, now = Date.now()): Promise<void> {
  for (const name of (await readdir(folder)).filter((each) => ofTheImage.test(each))) {
    const path = join(folder, name);
    if (now - (await stat(path)).mtimeMs > KEPT_MS) {
      await rm(path, { recursive: true, force: true });
    }
  }
}

/** Restarts the time after which these files are dropped. */
export async function markUsed(...paths: readonly string[]): Promise<void> {
  const now = new Date();
  for (const path of paths) {
    await utimes(path, now, now);
  }
}

async function readDescriptor(file: string): Promise<LayerDescriptor | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as LayerDescriptor;
  } catch {
    return undefined;
  }
}
