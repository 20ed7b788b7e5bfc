import type { AccessRequest } from './access.ts';

const UNSAFE_IN_URI = /[!'()*]/g;

/**
 * What a signature is made over, from a request as it came over the wire. Written down in "Create a signed AWS API request" of the
 * IAM User Guide; the path is normalised and, having been encoded by the client, encoded once more, as for every service but S3.
 *
 * @param signedHeaders names in lower case
 * @param payloadHash SHA-256 of the body in hexadecimal
 */
export function canonicalRequest(
  request: Pick<AccessRequest, 'method' | 'url' | 'rawHeaders'>,
  signedHeaders: readonly string[],
  payloadHash: string,
): string {
  const { method, url } = request;
  const mark = url.indexOf('?');
  const path = mark < 0 ? url : url.slice(0, mark);
  const query = mark < 0 ? '' : url.slice(mark + 1);
  const values = headerValues(request.rawHeaders, new Set(signedHeaders));
  const names = [...signedHeaders].sort(byCodeUnits);
  let headers = '';
  for (const name of names) {
    headers += `${name}:${values.get(name) ?? ''}\n`;
  }
  return `${method}\n${canonicalPath(path)}\n${canonicalQuery(query)}\n${headers}\n${names.join(';')}\n${payloadHash}`;
}

/** The path without empty, `.` and `..` segments, each segment encoded once more. */
export function canonicalPath(path: string): string {
  const segments: string[] = [];
  for (const segment of path.split('/')) {
    if (segment === '..') {
      segments.pop();
    } else if (segment !== '' && segment !== '.') {
      segments.push(escapeUri(segment));
    }
  }
  const isFolder = segments.length > 0 && path.endsWith('/');
  return `/${segments.join('/')}${isFolder ? '/' : ''}`;
}

/** The parameters in order of their names and values, each encoded in the one way there is, without the signature itself. */
export function canonicalQuery(query: string): string {
  if (query === '') {
    return '';
  }
  const pairs: { readonly name: string; readonly value: string }[] = [];
  for (const part of query.split('&')) {
    if (part === '') {
      continue;
    }
    const equals = part.indexOf('=');
    const name = reencoded(equals < 0 ? part : part.slice(0, equals));
    if (name.toLowerCase() !== 'x-amz-signature') {
      pairs.push({ name, value: equals < 0 ? '' : reencoded(part.slice(equals + 1)) });
    }
  }
  return pairs
    .sort((a, b) => byCodeUnits(a.name, b.name) || byCodeUnits(a.value, b.value))
    .map(({ name, value }) => `${name}=${value}`)
    .join('&');
}

/** Values of the named headers, runs of blanks made one; those that came several times with commas in between. */
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

function reencoded(text: string): string {
  try {
    return escapeUri(decodeURIComponent(text));
  } catch {
    // No client makes that; whatever it was signed as, this is not it.
    return text;
  }
}

/** Encodes everything but the unreserved characters of RFC 3986. */
function escapeUri(text: string): string {
  return encodeURIComponent(text).replace(
    UNSAFE_IN_URI,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function byCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
