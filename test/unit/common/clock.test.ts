import { describe, expect, it, onTestFinished } from 'vitest';
import { systemClock, WakeupTimer } from '../../../src/common/clock.ts';
import { manualClock } from '../../support/manual-clock.ts';

it('an exception in a timer is told as a warning, and ends nobody', async () => {
  const told = Promise.withResolvers<Error>();
  const onWarning = (warning: Error): void => told.resolve(warning);
  process.once('warning', onWarning);
  onTestFinished(() => void process.off('warning', onWarning));
  systemClock.setTimer(() => {
    throw new Error('too many open files');
  }, 1);
  const awake = setTimeout(() => told.reject(new Error('nothing was told')), 4_000);
  onTestFinished(() => clearTimeout(awake));
  expect((await told.promise).message).toBe('too many open files');
});

describe('a timer for the earliest of several times', () => {
  it('rings at that time, and once', async () => {
    const clock = manualClock();
    const rung: number[] = [];
    const start = clock.monotonic();
    const timer = new WakeupTimer(clock, () => rung.push(clock.monotonic() - start));
    timer.wakeAt(start + 300);
    timer.wakeAt(start + 100);
    timer.wakeAt(start + 200);
    timer.wakeAt(Number.POSITIVE_INFINITY);
    expect(clock.pending()).toBe(1);
    await clock.advance(1_000);
    expect(rung).toEqual([100]);
  });

  it('does not ring after it was cancelled, and may be set again', async () => {
    const clock = manualClock();
    let rings = 0;
    const timer = new WakeupTimer(clock, () => {
      rings += 1;
    });
    timer.wakeAt(clock.monotonic() + 100);
    timer.cancel();
    await clock.advance(200);
    expect(rings).toBe(0);
    timer.wakeAt(clock.monotonic());
    await clock.advance(1);
    expect(rings).toBe(1);
  });
});
