import fc from 'fast-check';
import { expect } from 'vitest';
import { isUnheard } from '../../support/lambda-caller.ts';
import type { Conversation, Heard } from '../../support/raw-http.ts';

/** Separators between two bytes that a client may get wrong. */
const CRLF = '\r\n';

/** Functions that the agent of the fuzz test serves, and unknown names. */
const functionName = fc.oneof(
  { weight: 12, arbitrary: fc.constantFrom('echo', 'slow', 'large', 'lost', 'full') },
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      'nobody',
      'echo:$LATEST',
      'echo%3A%24LATEST',
      'echo:prod',
      'arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Aecho',
      '123456789012:function:echo',
      '%',
      '%zz',
      '%00',
      '%c3%28',
      '..',
      '..%2f..%2fetc%2fpasswd',
      '%E2%9C%93',
      "'; DROP TABLE functions; --".replaceAll(' ', '%20'),
      '__proto__',
      'constructor',
      'a'.repeat(65),
      'a'.repeat(2_000),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.string({ unit: 'grapheme', maxLength: 40 }).map((text) => encodeURIComponent(text)),
  },
);

const path = fc.oneof(
  { weight: 20, arbitrary: functionName.map((name) => `/2015-03-31/functions/${name}/invocations`) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(
        functionName,
        fc.constantFrom(
          '?',
          '?Qualifier=',
          '?Qualifier=%24LATEST',
          '?Qualifier=%',
          '?Qualifier=a&Qualifier=b',
          '?a=b&&&=',
          `?${'q'.repeat(3_000)}`,
        ),
      )
      .map(([name, query]) => `/2015-03-31/functions/${name}/invocations${query}`),
  },
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      '/',
      '*',
      '//',
      '/2015-03-31/functions',
      '/2015-03-31/functions/',
      '/2015-03-31/functions/?MaxItems=-1&Marker=%00',
      '/2015-03-31/functions/echo',
      '/2015-03-31/functions/echo/configuration',
      '/2016-08-19/account-settings/',
      '/2015-03-31/functions//invocations',
      '/2014-11-13/functions/echo/invoke-async/',
      '/2021-11-15/functions/echo/response-streaming-invocations',
      'http://other.example/2015-03-31/functions/echo/invocations',
      'no-slash',
      `/${'x'.repeat(20_000)}`,
    ),
  },
);

const method = fc.oneof(
  { weight: 40, arbitrary: fc.constant('POST') },
  {
    weight: 3,
    arbitrary: fc.constantFrom('GET', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'PATCH', 'TRACE', 'CONNECT', 'PRI'),
  },
  { weight: 1, arbitrary: fc.constantFrom('post', 'BREW', 'P OST', '', 'GÉT', 'M'.repeat(300)) },
);

/** Text that headers should not have, and some that they may. One character is one byte. */
const strange = fc.oneof(
  { weight: 4, arbitrary: fc.base64String({ maxLength: 60 }) },
  {
    weight: 2,
    arbitrary: fc
      .array(fc.oneof(fc.integer({ min: 0x20, max: 0x7e }), fc.integer({ min: 0x80, max: 0xff })), {
        maxLength: 30,
      })
      .map((bytes) => String.fromCharCode(...bytes)),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '',
      ' ',
      '\t',
      '\x7f',
      '\x01',
      '\xff\xfe',
      'a'.repeat(4_000),
      'a\r\n b',
      '"',
      '{}',
      '\0',
    ),
  },
);

