import { isUtf8 } from 'node:buffer';
import querystring from 'node:querystring';
import type { Client } from './client-address.ts';

/** Account of every function, as in its ARN. */
const ACCOUNT = '012345678912';

/** The holder of the access key that a request was signed with. */
export interface Signer {
  readonly accessKeyId: string;
  readonly user: string;
}

/** A whole request of a function URL. */
export interface UrlRequest {
  readonly method: string;
  /** Path and query as sent. */
  readonly target: string;
  /** Such as `1.1`. */
  readonly httpVersion: string;
  /** Names and values in turn, as sent. */
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
  readonly client: Client;
  /** Host of the URL, without a port. */
  readonly host: string;
  readonly requestId: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** Undefined for a URL without authentication. */
  readonly signer: Signer | undefined;
  /** X-Amzn-Trace-Id of the call. */
  readonly traceId: string;
}

/** Headers between two programs that are connected, and no others. */
const HOP_BY_HOP = new Set([
  'connection',
  'expect',
  'keep-alive',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);
/** Proofs of the sender, which are for the gateway alone: headers, and parameters of a presigned URL. */
const PROOFS = new Set(['authorization', 'x-amz-security-token']);
const PRESIGNED = new Set([
  'x-amz-algorithm',
  'x-amz-credential',
  'x-amz-date',
  'x-amz-expires',
  'x-amz-security-token',
  'x-amz-signature',
  'x-amz-signedheaders',
]);
/** Headers about the way of a request, which functions go by and anybody may send. */
const OF_THE_WAY =
  /^(?:forwarded|x-forwarded(?:-.*)?|x-original-.*|x-real-ip|x-rewrite-url|x-client-ip|true-client-ip)$/;
/** Types of bodies that are text; all others are given in base64, forms too, as Lambda does. */
const TEXT_TYPE = /^(?:text\/.*|application\/(?:json|javascript|xml|.*\+json|.*\+xml))$/;
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** Bytes that each byte of UTF-8 takes in a string of JSON, as `JSON.stringify` writes it. */
const IN_JSON = Uint8Array.from(
  { length: 256 },
  (_, byte) => JSON.stringify(String.fromCharCode(byte)).length - '""'.length,
);
/** The character behind the backslash, for each byte that is escaped: `n` of a line feed, `u` where digits follow. */
const LETTERS = Uint8Array.from({ length: 128 }, (_, byte) => JSON.stringify(String.fromCharCode(byte)).charCodeAt(2));
const HEX_DIGITS = Buffer.from('0123456789abcdef');
const BACKSLASH = 0x5c;
const LETTER_U = 0x75;
const DIGIT_0 = 0x30;
/** Bytes that are turned into base64 in one piece: a multiple of three. */
const BASE64_PIECE = 48 * 1024;

/**
 * The event of a request, in the payload format 2.0 of API Gateway, as "Invoking Lambda function URLs" of the AWS
 * documentation has it. Its size is counted before any of the body is written.
 *
 * @returns undefined for an event of more than `maxBytes`
 */
export function urlEventOf(request: UrlRequest, maxBytes: number): Buffer | undefined {
  const { body } = request;
  const { head, isText } = headOf(request);
  const frame = Buffer.from(body.length === 0 ? head : `${head.slice(0, -1)},"body":"","isBase64Encoded":${!isText}}`);
  const bytes = bytesInEvent(body, isText, maxBytes - frame.length);
  if (frame.length + bytes > maxBytes) {
    return undefined;
  }
  if (body.length === 0) {
    return frame;
  }
  const event = Buffer.allocUnsafeSlow(frame.length + bytes);
  const bodyAt = frame.length - `","isBase64Encoded":${!isText}}`.length;
  frame.copy(event, 0, 0, bodyAt);
  const end = isText ? writeText(event, bodyAt, body, bytes) : writeBase64(event, bodyAt, body);
  frame.copy(event, end, bodyAt);
  return event;
}

/** Bytes of a body in its event; any number above `limit` where there are more. */
function bytesInEvent(body: Buffer, isText: boolean, limit: number): number {
  if (!isText) {
    return Math.ceil(body.length / 3) * 4;
  }
  let bytes = body.length;
  for (let at = 0; at < body.length && bytes <= limit; at += 1) {
    bytes += (IN_JSON[body[at] as number] as number) - 1;
  }
  return bytes;
}

/**
 * Writes text as `JSON.stringify` does. Returns where it ends.
 *
 * @param bytes that it takes
 */
function writeText(target: Buffer, from: number, text: Buffer, bytes: number): number {
  if (bytes === text.length) {
    return from + text.copy(target, from);
  }
  let end = from;
  for (let at = 0; at < text.length; at += 1) {
    const byte = text[at] as number;
    if (IN_JSON[byte] === 1) {
      target[end] = byte;
      end += 1;
    } else {
      const letter = LETTERS[byte] as number;
      target[end] = BACKSLASH;
      target[end + 1] = letter;
      end += 2;
      if (letter === LETTER_U) {
        target[end] = DIGIT_0;
        target[end + 1] = DIGIT_0;
        target[end + 2] = HEX_DIGITS[byte >> 4] as number;
        target[end + 3] = HEX_DIGITS[byte & 15] as number;
        end += 4;
      }
    }
  }
  return end;
}

/** Writes bytes in base64, piece by piece. Returns where they end. */
function writeBase64(target: Buffer, from: number, bytes: Buffer): number {
  let end = from;
  for (let at = 0; at < bytes.length; at += BASE64_PIECE) {
    end += target.write(bytes.toString('base64', at, at + BASE64_PIECE), end, 'latin1');
  }
  return end;
}

/** The event without its body, as JSON, and whether the body is text. */
function headOf(request: UrlRequest): { readonly head: string; readonly isText: boolean } {
  const { at, body, client, host, method, requestId, signer, target } = request;
  const mark = target.indexOf('?');
  const path = mark < 0 ? target : target.slice(0, mark);
  const sent = mark < 0 ? '' : target.slice(mark + 1);
  const query = signer === undefined ? sent : withoutProofs(sent);
  const { cookies, headers } = headersOf(request);
  const [prefix = ''] = host.split('.');
  const isText = TEXT_TYPE.test(typeOf(headers.get('content-type') ?? '')) && isUtf8(body);
  const event = {
    version: '2.0',
    routeKey: '$default',
    rawPath: path,
    rawQueryString: query,
    ...(cookies.length === 0 ? {} : { cookies }),
    headers: Object.fromEntries(headers),
    // The class drops one question mark at the front, which is the query's own without this one.
    ...(query === '' ? {} : { queryStringParameters: Object.fromEntries(joined(new URLSearchParams(`?${query}`))) }),
    requestContext: {
      accountId: signer === undefined ? 'anonymous' : ACCOUNT,
      apiId: prefix,
      authentication: null,
      ...(signer === undefined ? {} : { authorizer: { iam: iamOf(signer) } }),
      domainName: host,
      domainPrefix: prefix,
      http: {
        method,
        // Decoded in Lambda's own events, unlike the raw path.
        path: querystring.unescape(path),
        protocol: `HTTP/${request.httpVersion}`,
        sourceIp: client.address,
        userAgent: headers.get('user-agent') ?? '',
      },
      requestId,
      routeKey: '$default',
      stage: '$default',
      time: commonLogTime(at),
      timeEpoch: at,
    },
    // A body comes between, with what it is.
    ...(body.length === 0 ? { isBase64Encoded: false } : {}),
  };
  return { head: JSON.stringify(event), isText };
}

/** A query without the parameters that prove its sender, all others as they were sent. */
function withoutProofs(query: string): string {
  const parts = query.split('&');
  return parts
    .filter((part) => !PRESIGNED.has(querystring.unescape(part.split('=', 1)[0] ?? '').toLowerCase()))
    .join('&');
}

/** The headers that a function gets, by their names in small letters, and the cookies. */
function headersOf({ body, client, host, rawHeaders, signer, traceId }: UrlRequest) {
  const pairs: [string, string][] = [];
  const cookies: string[] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = (rawHeaders[at] ?? '').toLowerCase();
    const value = rawHeaders[at + 1] ?? '';
    if (name === 'cookie') {
      cookies.push(...value.split(';').map((cookie) => cookie.trim()));
    } else if (!HOP_BY_HOP.has(name) && !(signer !== undefined && PROOFS.has(name)) && isBelieved(name, client)) {
      pairs.push([name, value]);
    }
  }
  const headers = joined(pairs);
  const told = cookies.filter((cookie) => cookie !== '');
  if (told.length > 0) {
    // Lambda's own events have cookies in both places, those of API Gateway do not.
    headers.set('cookie', told.join('; '));
  }
  headers.set('host', host);
  headers.set('x-amzn-trace-id', traceId);
  if (body.length > 0 && !headers.has('content-length')) {
    headers.set('content-length', String(body.length));
  }
  if (!client.byProxy) {
    headers.set('x-forwarded-for', client.address);
    headers.set('x-forwarded-proto', 'http');
  }
  return { headers, cookies: told };
}

