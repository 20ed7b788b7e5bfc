import type { Namespace } from '../kube/api/resource-types.ts';
import type { LambdaFunction } from './lambda-function.ts';

/** Label of a namespace whose functions may have a URL that everybody may call, when it is `true`. */
export const PUBLIC_FUNCTIONS_LABEL = 'esb.dev/public-functions';

/**
 * The host of a function's URL. Name and namespace of a LambdaFunction are those of Kubernetes, of small letters, digits
 * and '-', and the schema refuses a URL where the name has a dot: the host names one function, and `*.NAMESPACE.DOMAIN`
 * all of a namespace.
 */
export function functionUrlHost(name: string, namespace: string, domain: string): string {
  return `${name}.${namespace}.${domain}`;
}

/** The name of the LambdaFunction that a host means; undefined for a host that is not one of this namespace. */
export function functionOfHost(host: string, namespace: string, domain: string): string | undefined {
  const known = host.toLowerCase().replace(/:\d*$/, '').replace(/\.$/, '');
  const end = functionUrlHost('', namespace, domain);
  const name = known.slice(0, -end.length);
  return known.endsWith(end) && /^[a-z0-9-]+$/.test(name) ? name : undefined;
}

/** Whether everybody may call the URL of a function, as far as its author is concerned. */
export function isPublicUrl({ spec }: Pick<LambdaFunction, 'spec'>): boolean {
  return spec.url?.authType === 'NONE';
}

/** Whether the operator lets functions of a namespace have URLs that everybody may call. */
export function isPublicNamespace(namespace: Pick<Namespace, 'metadata'> | undefined): boolean {
  return namespace?.metadata.labels?.[PUBLIC_FUNCTIONS_LABEL] === 'true';
}
