import { expect, it } from 'vitest';
import { SharedLook } from '../../../../src/runtime/containerd/shared-look.ts';
import { manualClock, settle } from '../../../support/manual-clock.ts';

it('looks once for all that ask meanwhile, never before the question, and seldom', async () => {
  const clock = manualClock();
  const begun: number[] = [];
  const look = new SharedLook(
    async () => {
      begun.push(clock.monotonic());
      await new Promise<void>((resolve) => {
        clock.setTimer(() => resolve(), 100);
      });
      return begun.length;
    },
    clock,
    1_000,
  );
  const start = clock.monotonic();
  const first = [look.take(), look.take()];
  await settle();
  // Under way already: what it finds may be older than what is asked here.
  const second = [look.take(), look.take(), look.take()];
  await clock.advance(5_000);
  expect(await Promise.all(first)).toEqual([1, 1]);
  expect(await Promise.all(second)).toEqual([2, 2, 2]);
  expect(begun.map((at) => at - start)).toEqual([0, 1_000]);
});

it('looks again after one that failed', async () => {
  let fails = true;
  const look = new SharedLook(
    () => (fails ? Promise.reject(new Error('no')) : Promise.resolve('yes')),
    manualClock(),
    0,
  );
  await expect(look.take()).rejects.toThrow('no');
  fails = false;
  expect(await look.take()).toBe('yes');
});
