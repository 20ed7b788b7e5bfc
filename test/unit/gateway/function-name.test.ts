import { describe, expect, it } from 'vitest';
import { functionArn, parseFunctionIdentifier } from '../../../src/gateway/function-name.ts';

describe('parseFunctionIdentifier', () => {
  it.each([
    ['hello', { name: 'hello' }],
    ['hello:blue', { name: 'hello', qualifier: 'blue' }],
    ['hello:$LATEST', { name: 'hello', qualifier: '$LATEST' }],
    ['function:hello', { name: 'hello' }],
    ['123456789012:hello', { name: 'hello' }],
    ['123456789012:function:hello', { name: 'hello' }],
    ['123456789012:function:hello:7', { name: 'hello', qualifier: '7' }],
    ['arn:aws:lambda:us-east-1:123456789012:function:hello', { name: 'hello' }],
    ['arn:aws:lambda:us-east-1:123456789012:function:hello:blue', { name: 'hello', qualifier: 'blue' }],
    ['arn:aws-cn:lambda:cn-north-1:123456789012:function:hello', { name: 'hello' }],
    ['arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:a_b-c', { name: 'a_b-c' }],
  ])('reads %s', (text, expected) => {
    expect(parseFunctionIdentifier(text)).toEqual(expected);
  });

  it('takes the qualifier of the query, and lets both say the same', () => {
    expect(parseFunctionIdentifier('hello', 'blue')).toEqual({ name: 'hello', qualifier: 'blue' });
    expect(parseFunctionIdentifier('hello:blue', 'blue')).toEqual({ name: 'hello', qualifier: 'blue' });
  });

  it.each([
    ['', undefined],
    ['a b', undefined],
    ['a/b', undefined],
    ['arn:aws:s3:::bucket', undefined],
    ['arn:aws:lambda:us-east-1:12345:function:hello', undefined],
    ['x'.repeat(65), undefined],
    ['x'.repeat(171), undefined],
    ['hello', ''],
    ['hello', 'a b'],
    ['hello', 'x'.repeat(129)],
    ['hello:blue', 'green'],
  ])('refuses %s with qualifier %s', (text, qualifier) => {
    expect(() => parseFunctionIdentifier(text, qualifier)).toThrow(
      expect.objectContaining({ code: 'InvalidParameterValueException', status: 400 }),
    );
  });
});

describe('functionArn', () => {
  it('names function and qualifier', () => {
    expect(functionArn({ name: 'hello' })).toBe('arn:aws:lambda:us-east-1:012345678912:function:hello');
    expect(functionArn({ name: 'hello', qualifier: 'blue' })).toMatch(/:function:hello:blue$/);
  });
});
