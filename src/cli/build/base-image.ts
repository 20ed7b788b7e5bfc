import type { CallOptions } from '../../common/deadline.ts';
import { EsbError, hasCode, messageOf } from '../../common/errors.ts';
import { type ImageConfig, linuxPlatform, parseImageConfig, resolveManifest } from '../../oci/image-config.ts';
import { type ListedLayer, ociTypes } from '../../oci/image-documents.ts';
import { type ImageReference, parseImageReference } from '../../oci/image-reference.ts';
import type { RegistryClient } from '../../oci/registry-client.ts';

/** Name of the base that has nothing in it, as in a Dockerfile. */
export const NO_BASE = 'scratch';

/** An image that another one is built on. */
export interface BaseImage {
  /** Place that its layers are fetched from; undefined for no base. */
  readonly reference: ImageReference | undefined;
  readonly manifestType: string;
  readonly configType: string;
  readonly layers: readonly ListedLayer[];
  /** The configuration as its author wrote it. */
  readonly document: Readonly<Record<string, unknown>>;
  readonly config: ImageConfig;
}

/** The base of a static program: no file at all. */
export function emptyBase(architecture: string): BaseImage {
  const document = {
    architecture,
    os: 'linux',
    config: { Env: ['PATH=/usr/local/bin:/usr/bin:/bin'] },
    rootfs: { type: 'layers', diff_ids: [] },
  };
  return {
    reference: undefined,
    manifestType: ociTypes.manifest,
    configType: ociTypes.config,
    layers: [],
    document,
    config: parseImageConfig(document, NO_BASE),
  };
}

/**
 * Reads manifest and configuration of a base.
 *
 * @param architecture processor that it has to be for, as images name it
 * @throws {EsbError} `ImageWrongPlatform` with the way out, `ImageInvalid`; errors of the client
 */
export async function readBaseImage(
  name: string,
  client: RegistryClient,
  architecture: string,
  options: CallOptions,
): Promise<BaseImage> {
  const reference = parseImageReference(name);
  const { repository } = reference;
  const version = reference.name.slice(`${reference.registry}/${repository}`.length + 1);
  const top = await client.manifest(repository, version, options).catch((error: unknown) => {
    throw hasCode(error, 'ImageNotFound')
      ? new EsbError(
          `${reference.registry} has no image ${repository} of the tag or digest ${version}: is --base ${name} what you ` +
            `mean? (${error.message})`,
          { code: 'ImageNotFound', cause: error },
        )
      : error;
  });
  const types = new Map([[top.digest, top.mediaType]]);
  const reader = {
    read: async (digest: string, call: CallOptions = {}): Promise<Buffer> => {
      if (digest === top.digest) {
        return top.content;
      }
      const found = await client.manifest(repository, digest, call);
      types.set(digest, found.mediaType);
      return found.content;
    },
  };
  const wayOut = (text: string): EsbError =>
    new EsbError(
      `the base ${name}: ${text}. Name a base for ${architecture} with --base, or another processor with --architecture`,
      { code: 'ImageWrongPlatform' },
    );
  const platform = linuxPlatform(architecture);
  const manifest = await resolveManifest(reader, top, platform, options).catch((error: unknown) => {
    throw hasCode(error, 'ImageWrongPlatform') ? wayOut(error.message) : error;
  });
  const { config: configDescriptor, layers } = manifest.document as {
    readonly config?: { readonly digest?: unknown; readonly mediaType?: string } | null;
    readonly layers?: readonly unknown[];
  };
  const digest = configDescriptor?.digest;
  if (typeof digest !== 'string' || !Array.isArray(layers) || !layers.every(isLayer)) {
    throw noImage(name, 'its manifest has no configuration or no layers');
  }
  const document = documentOf(name, await client.document(repository, digest, options));
  const config = parseImageConfig(document, digest);
  if (config.diffIds.length !== layers.length) {
    throw noImage(name, `its manifest has ${layers.length} layers, its configuration ${config.diffIds.length}`);
  }
  const { architecture: found } = config.platform;
  if (found !== '' && found !== platform.architecture) {
    throw wayOut(`the image is for linux/${found}`);
  }
  return {
    reference,
    manifestType: types.get(manifest.digest) ?? ociTypes.manifest,
    configType: configDescriptor?.mediaType ?? ociTypes.config,
    layers,
    document,
    config,
  };
}

/**
 * Checks that something in a base runs a handler.
 *
 * @throws {EsbError} `InvalidArgument` for a base without an entrypoint, such as an image of a language alone
 */
export function checkEntrypoint(base: BaseImage, name: string, handler: string): void {
  if (base.config.entrypoint.length === 0) {
    throw new EsbError(
      `the base ${name} has no entrypoint, and so nothing that calls ${handler}: name an image with a runtime client, ` +
        "such as AWS's base image of the language",
      { code: 'InvalidArgument' },
    );
  }
}

/** Whether a layer is one. Digests become parts of addresses: a registry may put nothing else there. */
function isLayer(found: unknown): found is ListedLayer {
  const { digest, mediaType, size } = (found ?? {}) as Partial<Readonly<Record<keyof ListedLayer, unknown>>>;
  const isDigest = typeof digest === 'string' && /^[a-z0-9]+:[0-9a-f]{64,}$/.test(digest);
  return isDigest && typeof mediaType === 'string' && Number.isSafeInteger(size) && Number(size) >= 0;
}

function documentOf(name: string, content: Buffer): Readonly<Record<string, unknown>> {
  let found: unknown;
  try {
    found = JSON.parse(content.toString('utf8'));
  } catch (error) {
    throw noImage(name, `its configuration is not JSON: ${messageOf(error)}`);
  }
  if (typeof found !== 'object' || found === null) {
    throw noImage(name, 'its configuration is not an object');
  }
  return found as Readonly<Record<string, unknown>>;
}

function noImage(name: string, why: string): EsbError {
  return new EsbError(`the base ${name} is no image: ${why}`, { code: 'ImageInvalid' });
}
