import { describe, expect, it } from 'vitest';
import { canonicalPath, canonicalQuery, canonicalRequest } from '../../../../src/gateway/access/canonical-request.ts';

const EMPTY_SHA256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

describe('canonical request', () => {
  it("is that of the example in AWS's description of the signing process", () => {
    const canonical = canonicalRequest(
      {
        method: 'GET',
        url: '/?Action=ListUsers&Version=2010-05-08',
        rawHeaders: [
          'Content-Type',
          'application/x-www-form-urlencoded; charset=utf-8',
          'Host',
          'iam.amazonaws.com',
          'X-Amz-Date',
          '20150830T123600Z',
        ],
      },
      ['content-type', 'host', 'x-amz-date'],
      EMPTY_SHA256,
    );
    expect(canonical).toBe(
      [
        'GET',
        '/',
        'Action=ListUsers&Version=2010-05-08',
        'content-type:application/x-www-form-urlencoded; charset=utf-8',
        'host:iam.amazonaws.com',
        'x-amz-date:20150830T123600Z',
        '',
        'content-type;host;x-amz-date',
        EMPTY_SHA256,
      ].join('\n'),
    );
  });

  it('joins a header that came twice, and makes runs of blanks one', () => {
    const canonical = canonicalRequest(
      { method: 'GET', url: '/', rawHeaders: ['My-Header', ' a   b ', 'Host', 'h', 'my-header', 'c'] },
      ['my-header', 'host'],
      EMPTY_SHA256,
    );
    expect(canonical.split('\n').slice(3, 5)).toEqual(['host:h', 'my-header:a b,c']);
  });

  it('takes a signed header that did not come for an empty one', () => {
    const canonical = canonicalRequest({ method: 'GET', url: '/', rawHeaders: [] }, ['host'], EMPTY_SHA256);
    expect(canonical.split('\n')[3]).toBe('host:');
  });
});

describe('canonical path', () => {
  it.each([
    ['/', '/'],
    ['/foo/', '/foo/'],
    ['/a%20b', '/a%2520b'],
    ['/functions/arn%3Aaws', '/functions/arn%253Aaws'],
    ["/it's(*)!", '/it%27s%28%2A%29%21'],
    ['/-._~', '/-._~'],
  ])('of %s is %s', (path, canonical) => {
    expect(canonicalPath(path)).toBe(canonical);
  });
});

describe('canonical query', () => {
  it.each([
    ['', ''],
    ['b=2&a=1', 'a=1&b=2'],
    ['a=2&a=1', 'a=1&a=2'],
    ['a-b=1&a=2', 'a=2&a-b=1'],
    ['Qualifier=$LATEST', 'Qualifier=%24LATEST'],
    ['Qualifier=%24LATEST', 'Qualifier=%24LATEST'],
    ['Qualifier=%24latest%2f', 'Qualifier=%24latest%2F'],
    ['flag', 'flag='],
    ['&&a=1&', 'a=1'],
    ['a=x=y', 'a=x%3Dy'],
    ['a=b+c', 'a=b%2Bc'],
    ['a=%ff', 'a=%25ff'],
    ['X-Amz-Signature=abc&a=1', 'a=1'],
  ])('of %s is %s', (query, canonical) => {
    expect(canonicalQuery(query)).toBe(canonical);
  });
});
