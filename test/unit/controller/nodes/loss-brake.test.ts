import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LossBrake, lossRates, type ZoneCount } from '../../../../src/controller/nodes/loss-brake.ts';

const zones = (counts: Readonly<Record<string, readonly [heard: number, silent: number]>>) =>
  new Map<string, ZoneCount>(Object.entries(counts).map(([zone, [heard, silent]]) => [zone, { heard, silent }]));
const rates = (...parameters: Parameters<typeof zones>) => Object.fromEntries(lossRates(zones(...parameters)));

describe('the rate at which nodes are lost', () => {
  it('is one in ten seconds, as far as the zone is mostly heard', () => {
    expect(rates({ a: [9, 1], b: [10, 0] })).toEqual({ a: 0.1, b: 0.1 });
    expect(rates({ a: [46, 54] })).toEqual({ a: 0.1 });
  });

  it('is one in 100 seconds in a zone of more than 50 nodes of which 55 % are silent', () => {
    expect(rates({ a: [45, 55] })).toEqual({ a: 0.01 });
    expect(rates({ a: [22, 29] })).toEqual({ a: 0.01 });
  });

  it('is none in a smaller zone of which 55 % are silent', () => {
    expect(rates({ a: [22, 28] })).toEqual({ a: 0 });
    expect(rates({ a: [2, 3] })).toEqual({ a: 0 });
  });

  it('does not fall with two silent nodes, whatever their share', () => {
    expect(rates({ a: [1, 2] })).toEqual({ a: 0.1 });
  });

  it('is that of a single node for a zone that is silent as a whole beside one that is heard', () => {
    expect(rates({ a: [0, 30], b: [1, 0] })).toEqual({ a: 0.1, b: 0.1 });
  });

  it('is none while no zone is heard', () => {
    expect(rates({ a: [0, 1], b: [0, 99] })).toEqual({ a: 0, b: 0 });
  });
});

describe('the brake', () => {
  const silent = (...names: readonly string[]) =>
    names.map((name, index) => ({ name, zone: 'a', silentMs: 90_000 - index }));

  it('lets go of nothing in its first ten seconds, and of one node of each zone in ten seconds then', () => {
    const brake = new LossBrake();
    const all = zones({ a: [9, 3], b: [9, 1] });
    const waiting = [...silent('a1', 'a2', 'a3'), { name: 'b1', zone: 'b', silentMs: 50_000 }];
    expect([...brake.admit(5_000, all, waiting)]).toEqual([]);
    expect([...brake.admit(5_000, all, waiting)]).toEqual(['a1', 'b1']);
    expect([...brake.admit(5_000, all, silent('a2', 'a3'))]).toEqual([]);
    expect([...brake.admit(5_000, all, silent('a2', 'a3'))]).toEqual(['a2']);
  });

  it('saves up no more than one node', () => {
    const brake = new LossBrake();
    const all = zones({ a: [9, 3] });
    for (let reading = 0; reading < 100; reading++) {
      brake.admit(5_000, all, []);
    }
    expect([...brake.admit(5_000, all, silent('a1', 'a2', 'a3'))]).toEqual(['a1']);
  });

  it('holds what it has saved up while most of the zone is silent', () => {
    const brake = new LossBrake();
    brake.admit(10_000, zones({ a: [10, 0] }), []);
    expect([...brake.admit(5_000, zones({ a: [3, 7] }), silent('a1'))]).toEqual([]);
    expect(brake.isHeld('a')).toBe(true);
    expect([...brake.admit(5_000, zones({ a: [6, 4] }), silent('a1'))]).toEqual(['a1']);
    expect(brake.isHeld('a')).toBe(false);
  });

  it('never lets go of more than its rates add up to, whatever comes', () => {
    const readings = fc.array(
      fc.record({
        elapsedMs: fc.integer({ min: 0, max: 10_000 }),
        heard: fc.nat(80),
        waiting: fc.integer({ min: 0, max: 80 }),
      }),
      { maxLength: 50 },
    );
    fc.assert(
      fc.property(readings, (list) => {
        const brake = new LossBrake();
        let allowed = 0;
        let lost = 0;
        for (const { elapsedMs, heard, waiting } of list) {
          const all = zones({ a: [heard, waiting] });
          allowed += ((lossRates(all).get('a') ?? 0) * elapsedMs) / 1_000;
          lost += brake.admit(elapsedMs, all, silent(...Array.from({ length: waiting }, (_, one) => `n${one}`))).size;
          expect(lost).toBeLessThanOrEqual(allowed + 1e-6);
        }
      }),
    );
  });
});
