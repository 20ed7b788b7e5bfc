import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { type UrlRequest, urlEventOf } from '../../../../src/gateway/url/url-event.ts';
import { converse } from '../../../support/raw-http.ts';
import { eventsOf, HELLO, urlLab } from '../../../support/url-lab.ts';

/** Headers of each request of the table, unless its row has others of these names. */
const USUAL = ['Host', HELLO, 'User-Agent', 'agent'];
/** The client of a test on one machine. */
const CLIENT = '127.0.0.1';
const AT = Date.UTC(2020, 2, 12, 19, 3, 58, 390);

interface Sent {
  readonly line: string;
  readonly headers?: readonly string[];
  readonly body?: string | Buffer;
  readonly given?: Partial<UrlRequest>;
}

function eventOf({ body = '', given, headers = [], line }: Sent) {
  const [method = '', target = ''] = line.split(' ');
  const request: UrlRequest = {
    method,
    target,
    httpVersion: '1.1',
    rawHeaders: [...USUAL, ...headers],
    body: Buffer.from(body),
    client: { address: CLIENT, byProxy: false },
    host: HELLO,
    requestId: 'id',
    at: AT,
    signer: undefined,
    traceId: 'Root=1-5e6a8b4e-000000000000000000000001',
    ...given,
  };
  return JSON.parse(String(urlEventOf(request, 6 * 2 ** 20))) as Record<string, unknown>;
}

function bytesOf({ body = '', headers = [], line }: Sent): Buffer {
  const all = [...USUAL, ...headers, ...(body.length === 0 ? [] : ['Content-Length', String(Buffer.byteLength(body))])];
  const fields = all.flatMap((name, at) => (at % 2 === 0 ? [`${name}: ${all[at + 1]}`] : []));
  return Buffer.concat([
    Buffer.from([`${line} HTTP/1.1`, ...fields, '', ''].join('\r\n'), 'latin1'),
    Buffer.from(body),
  ]);
}

const png = Buffer.from('89504e470d0a1a0a', 'hex');
const json = ['Content-Type', 'application/json'];
const form = ['Content-Type', 'application/x-www-form-urlencoded'];
const path = (raw: string, decoded = raw) => ({ rawPath: raw, requestContext: { http: { path: decoded } } });
const header = (name: string, value: string) => ({ headers: { [name]: value } });

/**
 * Written from the description of the payload format 2.0 in the AWS documentation. Where that leaves a choice, as AWS
 * was seen to do: `rawPath` as sent beside a decoded `http.path`, and cookies among the headers too, are in the events
 * that aws-lambda-go (lambdaurl/testdata) and hotsock/voker (vokerhttp/testdata) have recorded.
 */
