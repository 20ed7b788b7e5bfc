import { LambdaError } from '../lambda/lambda-error.ts';
import { queryParameters, splitTarget } from '../lambda/request-target.ts';
import type { AccessRequest } from './access.ts';

/** The one algorithm: AWS Signature Version 4 with a shared secret. */
export const SIGNATURE_ALGORITHM = 'AWS4-HMAC-SHA256';

/** Longest validity of a presigned URL, in seconds: a week, as in AWS. */
const MAX_EXPIRES_SECONDS = 7 * 24 * 60 * 60;
/** Most headers that a signature may name. Node.js takes no more than 2,000 of them. */
const MAX_SIGNED_HEADERS = 100;

/** A signature as a request shows it, not checked in any way but its form. */
export interface Signature {
  /** Where it was found: in the Authorization header, or in the query of a presigned URL. */
  readonly form: 'header' | 'query';
  readonly accessKeyId: string;
  /** `date/region/service/aws4_request`. */
  readonly scope: string;
  readonly date: string;
  readonly region: string;
  readonly service: string;
  /** When it was made, as it says: `YYYYMMDDTHHMMSSZ`, and in milliseconds since the epoch. */
  readonly signedAt: string;
  readonly signedAtMs: number;
  /** Seconds that a presigned URL is good for. */
  readonly expiresSeconds: number | undefined;
  /** Names in lower case, in the order given. */
  readonly signedHeaders: readonly string[];
  /** 64 hexadecimal digits in lower case. */
  readonly value: string;
  readonly sessionToken: string | undefined;
}

/**
 * Headers that change a call. Signers may move such headers into the query of a URL, where they would have no effect: a
 * call meant to be an Event would be none.
 */
const HEADERS_OF_A_CALL = new Set(['x-amz-invocation-type', 'x-amz-log-type', 'x-amz-client-context']);

const LONG_DATE = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/;
const HEX_SIGNATURE = /^[0-9a-f]{64}$/;

/**
 * Whether the query of a request has a signature, well formed or not.
 *
 * @throws {LambdaError} InvalidParameterValueException, see {@link splitTarget}
 */
export function isPresigned(url: string): boolean {
  const { query } = splitTarget(url);
  return query !== '' && /(?:^|&)X-Amz-(?:Algorithm|Credential|Signature)=/.test(query);
}

/**
 * Reads the signature out of an Authorization header.
 *
 * @throws {LambdaError} IncompleteSignatureException, naming everything that is missing, as AWS does
 */
export function headerSignature(request: AccessRequest): Signature {
  const authorization = request.headers.authorization ?? '';
  const [algorithm = ''] = authorization.split(' ', 1);
  if (algorithm !== SIGNATURE_ALGORITHM) {
    throw incomplete(`Unsupported AWS 'algorithm': '${algorithm.slice(0, 64)}'.`);
  }
  const parts = new Map<string, string>();
  for (const part of authorization.slice(algorithm.length).split(',')) {
    const equals = part.indexOf('=');
    if (equals < 0) {
      // The error does not repeat the header: a part may hold half of a secret.
      throw incomplete('The Authorization header has a part that is not a valid key=value pair (missing equal-sign).');
    }
    parts.set(part.slice(0, equals).trim(), part.slice(equals + 1).trim());
  }
  const date = headerText(request, 'x-amz-date') ?? headerText(request, 'date');
  const missing = ['Credential', 'Signature', 'SignedHeaders']
    .filter((name) => (parts.get(name) ?? '') === '')
    .map((name) => `Authorization header requires '${name}' parameter.`);
  if (date === undefined) {
    missing.push("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.");
  }
  if (missing.length > 0) {
    throw incomplete(missing.join(' '));
  }
  return {
    form: 'header',
    ...credentialOf(parts.get('Credential') ?? ''),
    ...signedAt(date ?? ''),
    expiresSeconds: undefined,
    signedHeaders: headerNames(parts.get('SignedHeaders') ?? ''),
    value: signatureValue(parts.get('Signature') ?? ''),
    sessionToken: headerText(request, 'x-amz-security-token'),
  };
}

