import { createReadStream } from 'node:fs';
import type { CallOptions } from '../../common/deadline.ts';
import { EsbError, errnoOf, messageOf } from '../../common/errors.ts';
import type { ImageReference } from '../../oci/image-reference.ts';
import type { RegistryClient } from '../../oci/registry-client.ts';
import type { Step } from '../progress.ts';
import { retry } from '../retry.ts';
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

export interface PushOptions extends CallOptions {
  /** Milliseconds before the second attempt of a part, as {@link retry} has it. */
  readonly firstDelayMs?: number;
}

/** Milliseconds, then three and nine times as many: a registry that restarts, or sheds load, is back by then. */
const FIRST_DELAY_MS = 1_000;
/** Faults of connections that pass; an unknown name, or the certificate of another, stays so. */
const PASSING_FAULTS: ReadonlySet<string> = new Set([
  'EAI_AGAIN',
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_SOCKET',
]);

/**
 * Pushes an image to a repository: only what the registry does not have, layers of the base by a mount where both are
 * in one registry. A tag of its own keeps the image from being collected as garbage there. Each part is tried again
 * after a fault that passes.
 *
 * @returns whether the registry had none of this manifest
 * @throws {EsbError} errors of the clients
 */
export async function pushImage(
  image: FunctionImage,
  { client, repository }: PushTarget,
  source: PushSource | undefined,
  step: Step,
  { firstDelayMs = FIRST_DELAY_MS, ...options }: PushOptions,
): Promise<boolean> {
  const again = <T>(part: () => Promise<T>): Promise<T> =>
    retry(part, {
      firstDelayMs,
      signal: options.signal,
      worthRetrying: passes,
      onRetry: (error) => step.note(`again, since ${messageOf(error)}`),
    });
  if (await again(() => client.hasManifest(repository, image.digest, options))) {
    return false;
  }
  if (source !== undefined) {
    const { registry, repository: from } = source.reference;
    const mountFrom = registry === client.registry ? from : undefined;
    const signal = options.signal ?? new AbortController().signal;
    for (const { digest, size } of image.baseLayers) {
      step.note(`layer of the base, ${megabytes(size)}`);
      const open = () => source.client.blob(from, digest, signal);
      await again(() => client.pushBlob(repository, { digest, size, open }, { ...options, mountFrom }));
    }
  }
  for (const { digest, file, holds, size } of image.added) {
    step.note(`${holds}, ${megabytes(size)}`);
    const open = () => Promise.resolve(createReadStream(file));
    await again(() => client.pushBlob(repository, { digest, size, open }, options));
  }
  const { config } = image;
  const open = () => Promise.resolve(config.content);
  const blob = { digest: config.digest, size: config.content.length, open };
  await again(() => client.pushBlob(repository, blob, options));
  await again(() => client.pushManifest(repository, tagOf(image), image.manifest, options));
  return true;
}

function passes(error: unknown): boolean {
  return (
    error instanceof EsbError &&
    error.retryable &&
    (error.code === 'RegistryUnreachable'
      ? PASSING_FAULTS.has(errnoOf(error.cause) ?? '')
      : error.code !== 'DeadlineExceeded')
  );
}

/** The tag of an image: the first digits of its digest. */
export function tagOf({ digest }: Pick<FunctionImage, 'digest'>): string {
  return digest.slice('sha256:'.length, 'sha256:'.length + 12);
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
