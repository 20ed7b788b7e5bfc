import type { CallOptions } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import { type ImageReference, parseImageReference } from '../../oci/image-reference.ts';
import type { CredentialSource } from '../contract/credential-source.ts';
import type { ImageRequest, PullSecrets } from '../contract/runtime.ts';
import type { ImagePulls } from './image-pulls.ts';
import { withHints } from './pull-error.ts';
import { findCredentials } from './registry-credentials.ts';

export interface ObtainOptions extends CallOptions {
  /** Namespace of the worker that wants the image. */
  readonly namespace?: string | undefined;
  /** Called before a pull, and with its progress. */
  readonly onPulling?: ((detail?: string) => void) | undefined;
}

/** A store of images and the pulls into it. */
export interface ImageSource<Image> {
  /** The image if the store has it complete. */
  readonly find: (reference: ImageReference, options: CallOptions) => Promise<Image | undefined>;
  readonly pulls: ImagePulls;
  /** Credentials of the node, for images for which the worker names none. */
  readonly credentials?: CredentialSource | undefined;
  /** Words for an image that the store lacks and policy forbids to pull. */
  readonly absent: (name: string) => string;
}

const SECRETS_DEADLINE_MS = 15_000;
const noSecrets: PullSecrets = { configs: [], missing: [] };

/**
 * The image, pulled when policy and store ask for that.
 *
 * @throws {EsbError} `ImageNotFound`, `ImagePullFailed`, `ImageInvalid`, `RegistryUnreachable`, `DiskFull`
 */
export async function obtainImage<Image>(
  source: ImageSource<Image>,
  request: ImageRequest,
  options: ObtainOptions,
): Promise<Image> {
  const { onPulling, signal } = options;
  const reference = parseImageReference(request.reference);
  const local = request.pullPolicy === 'Always' ? undefined : await source.find(reference, options);
  if (local !== undefined) {
    return local;
  }
  if (request.pullPolicy === 'Never') {
    throw new EsbError(source.absent(reference.name), { code: 'ImageNotFound' });
  }
  onPulling?.();
  const { configs, missing } = (await request.pullSecrets?.({ signal, deadlineMs: SECRETS_DEADLINE_MS })) ?? noSecrets;
  const isNamed = findCredentials(configs, reference.registry, reference.repository) !== undefined;
  const provided = isNamed ? undefined : await source.credentials?.find(reference, { signal });
  try {
    await source.pulls.run(reference, [...configs, ...(provided?.configs ?? [])], { ...options, onDetail: onPulling });
  } catch (error) {
    const hints = missing.length === 0 ? [] : [`pull secrets that do not exist: ${missing.join(', ')}`];
    throw withHints(error, [...hints, ...(provided?.faults ?? [])]);
  }
  const pulled = await source.find(reference, options);
  if (pulled === undefined) {
    throw new EsbError(`${reference.name} was pulled and is not there`, { code: 'ImagePullFailed' });
  }
  return pulled;
}
