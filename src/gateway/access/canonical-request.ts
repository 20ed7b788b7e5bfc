import { byCodeUnits, queryParameters, splitTarget } from '../lambda/request-target.ts';
import type { AccessRequest } from './access.ts';

const UNSAFE_IN_URI = /[!'()*]/g;

/**
 * The canonical request of a signature, made from a request as it arrived. Specified in "Create a signed AWS API
 * request" of the IAM User Guide; the path, which the client has encoded, is encoded once more, as for every service
 * but S3.
 *
 * @param signedHeaders names in lower case
 * @param payloadHash SHA-256 of the body in hexadecimal
 * @throws {LambdaError} InvalidParameterValueException, see {@link splitTarget}
 */
export function canonicalRequest(
  request: Pick<AccessRequest, 'method' | 'url' | 'rawHeaders'>,
  signedHeaders: readonly string[],
  payloadHash: string,
): string {
  const { method, url } = request;
  const { path, query } = splitTarget(url);
  const values = headerValues(request.rawHeaders, new Set(signedHeaders));
  const names = signedHeaders.toSorted(byCodeUnits);
  const headers = names.map((name) => `${name}:${values.get(name) ?? ''}\n`).join('');
  return `${method}\n${canonicalPath(path)}\n${canonicalQuery(query)}\n${headers}\n${names.join(';')}\n${payloadHash}`;
}

/**
 * The path, each segment encoded once more. {@link splitTarget} has refused every path that would need normalization.
 */
export function canonicalPath(path: string): string {
  return path.split('/').map(escapeUri).join('/');
}

/** The parameters in order of their names and values, encoded, without the signature itself. */
export function canonicalQuery(query: string): string {
  return queryParameters(query)
    .filter(({ name }) => name.toLowerCase() !== 'x-amz-signature')
    .map(({ name, value }) => ({ name: escapeUri(name), value: escapeUri(value) }))
    .sort((a, b) => byCodeUnits(a.name, b.name) || byCodeUnits(a.value, b.value))
    .map(({ name, value }) => `${name}=${value}`)
    .join('&');
}

/** Values of the named headers, with runs of blanks made one; several values of a header are joined by commas. */
function headerValues(rawHeaders: readonly string[], names: ReadonlySet<string>): Map<string, string> {
  const values = new Map<string, string>();
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = (rawHeaders[at] ?? '').toLowerCase();
    if (names.has(name)) {
      const value = (rawHeaders[at + 1] ?? '').replace(/[ \t]+/g, ' ').replace(/^ | $/g, '');
      const earlier = values.get(name);
      values.set(name, earlier === undefined ? value : `${earlier},${value}`);
    }
  }
  return values;
}

/** Encodes everything but the unreserved characters of RFC 3986. */
function escapeUri(text: string): string {
  return encodeURIComponent(text).replace(
    UNSAFE_IN_URI,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
