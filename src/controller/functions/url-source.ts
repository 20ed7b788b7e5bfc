import { isPublicNamespace } from '../../api/function-url.ts';
import type { LambdaFunction } from '../../api/lambda-function.ts';
import { keyText, objectKey } from '../../kube/api/object-key.ts';
import type { Namespace } from '../../kube/api/resource-types.ts';
import type { Informer } from '../../kube/api/types.ts';
import type { UrlPolicy } from './url-status.ts';

/** The domain of the URLs of functions, and the labels that open them. */
export interface UrlSource {
  readonly domain: string;
  /** Synced; names and labels alone. */
  readonly namespaces: Informer<Namespace>;
}

/** @param source undefined where gateways serve no URLs */
export function urlPolicyOf(source: UrlSource | undefined): UrlPolicy {
  return {
    domain: source?.domain,
    isPublic: (name) => isPublicNamespace(source?.namespaces.cache.get({ name })),
  };
}

/**
 * Tells of the functions with URLs whose namespace is opened or closed.
 *
 * @param tell called with the key of each
 * @returns ends that
 */
export function followUrls(
  { namespaces }: UrlSource,
  functions: Pick<Informer<LambdaFunction>, 'cache'>,
  tell: (key: string) => void,
): () => void {
  return namespaces.subscribe((change) => {
    if (change.kind !== 'updated' || isPublicNamespace(change.old) === isPublicNamespace(change.object)) {
      return;
    }
    const { name } = change.object.metadata;
    for (const owner of functions.cache.list()) {
      if (owner.metadata.namespace === name && owner.spec.url !== undefined) {
        tell(keyText(objectKey(owner)));
      }
    }
  });
}
