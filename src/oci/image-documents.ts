import { digestOf } from './registry-client.ts';

/** Media types of the documents and compressed layers that OCI defines. */
export const ociTypes = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
} as const;

/** A layer as a manifest lists it. */
export interface ListedLayer {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** The configuration of an image, and the manifest that lists it with the layers. */
export interface ImageDocuments {
  /** Digest of the manifest. */
  readonly digest: string;
  readonly manifest: { readonly content: Buffer; readonly mediaType: string };
  readonly config: { readonly content: Buffer; readonly digest: string };
}

/** Writes the documents of an image. Equal input has an equal digest. */
export function imageDocuments(
  document: object,
  layers: readonly ListedLayer[],
  types: { readonly manifest: string; readonly config: string } = ociTypes,
): ImageDocuments {
  const config = Buffer.from(JSON.stringify(document));
  const configDigest = digestOf(config);
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: types.manifest,
      config: { mediaType: types.config, digest: configDigest, size: config.length },
      layers: layers.map(({ digest, mediaType, size }) => ({ mediaType, digest, size })),
    }),
  );
  return {
    digest: digestOf(manifest),
    manifest: { content: manifest, mediaType: types.manifest },
    config: { content: config, digest: configDigest },
  };
}
