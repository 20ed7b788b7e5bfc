import { createHash } from 'node:crypto';
import { copyFile, link, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../src/common/errors.ts';
import { imageDocuments, ociTypes } from '../../src/oci/image-documents.ts';
import type { LayerDescriptor } from '../../src/oci/image-layer.ts';

/** A layer and the file that holds it. */
export interface LayerFile extends LayerDescriptor {
  readonly file: string;
}

/** The part of an image's configuration for its process. */
export interface ImageRunConfig {
  readonly Entrypoint: readonly string[];
  readonly Cmd?: readonly string[];
  readonly Env: readonly string[];
  readonly WorkingDir: string;
  /** `UID:GID`; root when absent. */
  readonly User?: string;
  readonly Labels?: Readonly<Record<string, string>>;
}

export interface LayoutOptions {
  /** Default: the begin of 1970, so that the same content has the same digest. */
  readonly created?: Date;
  /** Processor, as images name it. Default: this machine's. */
  readonly architecture?: string;
}

/** Writes an image as an OCI layout, a folder that every registry tool reads; returns the digest of its manifest. */
export async function writeImageLayout(
  folder: string,
  layers: readonly LayerFile[],
  run: ImageRunConfig,
  { created = new Date(0), architecture = process.arch === 'x64' ? 'amd64' : process.arch }: LayoutOptions = {},
): Promise<string> {
  const blobs = join(folder, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  for (const layer of layers) {
    await linkOrCopy(layer.file, join(blobs, layer.digest.slice('sha256:'.length)));
  }
  const { config, digest, manifest } = imageDocuments(
    {
      created: created.toISOString().replace('.000Z', 'Z'),
      architecture,
      os: 'linux',
      config: run,
      rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) },
    },
    layers.map(({ digest: layer, size }) => ({ mediaType: ociTypes.layer, digest: layer, size })),
  );
  await writeFile(join(blobs, config.digest.slice('sha256:'.length)), config.content);
  await writeFile(join(blobs, digest.slice('sha256:'.length)), manifest.content);
  await writeFile(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  await writeFile(
    join(folder, 'index.json'),
    JSON.stringify({
      schemaVersion: 2,
      manifests: [{ mediaType: manifest.mediaType, digest, size: manifest.content.length }],
    }),
  );
  return digest;
}

/**
 * Joins layouts of one image each to one with an index of them; returns the digest of the index.
 *
 * @param images layouts with the processor of each, as images name it
 */
export async function joinImageLayouts(
  folder: string,
  images: readonly { readonly layout: string; readonly architecture: string }[],
): Promise<string> {
  const blobs = join(folder, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  const manifests: object[] = [];
  for (const { architecture, layout } of images) {
    for (const name of await readdir(join(layout, 'blobs/sha256'))) {
      await linkOrCopy(join(layout, 'blobs/sha256', name), join(blobs, name));
    }
    const index = JSON.parse(await readFile(join(layout, 'index.json'), 'utf8')) as { readonly manifests: object[] };
    manifests.push(...index.manifests.map((manifest) => ({ ...manifest, platform: { architecture, os: 'linux' } })));
  }
  const mediaType = 'application/vnd.oci.image.index.v1+json';
  const text = JSON.stringify({ schemaVersion: 2, mediaType, manifests });
  await writeFile(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  await writeFile(join(folder, 'index.json'), text);
  return `sha256:${createHash('sha256').update(text).digest('hex')}`;
}

/** Layers are never changed in place: images that share one need it on disk only once. */
async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') {
      return;
    }
    await copyFile(from, to);
  }
}
