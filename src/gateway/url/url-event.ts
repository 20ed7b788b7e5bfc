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
/** Types of bodies that are text; all others are given in base64, forms too, as Lambda does. */
const TEXT_TYPE = /^(?:text\/.*|application\/(?:json|javascript|xml|.*\+json|.*\+xml))$/;
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/**
 * The event of a request, in the payload format 2.0 of API Gateway, as "Invoking Lambda function URLs" of the AWS
 * documentation has it.
 */
export function urlEventOf(request: UrlRequest): Buffer {
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
    ...(body.length === 0 ? {} : { body: body.toString(isText ? 'utf8' : 'base64') }),
    isBase64Encoded: body.length > 0 && !isText,
  };
  return Buffer.from(JSON.stringify(event));
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
    } else if (!HOP_BY_HOP.has(name) && !(signer !== undefined && PROOFS.has(name))) {
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
    // Anybody may send these, and functions go by them.
    headers.set('x-forwarded-for', client.address);
    headers.set('x-forwarded-proto', 'http');
    headers.delete('x-forwarded-port');
    headers.delete('x-forwarded-host');
    headers.delete('forwarded');
  }
  return { headers, cookies: told };
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
