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
  /** The image if the store has it complete. */
  readonly find: (reference: ImageReference, options: CallOptions) => Promise<Image | undefined>;
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
  const { namespace = '', onPulling, signal } = options;
  const { proofs, pulls } = source;
  const reference = parseImageReference(request.reference);
  const { name } = reference;
  await proofs.load();
  const local = request.pullPolicy === 'Always' ? undefined : await source.find(reference, options);
  if (local !== undefined && proofs.allows(name, local.byDigest, namespace)) {
    return local;
  }
  if (request.pullPolicy === 'Never') {
    throw local === undefined
      ? new EsbError(source.absent(name), { code: 'ImageNotFound' })
      : unproven(name, namespace, 'spec.imagePullPolicy is Never: write IfNotPresent');
  }
  onPulling?.();
  const { configs, missing } = (await request.pullSecrets?.({ signal, deadlineMs: SECRETS_DEADLINE_MS })) ?? noSecrets;
  const given = (host: string): boolean => findCredentials(configs, host, reference.repository) !== undefined;
  const provided = given(reference.registry) ? undefined : await source.credentials?.find(reference, { signal });
  await proofs.begin(name);
  try {
    const all = [...configs, ...(provided?.configs ?? [])];
    const { hosts } = await pulls.run(reference, all, { ...options, onDetail: onPulling });
    const pulled = await source.find(reference, options);
    if (pulled === undefined) {
      throw new EsbError(`${name} was pulled and is not there`, { code: 'ImagePullFailed' });
    }
    // Credentials of the node are those of all its workers.
    await proofs.record(name, pulled.byDigest, hosts.some(given) ? { namespace } : 'Everybody');
    return pulled;
  } catch (thrown) {
    const hints = missing.length === 0 ? [] : [`pull secrets that do not exist: ${missing.join(', ')}`];
    const error = EsbError.from(withHints(thrown, [...hints, ...(provided?.faults ?? [])]));
    throw local !== undefined && UNPROVEN.has(error.code) ? unproven(name, namespace, error.message, error) : error;
  } finally {
    proofs.end(name);
  }
}

function unproven(name: string, namespace: string, why: string, cause?: EsbError): EsbError {
  return new EsbError(
    `${name} is on the node, pulled with Secrets of another namespace, and ${namespace} has not shown its right to the image: ${why}`,
    { code: 'ImageUnproven', retryable: true, cause },
  );
}
