import { describe, expect, it } from 'vitest';
import { Silence } from '../../../../src/controller/nodes/silence.ts';

describe('the silence of a node', () => {
  it('counts from the first question on, by what was read, and ends with a renewal', () => {
    const silence = new Silence();
    const read = (at: number, stamp?: string) =>
      silence.observe(at, at + 100, new Map(stamp === undefined ? [] : [['a', stamp]]));
    read(0, '1');
    read(5_000, '1');
    expect(silence.of('a', 0)).toBe(0);
    read(10_000, '1');
    expect(silence.of('a', 0)).toBe(4_900);
    // A Lease that is gone is no renewal, and neither is the same one again.
    read(15_000);
    read(20_000, '1');
    expect(silence.of('a', 0)).toBe(14_700);
    read(25_000, '2');
    expect(silence.of('a', 0)).toBe(0);
  });

  it('is not known before a read that began after the moment in question', () => {
    const silence = new Silence();
    silence.of('a', 0);
    silence.observe(0, 10, new Map([['a', '1']]));
    silence.observe(5_000, 6_000, new Map([['a', '1']]));
    expect(silence.of('a', 5_500)).toBe(0);
    silence.observe(10_000, 10_010, new Map([['a', '1']]));
    expect(silence.of('a', 5_500)).toBe(8_990);
  });

  it('grows by ten seconds at most from one read to the next', () => {
    const silence = new Silence();
    silence.of('a', 0);
    silence.observe(0, 0, new Map([['a', '1']]));
    silence.observe(60_000, 60_000, new Map([['a', '1']]));
    expect(silence.of('a', 0)).toBe(10_000);
  });
});
