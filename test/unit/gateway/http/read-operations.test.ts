import { describe, expect, it } from 'vitest';
import { pageOf } from '../../../../src/gateway/http/read-operations.ts';

const names = Array.from({ length: 120 }, (_, index) => `f-${String(index).padStart(3, '0')}`);

describe('pageOf', () => {
  it('gives at most 50 names, whatever is asked for', () => {
    expect(pageOf(names, undefined, undefined).names).toEqual(names.slice(0, 50));
    expect(pageOf(names, undefined, '10000').names).toEqual(names.slice(0, 50));
    expect(pageOf(names, undefined, '3').names).toEqual(names.slice(0, 3));
  });

  it('comes to the end by its markers, and tells every name once', () => {
    const seen: string[] = [];
    let marker: string | undefined;
    do {
      const page = pageOf(names, marker, '40');
      seen.push(...page.names);
      marker = page.nextMarker;
    } while (marker !== undefined);
    expect(seen).toEqual(names);
  });

  it('has no marker when the last page is just full', () => {
    expect(pageOf(names.slice(0, 2), undefined, '2')).toEqual({
      names: names.slice(0, 2),
      nextMarker: undefined,
    });
    expect(pageOf([], undefined, undefined)).toEqual({ names: [], nextMarker: undefined });
  });

  it('goes on where it was when the name of the marker has gone since', () => {
    const { nextMarker } = pageOf(names, undefined, '2');
    const left = names.filter((name) => name !== 'f-001');
    expect(pageOf(left, nextMarker, '1').names).toEqual(['f-002']);
  });

  it.each(['0', '-1', '1.5', 'all', '10001', '99999999999'])('refuses %s items', (maxItems) => {
    expect(() => pageOf(names, undefined, maxItems)).toThrow(
      expect.objectContaining({ code: 'InvalidParameterValueException' }),
    );
  });

  it.each(['a b', 'AAAA', Buffer.from('a b').toString('base64url')])('refuses the marker %j', (marker) => {
    expect(() => pageOf(names, marker, undefined)).toThrow(
      expect.objectContaining({ code: 'InvalidParameterValueException' }),
    );
  });
});