const requests: readonly (readonly [what: string, sent: Sent, event: object])[] = [
  ['the root', { line: 'GET /' }, { version: '2.0', routeKey: '$default', ...path('/'), rawQueryString: '' }],
  ['a path', { line: 'GET /my/path' }, path('/my/path')],
  ['a path that ends with a slash', { line: 'GET /my/path/' }, path('/my/path/')],
  ['an encoded path', { line: 'GET /a%20b/%E2%82%AC' }, path('/a%20b/%E2%82%AC', '/a b/€')],
  ['a path that is encoded twice', { line: 'GET /a%252Fb' }, path('/a%252Fb', '/a%2Fb')],
  ['a percent sign that encodes nothing', { line: 'GET /100%/%FF' }, path('/100%/%FF', '/100%/\uFFFD')],
  ['a plus in the path', { line: 'GET /a+b' }, path('/a+b')],
  ['an encoded slash', { line: 'GET /a%2Fb' }, path('/a%2Fb', '/a/b')],
  ['a path with an empty part', { line: 'GET /a//b' }, path('/a//b')],
  [
    'a path like that of the Lambda API',
    { line: 'POST /2015-03-31/functions/x/invocations' },
    path('/2015-03-31/functions/x/invocations'),
  ],
  ['HEAD', { line: 'HEAD /' }, { requestContext: { http: { method: 'HEAD' } } }],
  ['PUT', { line: 'PUT /' }, { requestContext: { http: { method: 'PUT' } } }],
  ['PATCH', { line: 'PATCH /' }, { requestContext: { http: { method: 'PATCH' } } }],
  ['DELETE', { line: 'DELETE /' }, { requestContext: { http: { method: 'DELETE' } } }],
  ['OPTIONS', { line: 'OPTIONS /' }, { requestContext: { http: { method: 'OPTIONS' } } }],
  [
    'a query',
    { line: 'GET /?message=HelloWorld' },
    { rawPath: '/', rawQueryString: 'message=HelloWorld', queryStringParameters: { message: 'HelloWorld' } },
  ],
  [
    'several values of a parameter',
    { line: 'GET /?parameter1=value1&parameter1=value2&parameter2=value' },
    {
      rawQueryString: 'parameter1=value1&parameter1=value2&parameter2=value',
      queryStringParameters: { parameter1: 'value1,value2', parameter2: 'value' },
    },
  ],
  [
    'an encoded parameter',
    { line: 'GET /?a%20b=c%26d' },
    { rawQueryString: 'a%20b=c%26d', queryStringParameters: { 'a b': 'c&d' } },
  ],
  ['a plus', { line: 'GET /?q=a+b' }, { rawQueryString: 'q=a+b', queryStringParameters: { q: 'a b' } }],
  ['an encoded plus', { line: 'GET /?q=a%2Bb' }, { rawQueryString: 'q=a%2Bb', queryStringParameters: { q: 'a+b' } }],
  ['an empty query', { line: 'GET /?' }, { ...path('/'), rawQueryString: '' }],
  [
    'a query with empty parts',
    { line: 'GET /?&a=1&&' },
    { rawQueryString: '&a=1&&', queryStringParameters: { a: '1' } },
  ],
  ['a parameter without a value', { line: 'GET /?flag&empty=' }, { queryStringParameters: { flag: '', empty: '' } }],
  ['a value with an equals sign', { line: 'GET /?a=b=c' }, { queryStringParameters: { a: 'b=c' } }],
  [
    'a question mark in front',
    { line: 'GET /??a=b' },
    { rawQueryString: '?a=b', queryStringParameters: { '?a': 'b' } },
  ],
  ['a second question mark', { line: 'GET /?a=b?c' }, { rawQueryString: 'a=b?c', queryStringParameters: { a: 'b?c' } }],
  [
    'a parameter that is not UTF-8',
    { line: 'GET /?a=%FF' },
    { rawQueryString: 'a=%FF', queryStringParameters: { a: '\uFFFD' } },
  ],
  [
    'a parameter named like a member of objects',
    { line: 'GET /?constructor=x' },
    { queryStringParameters: { constructor: 'x' } },
  ],
  [
    'headers in small letters',
    { line: 'GET /', headers: ['X-Custom-HEADER', 'Value'] },
    header('x-custom-header', 'Value'),
  ],
  [
    'several values of a header',
    { line: 'GET /', headers: ['Header2', 'value1', 'header2', 'value2'] },
    header('header2', 'value1,value2'),
  ],
  [
    'a header with commas',
    { line: 'GET /', headers: ['Accept', 'text/html, */*'] },
    header('accept', 'text/html, */*'),
  ],
  [
    'a port in the host',
    { line: 'GET /', headers: [], given: { rawHeaders: ['Host', `${HELLO}:8443`] } },
    header('host', HELLO),
  ],
  ['an empty header', { line: 'GET /', headers: ['X-Empty', ''] }, header('x-empty', '')],
  ['a cookie', { line: 'GET /', headers: ['Cookie', 'one=1'] }, { cookies: ['one=1'], ...header('cookie', 'one=1') }],
  [
    'several cookies',
    { line: 'GET /', headers: ['Cookie', 'one=1; two="a b";three'] },
    { cookies: ['one=1', 'two="a b"', 'three'], ...header('cookie', 'one=1; two="a b"; three') },
  ],
  [
    'cookies in several headers',
    { line: 'GET /', headers: ['Cookie', 'one=1', 'cookie', 'two=2'] },
    { cookies: ['one=1', 'two=2'], ...header('cookie', 'one=1; two=2') },
  ],
  [
    'JSON',
    { line: 'POST /', headers: json, body: '{"key":"värde"}' },
    { body: '{"key":"värde"}', isBase64Encoded: false },
  ],
  [
    'JSON with a character set',
    { line: 'POST /', headers: ['Content-Type', 'application/json; charset=utf-8'], body: '{}' },
    { body: '{}', isBase64Encoded: false },
  ],
  [
    'JSON of a type of its own',
    { line: 'POST /', headers: ['Content-Type', 'application/problem+json'], body: '{}' },
    { body: '{}', isBase64Encoded: false },
  ],
  [
    'text',
    { line: 'POST /', headers: ['Content-Type', 'Text/Plain'], body: 'Hello from client!' },
    { body: 'Hello from client!', isBase64Encoded: false },
  ],
  [
    'XML',
    { line: 'POST /', headers: ['Content-Type', 'application/xml'], body: '<a/>' },
    { body: '<a/>', isBase64Encoded: false },
  ],
  ['a form', { line: 'POST /', headers: form, body: 'a=b' }, { body: 'YT1i', isBase64Encoded: true }],
  [
    'an image',
    { line: 'POST /', headers: ['Content-Type', 'image/png'], body: png },
    { body: png.toString('base64'), isBase64Encoded: true },
  ],
  [
    'a form with files',
    { line: 'POST /', headers: ['Content-Type', 'multipart/form-data; boundary=x'], body: '--x--' },
    { body: 'LS14LS0=', isBase64Encoded: true },
  ],
  [
    'JSON that is compressed',
    { line: 'POST /', headers: [...json, 'Content-Encoding', 'gzip'], body: gzipSync('{}') },
    { body: gzipSync('{}').toString('base64'), isBase64Encoded: true },
  ],
  ['a type without a body', { line: 'POST /', headers: json }, { isBase64Encoded: false }],
  [
    'a body without a type',
    { line: 'POST /', body: 'x' },
    { body: 'eA==', isBase64Encoded: true, headers: { 'content-length': '1' } },
  ],
  [
    'text that is not UTF-8',
    { line: 'POST /', headers: ['Content-Type', 'text/plain'], body: Buffer.from([0xff, 0xfe]) },
    { body: '//4=', isBase64Encoded: true },
  ],
  [
    'a way that the client says it came',
    { line: 'GET /', headers: ['X-Forwarded-For', '6.6.6.6', 'X-Forwarded-Proto', 'https'] },
    { headers: { 'x-forwarded-for': CLIENT, 'x-forwarded-proto': 'http' } },
  ],
  [
    'a way that a proxy of the operator says',
    {
      line: 'GET /',
      headers: ['X-Forwarded-For', '203.0.113.9', 'X-Forwarded-Proto', 'https'],
      given: { client: { address: '203.0.113.9', byProxy: true } },
    },
    {
      headers: { 'x-forwarded-for': '203.0.113.9', 'x-forwarded-proto': 'https' },
      requestContext: { http: { sourceIp: '203.0.113.9' } },
    },
  ],
  [
    'an older HTTP',
    { line: 'GET /', given: { httpVersion: '1.0' } },
    { requestContext: { http: { protocol: 'HTTP/1.0' } } },
  ],
  [
    'an address of IPv6',
    { line: 'GET /', given: { client: { address: '2001:db8::1', byProxy: false } } },
    { headers: { 'x-forwarded-for': '2001:db8::1' }, requestContext: { http: { sourceIp: '2001:db8::1' } } },
  ],
  [
    'a signer',
    { line: 'GET /', given: { signer: { accessKeyId: 'AKIDALICE', user: 'alice' } } },
    {
      requestContext: {
        accountId: '012345678912',
        authorizer: {
          iam: { accessKey: 'AKIDALICE', userArn: 'arn:aws:iam::012345678912:user/alice', userId: 'alice' },
        },
      },
    },
  ],
];