/**
 * Reads the signature out of the query of a presigned URL.
 *
 * @throws {LambdaError} IncompleteSignatureException, naming everything that is missing
 */
export function querySignature(request: AccessRequest): Signature {
  const parameters = queryParameters(splitTarget(request.url).query);
  const once = (name: string): string | undefined => {
    const [first, second] = parameters.filter((parameter) => parameter.name === name);
    if (second !== undefined) {
      throw incomplete(`AWS query-string parameter '${name}' was given more than once.`);
    }
    return first?.value;
  };
  for (const { name } of parameters) {
    if (HEADERS_OF_A_CALL.has(name.toLowerCase())) {
      throw incomplete(`'${name}' has to be sent as a signed header, not in the query.`);
    }
  }
  const algorithm = once('X-Amz-Algorithm') ?? '';
  if (algorithm !== SIGNATURE_ALGORITHM) {
    throw incomplete(`Unsupported AWS 'algorithm': '${algorithm.slice(0, 64)}'.`);
  }
  const required = (name: string): string => {
    const value = once(name) ?? '';
    if (value === '') {
      throw incomplete(`AWS query-string parameters must include '${name}'.`);
    }
    return value;
  };
  const expires = required('X-Amz-Expires');
  const expiresSeconds = Number(expires);
  if (!/^\d{1,7}$/.test(expires) || expiresSeconds < 1 || expiresSeconds > MAX_EXPIRES_SECONDS) {
    throw incomplete(`'X-Amz-Expires' must be a number of seconds from 1 to ${MAX_EXPIRES_SECONDS}.`);
  }
  return {
    form: 'query',
    ...credentialOf(required('X-Amz-Credential')),
    ...signedAt(required('X-Amz-Date')),
    expiresSeconds,
    signedHeaders: headerNames(required('X-Amz-SignedHeaders')),
    value: signatureValue(required('X-Amz-Signature')),
    sessionToken: once('X-Amz-Security-Token'),
  };
}

/** The value of a header that may be there once. */
function headerText(request: AccessRequest, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === 'string' ? value : undefined;
}

function credentialOf(text: string): Pick<Signature, 'accessKeyId' | 'scope' | 'date' | 'region' | 'service'> {
  const [accessKeyId = '', date = '', region = '', service = '', end = '', ...rest] = text.split('/');
  if (end !== 'aws4_request' || rest.length > 0 || accessKeyId === '') {
    throw incomplete(
      'Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/aws4_request.',
    );
  }
  return { accessKeyId, scope: `${date}/${region}/${service}/${end}`, date, region, service };
}

function signedAt(text: string): Pick<Signature, 'signedAt' | 'signedAtMs'> {
  const long = LONG_DATE.test(text) ? text : longDate(Date.parse(text));
  const match = LONG_DATE.exec(long);
  if (match === null) {
    throw incomplete('Date must be in ISO-8601 basic format: YYYYMMDDTHHMMSSZ.');
  }
  const [, year, month, day, hour, minute, second] = match.map(Number) as [number, ...number[]];
  const signedAtMs = Date.UTC(year ?? 0, (month ?? 0) - 1, day, hour, minute, second);
  return { signedAt: long, signedAtMs };
}

/** A time as signatures write it; empty when it is none. */
export function longDate(milliseconds: number): string {
  return Number.isFinite(milliseconds) ? new Date(milliseconds).toISOString().replace(/[-:]|\.\d+/g, '') : '';
}

function headerNames(text: string): readonly string[] {
  const names = text.split(';');
  if (names.length > MAX_SIGNED_HEADERS || names.some((name) => name === '' || name !== name.toLowerCase())) {
    throw incomplete("'SignedHeaders' must be names of headers in lower case, separated by semicolons.");
  }
  return names;
}

function signatureValue(text: string): string {
  if (!HEX_SIGNATURE.test(text)) {
    throw incomplete("'Signature' must be 64 hexadecimal digits in lower case.");
  }
  return text;
}

function incomplete(message: string): LambdaError {
  return new LambdaError('IncompleteSignatureException', message);
}
