import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkedPayload } from '../../../../src/gateway/call/json-payload.ts';

describe('checkedPayload', () => {
  it('lets any JSON through as it is', () => {
    fc.assert(
      fc.property(fc.json({ stringUnit: 'binary' }), (text) => {
        const body = Buffer.from(text);
        expect(checkedPayload(body)).toBe(body);
      }),
      { numRuns: 30 },
    );
  });

  it.each(['null', '1', '"ü\u2028"', ' [1] \n'])('takes %j', (text) => {
    expect(checkedPayload(Buffer.from(text)).toString()).toBe(text);
  });

  it('makes an empty object of nothing', () => {
    expect(checkedPayload(undefined).toString()).toBe('{}');
    expect(checkedPayload(Buffer.alloc(0)).toString()).toBe('{}');
  });

  it.each(['{', "{'a':1}", '{"a":1}}', 'undefined', '\u00a01'])('refuses %j', (text) => {
    expect(() => checkedPayload(Buffer.from(text))).toThrow(
      expect.objectContaining({ code: 'InvalidRequestContentException' }),
    );
  });

  it('refuses what is not UTF-8', () => {
    expect(() => checkedPayload(Buffer.from([0x22, 0xff, 0x22]))).toThrow(/UTF-8/);
  });
});