const header = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.tuple(
      fc.constantFrom('X-Amz-Invocation-Type'),
      fc.oneof(
        { weight: 3, arbitrary: fc.constantFrom('RequestResponse', 'Event', 'DryRun', 'DryRun', 'Stream') },
        strange,
      ),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.constant('X-Amz-Log-Type'), fc.oneof(fc.constantFrom('Tail', 'None'), strange)),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(
      fc.constant('X-Amz-Client-Context'),
      fc.oneof(
        fc.json().map((text) => Buffer.from(text).toString('base64')),
        strange,
        fc.constant('e30='.repeat(1_000)),
      ),
    ),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(
      fc.constantFrom(
        'X-Amzn-Trace-Id',
        'traceparent',
        'tracestate',
        'Authorization',
        'X-Amz-Date',
        'X-Amz-Content-Sha256',
        'X-Amz-Security-Token',
        'Content-Type',
        'Accept-Encoding',
        'Origin',
        'Cookie',
        'X-Forwarded-For',
        'X-Amz-Tenant-Id',
        'X-Amz-Durable-Execution-Name',
        'Host',
        '__proto__',
      ),
      strange,
    ),
  },
  {
    weight: 2,
    arbitrary: fc.constantFrom<[string, string]>(
      ['Expect', '100-continue'],
      ['Expect', '200-ok'],
      ['Upgrade', 'h2c'],
      ['Upgrade', 'websocket'],
      ['Connection', 'upgrade'],
      ['Connection', 'close'],
      ['Connection', 'keep-alive, upgrade'],
      ['HTTP2-Settings', 'AAMAAABkAARAAAAAAAIAAAAA'],
      ['TE', 'trailers'],
      ['Trailer', 'X-After'],
      ['Content-Encoding', 'gzip'],
      ['Authorization', 'AWS4-HMAC-SHA256 Credential=/, SignedHeaders=, Signature='],
      ['Authorization', 'Bearer ..'],
    ),
  },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom('X-A', 'x_a', 'X', '', 'X A', '\xff', 'X:'), strange) },
  {
    weight: 1,
    arbitrary: fc.constantFrom<[string, string]>(['X-Large', 'v'.repeat(30_000)], ['X-Large', 'v'.repeat(15_000)]),
  },
);

const headers = fc.oneof(
  { weight: 30, arbitrary: fc.array(header, { maxLength: 3 }) },
  {
    weight: 1,
    arbitrary: fc
      .integer({ min: 50, max: 3_000 })
      .map((count) => Array.from({ length: count }, (_each, index): [string, string] => [`X-${index}`, '1'])),
  },
);

const body = fc.oneof(
  { weight: 6, arbitrary: fc.json({ maxDepth: 3 }).map((text) => Buffer.from(text)) },
  { weight: 2, arbitrary: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)) },
  {
    weight: 2,
    arbitrary: fc
      .constantFrom(
        '',
        '{',
        'null',
        '"\\ud800"',
        '1e999',
        `${'['.repeat(20_000)}`,
        `${'['.repeat(3_000)}${']'.repeat(3_000)}`,
        '{"__proto__":{"a":1}}',
        '\ufeff{}',
      )
      .map((text) => Buffer.from(text)),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom(64 * 1024, 1024 * 1024 + 1, 2 * 1024 * 1024)
      .map((size) => Buffer.from(`"${'b'.repeat(size)}"`)),
  },
);

function chunked(bytes: Buffer, size: number, after = ''): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    const part = bytes.subarray(at, at + size);
    parts.push(Buffer.from(part.length.toString(16) + CRLF), part, Buffer.from(CRLF));
  }
  return Buffer.concat([...parts, Buffer.from(`0${CRLF}${after}${CRLF}`)]);
}

/** The headers that say how long a body is, and the body as it is sent. */
const framingFault = fc.oneof(
  { weight: 6, arbitrary: fc.constant(-1) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 13 }) },
);

const framed = fc.tuple(body, framingFault).map(([bytes, how]): readonly [string, Buffer] => {
  const length = (value: number | string): string => `Content-Length: ${value}${CRLF}`;
  const chunks = `Transfer-Encoding: chunked${CRLF}`;
  switch (how) {
    case 0:
      return [length(bytes.length + 10), bytes];
    case 1:
      return [length(Math.max(0, bytes.length - 3)), bytes];
    case 2:
      return [chunks, chunked(bytes, 7 + (bytes.length >> 4))];
    case 3:
      return [chunks, chunked(bytes, 1_000, `X-After: 1${CRLF}`)];
    case 4:
      return [chunks, Buffer.from(`zz${CRLF}${CRLF}0${CRLF}${CRLF}`)];
    case 5:
      return [chunks, Buffer.from(`FFFFFFFFFFFFFFFFF${CRLF}a${CRLF}`)];
    case 6:
      return [chunks, Buffer.from(`-1${CRLF}a${CRLF}0${CRLF}${CRLF}`)];
    case 7:
      return [chunks, Buffer.concat([Buffer.from(`5;${'e'.repeat(20_000)}${CRLF}`), bytes])];
    case 8:
      return [chunks + length(bytes.length), bytes];
    case 9:
      return [length(bytes.length) + length(bytes.length + 1), bytes];
    case 10:
      return [length('-1'), bytes];
    case 11:
      return [length('99999999999999999999'), bytes];
    case 12:
      return [`Transfer-Encoding: gzip, chunked${CRLF}`, chunked(bytes, 100)];
    case 13:
      return [`Transfer-Encoding: chunked, identity${CRLF}`, chunked(bytes, 100)];
    default:
      return [length(bytes.length), bytes];
  }
});

