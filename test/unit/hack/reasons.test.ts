import { describe, expect, it } from 'vitest';
import { reasonDocument } from '../../../hack/reason-document.ts';
import { reasonSections } from '../../../hack/reason-table.ts';
import { ERROR_CODES } from '../../../src/common/error-codes.ts';
import { REASONS } from '../../../src/protocol/reasons.ts';

describe('the page of reasons', () => {
  const text = reasonDocument()[0]?.text ?? '';

  it('explains every code of an error and every reason of a call', () => {
    const words = [...Object.keys(ERROR_CODES), ...Object.values(REASONS).map(({ name }) => name)];
    expect(words.filter((word) => !text.includes(`| \`${word}\` |`))).toEqual([]);
  });

  it.each(reasonSections)('explains each reason of $title once', ({ rows }) => {
    const reasons = rows.map(([, reason]) => reason);
    expect(reasons).not.toEqual([]);
    expect(new Set(reasons).size).toBe(reasons.length);
    expect(rows.filter(([, , meaning]) => meaning === '')).toEqual([]);
  });
});

describe('words that name reasons', () => {
  it('are one CamelCase word each', () => {
    const reasons = reasonSections.flatMap(({ rows }) => rows.map(([, reason]) => reason));
    expect(reasons.filter((reason) => !/^([A-Z]+[a-z]+)+$/.test(reason))).toEqual([]);
  });
});
