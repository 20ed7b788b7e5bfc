import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addressGroup } from '../../../../src/common/net/address-connections.ts';
import { CallerRates } from '../../../../src/gateway/lambda/caller-rate.ts';

const now = 1_000_000;

describe('the rate of a caller', () => {
  it('lets a burst through, then one request for each token that comes in', () => {
    const rates = new CallerRates({ perSecond: 10, burst: 3 }, 100);
    expect([1, 2, 3].map(() => rates.take('a', now))).toEqual([0, 0, 0]);
    expect(rates.take('a', now)).toBe(100);
    expect(rates.take('a', now + 99)).toBeCloseTo(1);
    expect(rates.take('a', now + 100)).toBe(0);
    expect(rates.take('a', now + 100)).toBe(100);
  });

  it('is that of one caller only', () => {
    const rates = new CallerRates({ perSecond: 1, burst: 1 }, 100);
    expect(rates.take('a', now)).toBe(0);
    expect(rates.take('a', now)).toBeGreaterThan(0);
    expect(rates.take('b', now)).toBe(0);
  });

  it('does not go down with requests that are refused', () => {
    const rates = new CallerRates({ perSecond: 10, burst: 1 }, 100);
    rates.take('a', now);
    for (let attempt = 0; attempt < 50; attempt += 1) {
      rates.take('a', now + 50);
    }
    expect(rates.take('a', now + 100)).toBe(0);
  });

  it('is no limit when it is 0, and then nobody is remembered', () => {
    const rates = new CallerRates({ perSecond: 0, burst: 1 }, 100);
    expect(rates.enabled).toBe(false);
    expect([1, 2, 3].map(() => rates.take('a', now))).toEqual([0, 0, 0]);
    expect(rates.size).toBe(0);
  });

  it('holds in any stretch of time: at most the burst and what came in', () => {
    const limits = fc.record({
      perSecond: fc.integer({ min: 1, max: 1_000 }),
      burst: fc.integer({ min: 1, max: 50 }),
    });
    const gaps = fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 200 });
    fc.assert(
      fc.property(limits, gaps, (limit, waits) => {
        const rates = new CallerRates(limit, 100);
        const passed: number[] = [];
        let time = now;
        for (const wait of waits) {
          time += wait;
          if (rates.take('a', time) === 0) {
            passed.push(time);
          }
        }
        passed.forEach((from, first) => {
          passed.slice(first).forEach((to, further) => {
            expect(further + 1).toBeLessThanOrEqual(limit.burst + ((to - from) * limit.perSecond) / 1000 + 1e-6);
          });
        });
      }),
      { numRuns: 50 },
    );
  });

  it('lets through whoever waits for as long as was told, and not before', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1_000 }),
        fc.integer({ min: 1, max: 20 }),
        fc.array(fc.integer({ min: 0, max: 100 }), { maxLength: 60 }),
        (perSecond, burst, waits) => {
          const rates = new CallerRates({ perSecond, burst }, 100);
          let time = now;
          for (const wait of waits) {
            time += wait;
            rates.take('a', time);
          }
          const told = rates.take('a', time);
          if (told > 0) {
            expect(rates.take('a', time + told - 1e-3)).toBeGreaterThan(0);
            expect(rates.take('a', time + told + 1e-6)).toBe(0);
          }
        },
      ),
    );
  });
});

describe('the table of callers', () => {
  it('has a bounded size, whoever comes', () => {
    const rates = new CallerRates({ perSecond: 1, burst: 1 }, 100);
    for (let caller = 0; caller < 10_000; caller += 1) {
      expect(rates.take(`caller-${caller}`, now)).toBe(0);
      expect(rates.size).toBeLessThanOrEqual(100);
    }
  });

  it('keeps a caller who goes on while others come and go', () => {
    const rates = new CallerRates({ perSecond: 0.001, burst: 30 }, 100);
    let passed = 0;
    for (let caller = 0; caller < 1_000; caller += 1) {
      if (caller % 20 === 0 && rates.take('steady', now) === 0) {
        passed += 1;
      }
      rates.take(`caller-${caller}`, now);
    }
    expect(passed).toBe(30);
  });
});

describe('an address', () => {
  it.each([
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:aaaa:bbbb:cccc:dddd', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::9', '2001:db8:1:2::/64'],
    ['2001:db8::9', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['', ''],
  ])('%s counts as %s', (address, group) => {
    expect(addressGroup(address)).toBe(group);
  });
});
