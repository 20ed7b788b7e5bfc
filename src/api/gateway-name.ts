const PREFIX = 'esb://gateway/';
const FORM = /^esb:\/\/gateway\/([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)$/;

/** Verb on `lambdaworkers` by which Kubernetes lets an account have a gateway's certificate for a namespace. */
export const SERVE_VERB = 'serve';

/** Most namespaces that one certificate names. */
export const MAX_NAMESPACES = 16;

/** The name of a served namespace in a gateway's certificate, and in the request for one. */
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
 * @param alternativeNames the extension in the form of Node.js, such as `URI:esb://gateway/shop, URI:esb://gateway/pay`;
 *   undefined where the certificate has none, and with it no namespace
 */
export function namespacesOfNames(alternativeNames = ''): ReadonlySet<string> {
  const uris = alternativeNames.split(', ').map((name) => name.replace(/^URI:/, ''));
  return new Set(uris.flatMap((uri) => namespaceOfUri(uri) ?? []));
}
