const PREFIX = 'esb://gateway/';
const FORM = /^esb:\/\/gateway\/([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)$/;

/** Verb on `lambdaworkers` by which Kubernetes lets an account have a gateway's certificate for a namespace. */
export const SERVE_VERB = 'serve';

/** How the certificate of a gateway, and the request for it, name a namespace that the gateway serves. */
export function gatewayUri(namespace: string): string {
  return `${PREFIX}${namespace}`;
}

/** The opposite of {@link gatewayUri}; undefined for any other text. */
export function namespaceOfUri(uri: string): string | undefined {
  return FORM.exec(uri)?.[1];
}

/**
 * The namespaces that a gateway's certificate names.
 *
 * @param alternativeNames what Node.js shows of the extension, such as `URI:esb://gateway/shop, URI:esb://gateway/pay`
 * @returns undefined where the certificate has no such extension, as those of earlier releases
 */
export function namespacesOfNames(alternativeNames: string | undefined): ReadonlySet<string> | undefined {
  if (alternativeNames === undefined || alternativeNames === '') {
    return undefined;
  }
  const uris = alternativeNames.split(', ').map((name) => name.replace(/^URI:/, ''));
  return new Set(uris.flatMap((uri) => namespaceOfUri(uri) ?? []));
}
