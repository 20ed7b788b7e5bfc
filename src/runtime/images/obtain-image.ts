import type { CallOptions } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import { type ImageReference, parseImageReference } from '../../oci/image-reference.ts';
import type { ImageRequest } from '../contract/runtime.ts';
import type { ImagePulls } from './image-pulls.ts';
import { withMissing } from './pull-error.ts';

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
  /** Words for an image that the store lacks and policy forbids to pull. */
  readonly absent: (name: string) => string;
}

const SECRETS_DEADLINE_MS = 15_000;

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
  const secrets = await request.pullSecrets?.({ signal, deadlineMs: SECRETS_DEADLINE_MS });
  try {
    await source.pulls.run(reference, secrets?.configs ?? [], { ...options, onDetail: onPulling });
  } catch (error) {
    throw withMissing(error, secrets?.missing ?? []);
  }
  const pulled = await source.find(reference, options);
  if (pulled === undefined) {
    throw new EsbError(`${reference.name} was pulled and is not there`, { code: 'ImagePullFailed' });
  }
  return pulled;
}
