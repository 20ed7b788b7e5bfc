import { type ConditionDraft, functionConditions } from '../../api/condition.ts';
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
): { readonly url?: string; readonly condition: Omit<ConditionDraft, 'observedGeneration'> } | undefined {
  const { name, namespace = 'default' } = owner.metadata;
  if (owner.spec.url === undefined) {
    return undefined;
  }
  const type = functionConditions.urlServed;
  if (domain === undefined) {
    const message = 'no domain for function URLs is set: an administrator installs them with gateway.functionUrls';
    return { condition: { type, status: 'False', reason: 'NoDomain', message } };
  }
  if (holder !== undefined) {
    const message = `LambdaFunction ${holder} is older and has the name ${calledNameOf(owner)}: only its URL is served`;
    return { condition: { type, status: 'False', reason: 'NameTaken', message } };
  }
  if (isPublicUrl(owner) && !isPublic(namespace)) {
    const message = `spec.url.authType NONE lets everybody call the function, and is answered with 403: write AWS_IAM, or an administrator lets the namespace: kubectl label namespace ${namespace} ${PUBLIC_FUNCTIONS_LABEL}=true`;
    return { condition: { type, status: 'False', reason: 'PublicForbidden', message } };
  }
  const url = `https://${functionUrlHost(name, namespace, domain)}/`;
  return { url, condition: { type, status: 'True', reason: 'Served', message: url } };
}