/**
 * Whether a header is shown: those about the way are, in the spelling of the proxy that the operator has named. CGI and
 * WSGI read `X_Forwarded_For` as the same header, and a proxy may pass that on from its client.
 */
function isBelieved(name: string, { byProxy }: Client): boolean {
  return (byProxy && !name.includes('_')) || !OF_THE_WAY.test(name.replaceAll('_', '-'));
}

/** Values of a name joined by commas, in the order in which they came. */
function joined(pairs: Iterable<readonly [string, string]>): Map<string, string> {
  const values = new Map<string, string>();
  for (const [name, value] of pairs) {
    const earlier = values.get(name);
    values.set(name, earlier === undefined ? value : `${earlier},${value}`);
  }
  return values;
}

/** A media type without its parameters. */
function typeOf(contentType: string): string {
  return (contentType.split(';')[0] ?? '').trim().toLowerCase();
}

/** Users of ESB have one name, which stands for the ids of an AWS user as well. */
function iamOf({ accessKeyId, user }: Signer): object {
  return {
    accessKey: accessKeyId,
    accountId: ACCOUNT,
    callerId: user,
    cognitoIdentity: null,
    principalOrgId: null,
    userArn: `arn:aws:iam::${ACCOUNT}:user/${user}`,
    userId: user,
  };
}

/** A time as access logs write it: `12/Mar/2020:19:03:58 +0000`. */
function commonLogTime(milliseconds: number): string {
  const date = new Date(milliseconds);
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${two(date.getUTCDate())}/${MONTHS[date.getUTCMonth()]}/${date.getUTCFullYear()}`;
  return `${day}:${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())} +0000`;
}
