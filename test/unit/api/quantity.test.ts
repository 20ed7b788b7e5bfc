import { describe, expect, it } from 'vitest';
import { parseQuantity, quantityToMiB, quantityToMilli } from '../../../src/api/quantity.ts';

describe('parseQuantity', () => {
  it.each([
    ['128Mi', 134_217_728],
    ['1Gi', 1_073_741_824],
    ['128M', 128_000_000],
    ['500m', 0.5],
    ['2', 2],
    [2, 2],
    ['0.5', 0.5],
    ['.5', 0.5],
    ['1e3', 1000],
    ['1E3', 1000],
    ['1E', 1e18],
    ['-1', -1],
  ])('reads %s as %d', (text, value) => {
    expect(parseQuantity(text)).toBe(value);
  });

  it.each(['', 'Mi', '128 Mi', '128MiB', '1,5', 'abc', '0x10', '1e'])('does not take "%s" for one', (text) => {
    expect(parseQuantity(text)).toBeUndefined();
  });
});

describe('quantityToMiB', () => {
  it('rounds up, so that a limit is never smaller than what was asked for', () => {
    expect(quantityToMiB('128M', 0)).toBe(123);
    expect(quantityToMiB('1', 0)).toBe(1);
  });

  it('falls back where there is none', () => {
    expect(quantityToMiB(undefined, 128)).toBe(128);
    expect(quantityToMiB('much', 128)).toBe(128);
  });
});

describe('quantityToMilli', () => {
  it.each([
    ['500m', 500],
    ['0.1', 100],
    ['1.1', 1100],
    [2, 2000],
    ['1u', 1],
  ])('reads %s as %d thousandths', (text, value) => {
    expect(quantityToMilli(text)).toBe(value);
  });

  it('has no limit where there is none', () => {
    expect(quantityToMilli(undefined)).toBeUndefined();
  });
});
