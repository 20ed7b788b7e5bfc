import { createReadStream } from 'node:fs';
import type { CallOptions } from '../../common/deadline.ts';
import type { ImageReference } from '../../oci/image-reference.ts';
import type { RegistryClient } from '../../oci/registry-client.ts';
import type { Step } from '../progress.ts';
import type { FunctionImage } from './function-image.ts';

export interface PushTarget {
  readonly client: RegistryClient;
  readonly repository: string;
}

/** The place of the layers of the base. */
export interface PushSource {
  readonly client: RegistryClient;
  readonly reference: ImageReference;
}

/**
 * Pushes an image to a repository: only what the registry does not have, layers of the base by a mount where both are
 * in one registry. A tag of its own keeps the image from being collected as garbage there.
 *
 * @returns whether the registry had none of this manifest
 * @throws {EsbError} errors of the clients
 */
export async function pushImage(
  image: FunctionImage,
  { client, repository }: PushTarget,
  source: PushSource | undefined,
  step: Step,
  options: CallOptions,
): Promise<boolean> {
  if (await client.hasManifest(repository, image.digest, options)) {
    return false;
  }
  if (source !== undefined) {
    const { registry, repository: from } = source.reference;
    const mountFrom = registry === client.registry ? from : undefined;
    const signal = options.signal ?? new AbortController().signal;
    for (const { digest, size } of image.baseLayers) {
      step.note(`layer of the base, ${megabytes(size)}`);
      const open = () => source.client.blob(from, digest, signal);
      await client.pushBlob(repository, { digest, size, open }, { ...options, mountFrom });
    }
  }
  for (const { digest, file, holds, size } of image.added) {
    step.note(`${holds}, ${megabytes(size)}`);
    const open = () => Promise.resolve(createReadStream(file));
    await client.pushBlob(repository, { digest, size, open }, options);
  }
  const { config } = image;
  const open = () => Promise.resolve(config.content);
  await client.pushBlob(repository, { digest: config.digest, size: config.content.length, open }, options);
  await client.pushManifest(repository, tagOf(image), image.manifest, options);
  return true;
}

/** The tag of an image: the first digits of its digest. */
export function tagOf({ digest }: Pick<FunctionImage, 'digest'>): string {
  return digest.slice('sha256:'.length, 'sha256:'.length + 12);
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
