import { expect, test } from 'vitest';
import { SpamFilter } from '../../../../src/kube/events/rate-limiter.ts';
import { manualClock } from '../../../support/manual-clock.ts';

test('each object has a burst of its own, and then one event at a time', async () => {
  const clock = manualClock();
  const ration = new SpamFilter({ burst: 2, everyMs: 1000, clock });
  const spent = (subject: string) => ration.spend(subject);
  expect([spent('a'), spent('a'), spent('a'), spent('b')]).toEqual([true, true, false, true]);
  await clock.advance(1000);
  ration.forget();
  expect([spent('a'), spent('a')]).toEqual([true, false]);
});
