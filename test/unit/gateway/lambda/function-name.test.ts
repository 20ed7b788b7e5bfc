import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { functionArn, parseFunctionIdentifier } from '../../../../src/gateway/lambda/function-name.ts';
import { LambdaError } from '../../../../src/gateway/lambda/lambda-error.ts';

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
    ['arn:aws-eusc:lambda:eusc-de-east-1:123456789012:function:hello', { name: 'hello' }],
    ['hello:$LATEST.PUBLISHED', { name: 'hello', qualifier: '$LATEST.PUBLISHED' }],
    ['arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:a_b-c', { name: 'a_b-c' }],
  ])('reads %s', (text, expected) => {
    expect(parseFunctionIdentifier(text)).toEqual(expected);
  });

  it('takes the qualifier of the query, and lets both say the same', () => {
    expect(parseFunctionIdentifier('hello', 'blue')).toEqual({ name: 'hello', qualifier: 'blue' });
    expect(parseFunctionIdentifier('hello:blue', 'blue')).toEqual({ name: 'hello', qualifier: 'blue' });
  });

  it('takes an empty qualifier for none', () => {
    expect(parseFunctionIdentifier('hello', '')).toEqual({ name: 'hello' });
  });

  it.each([
    ['', undefined],
    ['a b', undefined],
    ['a/b', undefined],
    ['arn:aws:s3:::bucket', undefined],
    ['arn:aws:lambda:us-east-1:12345:function:hello', undefined],
    ['x'.repeat(65), undefined],
    [`arn:aws:lambda:us-east-1:123456789012:function:hello:${'x'.repeat(204)}`, undefined],
    ['hello', 'a b'],
    ['hello', 'x'.repeat(129)],
    ['hello:blue', 'green'],
  ])('refuses %s with qualifier %s', (text, qualifier) => {
    expect(() => parseFunctionIdentifier(text, qualifier)).toThrow(
      expect.objectContaining({ code: 'InvalidParameterValueException', status: 400 }),
    );
  });

  it('repeats no more of a value than its beginning', () => {
    const long = 'x'.repeat(10_000);
    expect(() => parseFunctionIdentifier(long)).toThrow(
      expect.objectContaining({ message: expect.stringMatching(/^.{0,500}$/) }),
    );
  });
});

describe('any text', () => {
  const part = fc.stringMatching(/^[a-zA-Z0-9-_]{1,64}$/);

  it('is read or refused, and what is read is read again from its ARN', () => {
    const pieces = fc.constantFrom('arn', 'aws', 'lambda', 'us-east-1', '123456789012', 'function', '$LATEST', '');
    const texts = fc.oneof(
      fc.string(),
      fc.array(fc.oneof(pieces, part)).map((all) => all.join(':')),
    );
    fc.assert(
      fc.property(texts, fc.option(fc.string(), { nil: undefined }), (text, qualifier) => {
        try {
          const reference = parseFunctionIdentifier(text, qualifier);
          if (!/[.$]/.test(`${reference.name}${reference.qualifier ?? ''}`)) {
            expect(parseFunctionIdentifier(functionArn(reference))).toEqual(reference);
          }
        } catch (error) {
          if (!(error instanceof LambdaError)) {
            throw error;
          }
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('names the same function in all its forms', () => {
    fc.assert(
      fc.property(part, part, (name, qualifier) => {
        for (const prefix of ['123456789012:function:', 'arn:aws:lambda:us-east-1:123456789012:function:']) {
          expect(parseFunctionIdentifier(`${prefix}${name}`)).toEqual({ name });
          expect(parseFunctionIdentifier(`${prefix}${name}:${qualifier}`)).toEqual({ name, qualifier });
        }
      }),
    );
  });
});

describe('functionArn', () => {
  it('names function and qualifier', () => {
    expect(functionArn({ name: 'hello' })).toBe('arn:aws:lambda:us-east-1:012345678912:function:hello');
    expect(functionArn({ name: 'hello', qualifier: 'blue' })).toMatch(/:function:hello:blue$/);
  });
});
