import { describe, expect, it } from 'vitest';
import { TokenBucket } from '../../../../src/common/bounds/token-bucket.ts';

describe('a token bucket', () => {
  it('gives a burst, then a token for each interval', () => {
    const bucket = new TokenBucket({ burst: 2, everyMs: 50 }, 1_000);
    bucket.take(2);
    expect(bucket.waitMs(1_000)).toBe(50);
    expect(bucket.waitMs(1_030)).toBe(20);
    expect(bucket.waitMs(1_050)).toBe(0);
    expect(bucket.isFull(1_050)).toBe(false);
    expect(bucket.isFull(1_100)).toBe(true);
  });

  it('takes tokens in advance, and takes back no more than it holds', () => {
    const bucket = new TokenBucket({ burst: 1, everyMs: 10 }, 0);
    bucket.take(3);
    expect(bucket.waitMs(0)).toBe(30);
    bucket.take(-9);
    expect(bucket.level(0)).toBe(1);
  });

  it('has a token at the end of each wait at rates that do not divide', () => {
    for (const everyMs of [3, 7, 1_000 / 3, 0.1]) {
      const bucket = new TokenBucket({ burst: 1, everyMs }, 0);
      let now = 0;
      for (let count = 0; count < 1_000; count += 1) {
        now += bucket.waitMs(now);
        expect(bucket.waitMs(now)).toBe(0);
        bucket.take();
      }
      expect(now).toBeCloseTo(999 * everyMs, 0);
    }
  });

  it('fills at another rate from a moment on', () => {
    const bucket = new TokenBucket({ burst: 5, everyMs: 100 }, 0);
    bucket.take(5);
    bucket.fillEvery(10, 100);
    expect(bucket.level(120)).toBe(3);
  });
});