describe('the event of a request', () => {
  it('is shown by more than forty of them', () => {
    expect(requests.length).toBeGreaterThan(40);
  });

  it.each(requests)('with %s', (_what, sent, event) => {
    expect(eventOf(sent)).toMatchObject(event);
  });

  it('is the same where these are the bytes of a connection', async () => {
    const lab = await urlLab();
    const asSent = requests.filter(([, { given, line }]) => given === undefined && !line.startsWith('HEAD'));
    for (const [what, sent] of asSent) {
      const conversation = { pieces: [bytesOf(sent)], gapMs: 0, ending: 'Wait' } as const;
      const { answers } = await converse(lab.urlPort, conversation, { answers: 1, quietMs: 10_000 });
      expect([what, ...answers.map(({ status }) => status)]).toEqual([what, 200]);
    }
    for (const [index, [, , event]] of asSent.entries()) {
      expect(eventsOf(lab)[index]).toMatchObject(event);
    }
  });

  it('has every member that the documentation has, and no other', () => {
    expect(eventOf({ line: 'POST /my/path?a=b', headers: [...json, 'Cookie', 'one=1'], body: '{}' })).toEqual({
      version: '2.0',
      routeKey: '$default',
      rawPath: '/my/path',
      rawQueryString: 'a=b',
      cookies: ['one=1'],
      headers: {
        host: HELLO,
        'user-agent': 'agent',
        'content-type': 'application/json',
        cookie: 'one=1',
        'content-length': '2',
        'x-amzn-trace-id': 'Root=1-5e6a8b4e-000000000000000000000001',
        'x-forwarded-for': CLIENT,
        'x-forwarded-proto': 'http',
      },
      queryStringParameters: { a: 'b' },
      requestContext: {
        accountId: 'anonymous',
        apiId: 'hello',
        authentication: null,
        domainName: HELLO,
        domainPrefix: 'hello',
        http: {
          method: 'POST',
          path: '/my/path',
          protocol: 'HTTP/1.1',
          sourceIp: CLIENT,
          userAgent: 'agent',
        },
        requestId: 'id',
        routeKey: '$default',
        stage: '$default',
        time: '12/Mar/2020:19:03:58 +0000',
        timeEpoch: AT,
      },
      body: '{}',
      isBase64Encoded: false,
    });
  });

  it('has no member for what is not there', () => {
    const event = eventOf({ line: 'GET /' });
    for (const name of ['body', 'cookies', 'queryStringParameters']) {
      expect(event).not.toHaveProperty(name);
    }
    expect(event.requestContext).not.toHaveProperty('authorizer');
    expect(event.headers).not.toHaveProperty('cookie');
  });

  it('keeps the proof of a signer from the function, and no header of a stranger', () => {
    const headers = ['Authorization', 'AWS4-HMAC-SHA256 x', 'X-Amz-Security-Token', 'secret', 'X-Amz-Date', 'now'];
    const signed = eventOf({ line: 'GET /', headers, given: { signer: { accessKeyId: 'A', user: 'a' } } });
    expect(signed.headers).not.toHaveProperty('authorization');
    expect(signed.headers).not.toHaveProperty('x-amz-security-token');
    expect(signed.headers).toHaveProperty('x-amz-date', 'now');
    expect(eventOf({ line: 'GET /', headers: ['Authorization', 'Bearer of-the-app'] })).toMatchObject(
      header('authorization', 'Bearer of-the-app'),
    );
  });

  it.each([
    ...['Forwarded', 'X-Forwarded-Host', 'X-Forwarded-Port', 'X-Forwarded-Prefix', 'X-Forwarded-Scheme'],
    ...['X-Forwarded-Ssl', 'X-Forwarded-Server', 'X-Real-Ip', 'X-Original-Url', 'X-Rewrite-URL', 'True-Client-IP'],
  ])('has %s of a proxy alone, and no spelling that CGI takes for it', (name) => {
    const client = { address: '203.0.113.9', byProxy: true };
    const spelled = name.replaceAll('-', '_');
    const headers = [name, 'a', ...(spelled === name ? [] : [spelled, 'b']), 'X_Own', 'c'];
    const ofStranger = eventOf({ line: 'GET /', headers });
    const byProxy = eventOf({ line: 'GET /', headers, given: { client } });
    const namesOf = (event: Record<string, unknown>) =>
      Object.entries(event.headers as object).filter(([, value]) => ['a', 'b', 'c'].includes(value as string));
    expect(namesOf(ofStranger)).toEqual([['x_own', 'c']]);
    expect(namesOf(byProxy)).toEqual([
      [name.toLowerCase(), 'a'],
      ['x_own', 'c'],
    ]);
  });

  it.each(['X_Forwarded_For', 'X-Forwarded_For'])('has no %s beside the address of the client', (name) => {
    const headers = eventOf({ line: 'GET /', headers: [name, '6.6.6.6'] }).headers as Record<string, string>;
    expect(Object.values(headers)).not.toContain('6.6.6.6');
    expect(headers['x-forwarded-for']).toBe(CLIENT);
  });

  it('has nothing that is between client and gateway alone', () => {
    const headers = [
      'Connection',
      'keep-alive',
      'Transfer-Encoding',
      'chunked',
      'Upgrade',
      'websocket',
      'TE',
      'trailers',
    ];
    const names = Object.keys(eventOf({ line: 'GET /', headers }).headers as object);
    expect(names.toSorted()).toEqual(['host', 'user-agent', 'x-amzn-trace-id', 'x-forwarded-for', 'x-forwarded-proto']);
  });
});
