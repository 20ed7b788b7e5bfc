import { describe, expect, it } from 'vitest';
import { queryParameters, queryRecord, splitTarget } from '../../../../src/gateway/lambda/request-target.ts';

describe('a target', () => {
  it.each([
    ['/', '/', ''],
    ['/2015-03-31/functions/', '/2015-03-31/functions/', ''],
    ['/2015-03-31/functions/a:b/invocations?', '/2015-03-31/functions/a:b/invocations', ''],
    ['/2017-03-31/tags/arn%3Aaws%3Alambda?tagKeys=a/b?c&d', '/2017-03-31/tags/arn%3Aaws%3Alambda', 'tagKeys=a/b?c&d'],
    ["/-._~!$&'()*+,;=:@", "/-._~!$&'()*+,;=:@", ''],
    ['/...', '/...', ''],
    ['/a.b/..c/%2e%2e%2e', '/a.b/..c/%2e%2e%2e', ''],
    ['/a?/../', '/a', '/../'],
  ])('%s is split at its first question mark', (url, path, query) => {
    expect(splitTarget(url)).toEqual({ path, query });
  });

  it.each([
    '',
    '*',
    'a',
    'http://host/a',
    '//host/a',
    '/a//b',
    '/a//',
    '/.',
    '/..',
    '/./a',
    '/a/../b',
    '/a/%2e%2E/b',
    '/a/.%2e',
    '/a/%2e?b',
    '/a#b',
    '/a?b#c',
    '/a\\b',
    '/a b',
    '/a?b c',
    '/a|b',
    '/a%',
    '/a%2',
    '/a?b=%zz',
    '/é',
    '/a\u0000',
    '/a\n',
  ])('%j is none', (url) => {
    expect(() => splitTarget(url)).toThrow('The target of the request makes no sense');
  });

  it('of any length is looked at once', () => {
    // A pattern that tries again from each character would take hours for these.
    for (const path of [`/${'a%20/'.repeat(100_000)}`, `/${'a'.repeat(500_000)}`, `/a?${'b%20'.repeat(100_000)}`]) {
      expect(splitTarget(path).path).toBe(path.split('?')[0]);
      expect(() => splitTarget(`${path}#`)).toThrow();
      expect(() => splitTarget(`${path}%`)).toThrow();
    }
  });
});

describe('a query', () => {
  it('is read as signatures read it: by name and value, a plus being a plus', () => {
    expect(queryParameters('b=2&a=%20&&a=1+1&flag&c=x=y&%C3%A9=%ff')).toEqual([
      { name: 'a', value: ' ' },
      { name: 'a', value: '1+1' },
      { name: 'b', value: '2' },
      { name: 'c', value: 'x=y' },
      { name: 'flag', value: '' },
      { name: 'é', value: '%ff' },
    ]);
  });

  it('means the same in any order', () => {
    expect(queryRecord('Marker=b&Marker=a&__proto__=x')).toEqual(queryRecord('__proto__=x&Marker=a&Marker=b'));
    expect(queryRecord('Marker=b&Marker=a&MaxItems=5')).toEqual({ Marker: ['a', 'b'], MaxItems: '5' });
  });
});
