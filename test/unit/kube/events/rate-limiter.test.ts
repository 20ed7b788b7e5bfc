import { expect, test } from 'vitest';
import { RateLimiter, SpamFilter } from '../../../../src/kube/events/rate-limiter.ts';
import { manualClock, settle } from '../../../support/manual-clock.ts';

test('writes of a burst go at once, those after it are spaced', async () => {
  const clock = manualClock();
  const pace = new RateLimiter({ burst: 2, everyMs: 50, clock });
  const written: number[] = [];
  const writing = (async () => {
    for (let number = 0; number < 4; number++) {
      await pace.turn();
      written.push(clock.monotonic());
    }
  })();
  await settle();
  expect(written).toHaveLength(2);
  await clock.advance(49);
  expect(written).toHaveLength(2);
  await clock.advance(51);
  await writing;
  const [first = 0] = written;
  expect(written.map((at) => at - first)).toEqual([0, 0, 50, 100]);
});

test('a pause gives a new burst, and no more than one', async () => {
  const clock = manualClock();
  const pace = new RateLimiter({ burst: 2, everyMs: 50, clock });
  await pace.turn();
  await pace.turn();
  await clock.advance(60_000);
  await pace.turn();
  await pace.turn();
  let isThird = false;
  const third = pace.turn().then(() => {
    isThird = true;
  });
  await settle();
  expect(isThird).toBe(false);
  pace.hurry();
  await third;
  expect(clock.pending()).toBe(0);
});

test('each object has a burst of its own, and then one event at a time', async () => {
  const clock = manualClock();
  const ration = new SpamFilter({ burst: 2, everyMs: 1000, clock });
  const spent = (subject: string) => ration.spend(subject);
  expect([spent('a'), spent('a'), spent('a'), spent('b')]).toEqual([true, true, false, true]);
  await clock.advance(1000);
  ration.forget();
  expect([spent('a'), spent('a')]).toEqual([true, false]);
});
