import type { CallOptions } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import { type ImageReference, parseImageReference } from '../../oci/image-reference.ts';
import type { CredentialSource } from '../contract/credential-source.ts';
import type { ImageRequest, PullSecrets } from '../contract/runtime.ts';
import type { ImageProofs } from './image-proofs.ts';
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
export interface ImageSource<Image extends { readonly byDigest: string }> {
  /** The image if the store has it complete. `fresh`: the look begins with this call, and not before. */
  readonly find: (reference: ImageReference, options: CallOptions, fresh: boolean) => Promise<Image | undefined>;
  readonly pulls: ImagePulls;
  /** Credentials of the node, for images for which the worker names none. */
  readonly credentials?: CredentialSource | undefined;
  readonly proofs: ImageProofs;
  /** Words for an image that the store lacks and policy forbids to pull. */
  readonly absent: (name: string) => string;
}

const SECRETS_DEADLINE_MS = 15_000;
const noSecrets: PullSecrets = { configs: [], missing: [] };
/** Faults of a proof; any other keeps its code. */
const UNPROVEN: ReadonlySet<string> = new Set(['ImageNotFound', 'ImagePullFailed', 'RegistryUnreachable']);

/** The way to an image that the store does not have for the namespace. */
interface Way {
  readonly reference: ImageReference;
  /** Contents of Secrets and of credential providers, in this order. */
  readonly configs: readonly string[];
  /** Whether a Secret of the worker has credentials for a host. */
  readonly given: (host: string) => boolean;
  /** The error to throw for that of the registry. */
  readonly faultOf: (thrown: unknown) => EsbError;
}

/**
 * The image, pulled when policy and store ask for that. One that is there, and that another namespace pulled with its
 * Secrets, is pulled as well: the registry is asked, with the Secrets of this namespace, and nothing is fetched again.
 *
 * @throws {EsbError} `ImageNotFound`, `ImagePullFailed`, `ImageInvalid`, `ImageUnproven`, `RegistryUnreachable`,
 *   `DiskFull`, `StateUnwritable`
 */
export async function obtainImage<Image extends { readonly byDigest: string }>(
  source: ImageSource<Image>,
  request: ImageRequest,
  options: ObtainOptions,
): Promise<Image> {
  const { namespace = '', onPulling } = options;
  const { proofs, pulls } = source;
  const found = await findImage(source, request, options);
  if ('image' in found) {
    return found.image;
  }
  const { configs, faultOf, given, reference } = found;
  const { name } = reference;
  await proofs.begin(name);
  try {
    const { hosts } = await pulls.run(reference, configs, { ...options, onDetail: onPulling });
    const pulled = await source.find(reference, options, true);
    if (pulled === undefined) {
      throw new EsbError(`${name} was pulled and is not there`, { code: 'ImagePullFailed' });
    }
    // Credentials of the node are those of all its workers.
    await proofs.record(name, pulled.byDigest, hosts.some(given) ? { namespace } : 'Everybody');
    return pulled;
  } catch (thrown) {
    throw faultOf(thrown);
  } finally {
    proofs.end(name);
  }
}

/**
 * Makes sure that {@link obtainImage} would have the image, as far as its description tells. Gives the node no image, so
 * that nothing has to be proven.
 *
 * @throws {EsbError} as for {@link obtainImage}
 */
export async function resolveImage<Image extends { readonly byDigest: string }>(
  source: ImageSource<Image>,
  request: ImageRequest,
  options: ObtainOptions,
): Promise<void> {
  const found = await findImage(source, request, options);
  if ('image' in found) {
    return;
  }
  try {
    await source.pulls.run(found.reference, found.configs, { ...options, part: 'Description' });
  } catch (thrown) {
    throw found.faultOf(thrown);
  }
}

/** The image that the namespace may use as it is on the node, or the way to it. */
async function findImage<Image extends { readonly byDigest: string }>(
  { credentials, absent, find, proofs }: ImageSource<Image>,
  request: ImageRequest,
  options: ObtainOptions,
): Promise<{ readonly image: Image } | Way> {
  const { namespace = '', onPulling, signal } = options;
  const reference = parseImageReference(request.reference);
  const { name } = reference;
  await proofs.load();
  const local = request.pullPolicy === 'Always' ? undefined : await find(reference, options, false);
  if (local !== undefined && proofs.allows(name, local.byDigest, namespace)) {
    return { image: local };
  }
  if (request.pullPolicy === 'Never') {
    throw local === undefined
      ? new EsbError(absent(name), { code: 'ImageNotFound' })
      : unproven(name, namespace, 'spec.imagePullPolicy is Never: write IfNotPresent');
  }
  onPulling?.();
  const { configs, missing } = (await request.pullSecrets?.({ signal, deadlineMs: SECRETS_DEADLINE_MS })) ?? noSecrets;
  const given = (host: string): boolean => findCredentials(configs, host, reference.repository) !== undefined;
  const provided = given(reference.registry) ? undefined : await credentials?.find(reference, { signal });
  return {
    reference,
    configs: [...configs, ...(provided?.configs ?? [])],
    given,
    faultOf: (thrown) => {
      const hints = missing.length === 0 ? [] : [`pull secrets that do not exist: ${missing.join(', ')}`];
      const error = EsbError.from(withHints(thrown, [...hints, ...(provided?.faults ?? [])]));
      return local !== undefined && UNPROVEN.has(error.code) ? unproven(name, namespace, error.message, error) : error;
    },
  };
}

function unproven(name: string, namespace: string, why: string, cause?: EsbError): EsbError {
  return new EsbError(
    `${name} is on the node, pulled with Secrets of another namespace, and ${namespace} has not shown its right to the image: ${why}`,
    { code: 'ImageUnproven', retryable: true, cause },
  );
}
