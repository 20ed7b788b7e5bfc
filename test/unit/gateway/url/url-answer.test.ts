import { describe, expect, it } from 'vitest';
import { hasPrelude, MAX_PRELUDE_BYTES, preludeOf, urlAnswerOf } from '../../../../src/gateway/url/url-answer.ts';

const JSON_TYPE = ['content-type', 'application/json'];
const STREAMED = 'application/vnd.awslambda.http-integration-response';

function answerOf(value: unknown, contentType = 'application/json') {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  const made = urlAnswerOf(Buffer.from(text), contentType);
  return made === undefined ? undefined : { ...made, body: made.body.toString('latin1') };
}

describe('the answer of a function', () => {
  it.each([
    ['"Hello, world!"', '"Hello, world!"'],
    ['{"message": "Hello, world!"}', '{"message": "Hello, world!"}'],
    ['null', 'null'],
    ['[1,2]', '[1,2]'],
    ['{"body":"x"}', '{"body":"x"}'],
  ])('%s, without a status, is the body', (payload, body) => {
    expect(answerOf(payload)).toEqual({ status: 200, headers: [JSON_TYPE], body });
  });

  it.each([
    ['a status alone', { statusCode: 204 }, { status: 204, headers: [JSON_TYPE], body: '' }],
    ['a status as text', { statusCode: '404', body: 'no' }, { status: 404, headers: [JSON_TYPE], body: 'no' }],
    [
      'headers of any case and scalar type',
      { statusCode: 201, headers: { 'Content-Type': 'text/html', 'X-Count': 3, 'X-Yes': true, 'X-None': null } },
      {
        status: 201,
        headers: [
          ['content-type', 'text/html'],
          ['x-count', '3'],
          ['x-yes', 'true'],
        ],
        body: '',
      },
    ],
    [
      'several values of a header',
      { statusCode: 200, headers: { link: ['a', 'b'] } },
      { status: 200, headers: [JSON_TYPE, ['link', 'a'], ['link', 'b']], body: '' },
    ],
    [
      'two spellings of a header, of which the last counts',
      {
        statusCode: 200,
        headers: { 'Content-Type': 'text/html', 'X-A': ['1', '2'], 'content-type': 'text/css', 'x-a': 3 },
      },
      {
        status: 200,
        headers: [
          ['content-type', 'text/css'],
          ['x-a', '3'],
        ],
        body: '',
      },
    ],
    [
      'two spellings of a header of cookies, each of which is one',
      { statusCode: 200, headers: { 'Set-Cookie': 'a=1', 'set-cookie': 'b=2' } },
      { status: 200, headers: [JSON_TYPE, ['set-cookie', 'a=1'], ['set-cookie', 'b=2']], body: '' },
    ],
    [
      'cookies',
      { statusCode: 200, cookies: ['One=1; Expires=21 Oct 2021 07:48 GMT', 'Two=2; Max-Age=78000'] },
      {
        status: 200,
        headers: [
          JSON_TYPE,
          ['set-cookie', 'One=1; Expires=21 Oct 2021 07:48 GMT'],
          ['set-cookie', 'Two=2; Max-Age=78000'],
        ],
        body: '',
      },
    ],
    [
      'a body in base64',
      { statusCode: 200, body: '//4=', isBase64Encoded: true },
      { status: 200, headers: [JSON_TYPE], body: '\xff\xfe' },
    ],
    [
      'a body that is no text',
      { statusCode: 200, body: { a: 1 } },
      { status: 200, headers: [JSON_TYPE], body: '{"a":1}' },
    ],
    [
      'headers that are the gateway’s',
      {
        statusCode: 200,
        headers: {
          'Content-Length': '7',
          connection: 'close',
          'Transfer-Encoding': 'chunked',
          'x-amzn-RequestId': 'mine',
        },
      },
      { status: 200, headers: [JSON_TYPE], body: '' },
    ],
  ])('with %s', (_what, payload, answer) => {
    expect(answerOf(payload)).toEqual(answer);
  });

  it.each([
    ['no JSON', 'Hello'],
    ['nothing', ''],
    ['an interim status', { statusCode: 101 }],
    ['a status that is none', { statusCode: 1000 }],
    ['a status that is no number', { statusCode: null }],
    ['a header with a line end', { statusCode: 200, headers: { x: 'a\r\nset-cookie: b=c' } }],
    ['a header without a name', { statusCode: 200, headers: { 'a b': 'c' } }],
    ['a header that is an object', { statusCode: 200, headers: { x: { y: 1 } } }],
    ['headers that are none', { statusCode: 200, headers: 'x: y' }],
    ['headers that are too long', { statusCode: 200, headers: { x: 'y'.repeat(MAX_PRELUDE_BYTES) } }],
    ['too many cookies', { statusCode: 200, cookies: Array.from({ length: 8_192 }, () => 'a=b') }],
    ['a cookie with a line end', { statusCode: 200, cookies: ['a=b\nx'] }],
    ['cookies that are none', { statusCode: 200, cookies: 'a=b' }],
  ])('makes no response with %s', (_what, payload) => {
    expect(answerOf(payload)).toBeUndefined();
  });
});

describe('an answer that begins with its head', () => {
  it('is told by its type', () => {
    expect(hasPrelude(`${STREAMED}; charset=x`)).toBe(true);
    expect(hasPrelude('application/json')).toBe(false);
    expect(hasPrelude('')).toBe(false);
  });

  it('is taken apart where it was not streamed', () => {
    const head = '{"statusCode":201,"headers":{"x-a":"b"},"cookies":["c=d"]}';
    expect(answerOf(`${head}${'\0'.repeat(8)}body\0`, STREAMED)).toEqual({
      status: 201,
      headers: [
        ['content-type', 'application/octet-stream'],
        ['x-a', 'b'],
        ['set-cookie', 'c=d'],
      ],
      body: 'body\0',
    });
  });

  it.each([['{"statusCode":201}'], [`{"statusCode":201${'\0'.repeat(8)}`], [`[]${'\0'.repeat(8)}`]])(
    'makes none of %j',
    (text) => {
      expect(answerOf(text, STREAMED)).toBeUndefined();
    },
  );

  it('has a bound', () => {
    const head = (bytes: number) => Buffer.from('{}'.padEnd(bytes));
    expect(preludeOf(head(MAX_PRELUDE_BYTES))).toBeDefined();
    expect(preludeOf(head(MAX_PRELUDE_BYTES + 1))).toBeUndefined();
  });

  it('has status 200 where it names none', () => {
    expect(preludeOf(Buffer.from('{}'))).toEqual({
      status: 200,
      headers: [['content-type', 'application/octet-stream']],
    });
  });
});