const version = fc.oneof(
  { weight: 30, arbitrary: fc.constant('HTTP/1.1') },
  { weight: 1, arbitrary: fc.constantFrom('HTTP/1.0', 'HTTP/2.0', 'HTTP/9.9', '') },
);

const request = fc
  .tuple(method, path, headers, framed, version)
  .map(([verb, target, fields, [framing, bytes], protocol]) =>
    Buffer.concat([
      Buffer.from(
        `${verb} ${target} ${protocol}${CRLF}Host: gateway${CRLF}${fields.map(([name, value]) => `${name}: ${value}${CRLF}`).join('')}${framing}${CRLF}`,
        'latin1',
      ),
      bytes,
    ]),
  );

/** Calls without a fault, so that others have something to come between. */
const sane = fc
  .tuple(
    fc.constantFrom('echo', 'echo', 'slow', 'large', 'lost', 'full', 'nobody'),
    fc.constantFrom('RequestResponse', 'RequestResponse', 'Event', 'DryRun'),
    fc.json({ maxDepth: 2 }),
  )
  .map(([name, type, text]) =>
    Buffer.from(
      `POST /2015-03-31/functions/${name}/invocations HTTP/1.1${CRLF}Host: gateway${CRLF}X-Amz-Invocation-Type: ${type}${CRLF}Content-Length: ${Buffer.byteLength(text)}${CRLF}${CRLF}${text}`,
    ),
  );

const some = fc.oneof({ weight: 3, arbitrary: request }, { weight: 2, arbitrary: sane });

/** Bytes that are no HTTP/1 at all. */
const nonsense = fc.oneof(
  fc.uint8Array({ maxLength: 2_000 }).map((bytes) => Buffer.from(bytes)),
  fc
    .constantFrom(
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0',
      '\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03',
      'GET /\r\n\r\n',
      '\r\n\r\n\r\n',
      '\n\n',
      'POST / HTTP/1.1',
      'POST / HTTP/1.1\r\n\r\n'.repeat(30),
      'SSH-2.0-OpenSSH_9.9\r\n',
      '\0'.repeat(70_000),
      'A'.repeat(100_000),
    )
    .map((text) => Buffer.from(text, 'latin1')),
);

/** One client: some requests in a row without a wait between them, cut into pieces anywhere. */
export const conversation: fc.Arbitrary<Conversation> = fc
  .record({
    parts: fc.oneof(
      { weight: 8, arbitrary: fc.array(some, { minLength: 1, maxLength: 3 }) },
      { weight: 1, arbitrary: fc.array(some, { minLength: 4, maxLength: 24 }) },
      { weight: 2, arbitrary: fc.tuple(nonsense) },
      { weight: 1, arbitrary: fc.tuple(some, nonsense) },
    ),
    cuts: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 6 }),
    gapMs: fc.constantFrom(0, 0, 0, 1, 5),
    ending: fc.constantFrom('Wait', 'Wait', 'Wait', 'HalfClose', 'Close', 'Reset'),
  })
  .map(({ parts, cuts, gapMs, ending }) => {
    const bytes = Buffer.concat(parts);
    const places = [0, ...cuts.map((cut) => Math.floor(cut * bytes.length)).toSorted((a, b) => a - b), bytes.length];
    return {
      pieces: places.slice(1).map((place, index) => bytes.subarray(places[index], place)),
      gapMs,
      ending,
    };
  });

/** Statuses that any request may get: never 500. */
const EXPECTED = [200, 202, 204, 400, 403, 404, 405, 408, 409, 413, 415, 429, 431, 502, 503];
/** Functions whose workers may answer 502 and 503. */
const UNSERVED = /(lost|full)/;

/** Checks that each answer is one that the API knows, in its form. */
export function expectFair({ pieces }: Conversation, heard: Heard): void {
  for (const { status, headers, body } of heard.answers) {
    const what = `${status} ${JSON.stringify(headers)} ${body.slice(0, 200)}`;
    expect(EXPECTED, what).toContain(status);
    if (status >= 500 && !isUnheard(status, body)) {
      expect(Buffer.concat(pieces).toString('latin1'), what).toMatch(UNSERVED);
    }
    // Node.js itself answers HTTP/1.1 without a Host, in the barest way.
    if (status >= 400 && !(status === 400 && headers['transfer-encoding'] === 'chunked')) {
      expect(headers, what).toHaveProperty('x-amzn-errortype');
    }
  }
}
