import { LambdaError } from './lambda-error.ts';

export interface RequestTarget {
  /** Up to the first `?`. */
  readonly path: string;
  /** Behind it; empty for none. */
  readonly query: string;
}

/** One parameter of a query, percent-decoding done. */
export interface QueryParameter {
  readonly name: string;
  readonly value: string;
}

/** The origin form of RFC 9112, section 3.2.1, of the characters that RFC 3986 has for path and query. */
const ORIGIN_FORM =
  /^\/[\w\-.~!$&'()*+,;=:@/]*(?:%[\dA-Fa-f]{2}[\w\-.~!$&'()*+,;=:@/]*)*(?:\?[\w\-.~!$&'()*+,;=:@/?]*(?:%[\dA-Fa-f]{2}[\w\-.~!$&'()*+,;=:@/?]*)*)?$/;
/** A segment that is `.` or `..`, encoded or not. */
const DOT_SEGMENT = /\/(?:\.|%2[eE]){1,2}(?:\/|$)/;

/**
 * Splits the target of a request, for router and signature alike: a path that the two understand differently would lead
 * a signed call elsewhere. Targets that programs are known to read in more than one way are refused. SDKs send none of
 * them.
 *
 * @throws {LambdaError} InvalidParameterValueException for a target that is not in origin form, has characters that
 *   have to be encoded (`#` and `\` are two), or has an empty segment, `.` or `..` in its path. One slash may end the
 *   path
 */
export function splitTarget(url: string): RequestTarget {
  if (!ORIGIN_FORM.test(url)) {
    throw refused('It has to be a path with a query or without, all other characters percent-encoded.');
  }
  const mark = url.indexOf('?');
  const path = mark < 0 ? url : url.slice(0, mark);
  if (path.includes('//') || DOT_SEGMENT.test(path)) {
    throw refused("Its path may not have empty segments, '.' or '..'.");
  }
  return { path, query: mark < 0 ? '' : url.slice(mark + 1) };
}

/**
 * The parameters of a query, in order of their names and values: a signature does not cover the order of arrival. A `+`
 * is a plus sign, as in signatures.
 */
export function queryParameters(query: string): QueryParameter[] {
  return query
    .split('&')
    .filter((part) => part !== '')
    .map((part) => {
      const [name = '', ...value] = part.split('=');
      return { name: decoded(name), value: decoded(value.join('=')) };
    })
    .sort((a, b) => byCodeUnits(a.name, b.name) || byCodeUnits(a.value, b.value));
}

/** The parameters by name, for the router: all values where there are several. */
export function queryRecord(query: string): Record<string, string | string[]> {
  const record: Record<string, string | string[]> = Object.create(null);
  for (const { name, value } of queryParameters(query)) {
    const known = record[name];
    record[name] = known === undefined ? value : [known, value].flat();
  }
  return record;
}

/** Orders texts as signatures do. */
export function byCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // Not UTF-8: the text stays as it is.
    return text;
  }
}

function refused(why: string): LambdaError {
  return new LambdaError('InvalidParameterValueException', `The target of the request makes no sense. ${why}`);
}
