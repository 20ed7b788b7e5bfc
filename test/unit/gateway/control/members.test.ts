import { describe, expect, it } from 'vitest';
import { isOf, numberIn } from '../../../../src/gateway/control/members.ts';
import { lambdaShapes } from '../../../../src/gateway/lambda/generated/operations.ts';

describe('a text', () => {
  it.each([
    ['live', true],
    ['1st', true],
    ['a'.repeat(128), true],
    ['a'.repeat(129), false],
    ['', false],
    ['12', false],
    ['live\n', false],
    ['a b', false],
  ])('%j is the name of an alias: %j', (text, is) => {
    expect(isOf(lambdaShapes.Alias, text)).toBe(is);
  });

  it('has its length in characters, whatever code units they take', () => {
    expect(isOf(lambdaShapes.TagKey, '𝒳'.repeat(128))).toBe(true);
    expect(isOf(lambdaShapes.TagKey, '𝒳'.repeat(129))).toBe(false);
    expect(isOf(lambdaShapes.TagValue, '')).toBe(true);
  });
});

it('a number out of the bounds of its shape is refused in the words of Lambda', () => {
  const retries = (value: number): number | undefined =>
    numberIn({ Retries: value }, 'Retries', lambdaShapes.MaximumRetryAttempts);
  expect([retries(0), retries(2)]).toEqual([0, 2]);
  expect(() => retries(3)).toThrow(
    "1 validation error detected: Value '3' at 'Retries' failed to satisfy constraint: Member must have value less than or equal to 2",
  );
  expect(() => retries(-1)).toThrow('Member must have value greater than or equal to 0');
});
