import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeImageLayout } from '../../local/image/image-layout.ts';
import { type BuildContext, ensureLayer, layerKey } from './layer.ts';
import type { Shape } from './shapes.ts';

/** The image of a shape on disk. */
export interface ShapeImage {
  /** Folder in the layout of OCI. */
  readonly layout: string;
  /** Digest of the manifest, `sha256:…`. */
  readonly digest: string;
}

/** Builds the image of a shape, or takes it from the cache. */
export async function ensureShapeImage(shape: Shape, context: BuildContext): Promise<ShapeImage> {
  const keys = await Promise.all(shape.layers.map((layer) => layerKey(layer, context)));
  const key = createHash('sha256').update(JSON.stringify([keys, shape.run, shape.architecture]));
  const layout = join(context.cache, `${shape.name}-${key.digest('hex').slice(0, 16)}`);
  const digestFile = join(layout, 'digest');
  if (!existsSync(digestFile)) {
    const layers = [];
    for (const layer of shape.layers) {
      layers.push(await ensureLayer(layer, context));
    }
    await mkdir(context.cache, { recursive: true });
    const staging = await mkdtemp(join(context.cache, '.image-'));
    const { architecture } = shape;
    const digest = await writeImageLayout(
      staging,
      layers,
      shape.run,
      architecture === undefined ? {} : { architecture },
    );
    await writeFile(join(staging, 'digest'), digest);
    await rm(layout, { recursive: true, force: true });
    await rename(staging, layout);
  }
  return { layout, digest: await readFile(digestFile, 'utf8') };
}
