import { isPublicNamespace } from '../../api/function-url.ts';
import type { LambdaFunction } from '../../api/lambda-function.ts';
import { keyText, objectKey } from '../../kube/api/object-key.ts';
import type { Namespace } from '../../kube/api/resource-types.ts';
import type { CacheEvent, Informer } from '../../kube/api/types.ts';
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

/** Keys of the functions with URLs whose namespace is opened or closed by a change. */
export function keysOpened(
  change: CacheEvent<Namespace>,
  { cache }: Pick<Informer<LambdaFunction>, 'cache'>,
): readonly string[] {
  if (change.kind !== 'updated' || isPublicNamespace(change.old) === isPublicNamespace(change.object)) {
    return [];
  }
  const { name } = change.object.metadata;
  return cache
    .list()
    .filter(({ metadata, spec }) => metadata.namespace === name && spec.url !== undefined)
    .map((owner) => keyText(objectKey(owner)));
}
