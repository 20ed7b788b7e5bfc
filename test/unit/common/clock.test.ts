import { expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../../src/common/clock.ts';

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
