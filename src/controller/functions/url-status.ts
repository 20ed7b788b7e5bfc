import { type FunctionReasons, no, type Verdict, yes } from '../../api/condition.ts';
import { functionUrlHost, isPublicUrl, PUBLIC_FUNCTIONS_LABEL } from '../../api/function-url.ts';
import { calledNameOf, type LambdaFunction } from '../../api/lambda-function.ts';

/** The function URLs that the operator lets be. */
export interface UrlPolicy {
  /** Domain of all URLs; undefined where no gateway serves any. */
  readonly domain: string | undefined;
  /** Whether functions of a namespace may have URLs that everybody may call. */
  readonly isPublic: (namespace: string) => boolean;
}

/**
 * The part of a function's status that is about its URL; undefined for a function without one.
 *
 * @param holder name of the LambdaFunction that has the name for callers, where that is another one
 */
export function urlStatusOf(
  owner: LambdaFunction,
  { domain, isPublic }: UrlPolicy,
  holder: string | undefined,
): { readonly url?: string; readonly verdict: Verdict<FunctionReasons['UrlServed']> } | undefined {
  const { name, namespace = 'default' } = owner.metadata;
  if (owner.spec.url === undefined) {
    return undefined;
  }
  if (domain === undefined) {
    const message = 'no domain for function URLs is set: an administrator installs them with gateway.functionUrls';
    return { verdict: no('NoDomain', message) };
  }
  if (holder !== undefined) {
    const message = `LambdaFunction ${holder} is older and has the name ${calledNameOf(owner)}: only its URL is served`;
    return { verdict: no('NameTaken', message) };
  }
  if (isPublicUrl(owner) && !isPublic(namespace)) {
    const message = `spec.url.authType NONE lets everybody call the function, and is answered with 403: write AWS_IAM, or an administrator lets the namespace: kubectl label namespace ${namespace} ${PUBLIC_FUNCTIONS_LABEL}=true`;
    return { verdict: no('PublicForbidden', message) };
  }
  const url = `https://${functionUrlHost(name, namespace, domain)}/`;
  return { url, verdict: yes('Served', url) };
}
