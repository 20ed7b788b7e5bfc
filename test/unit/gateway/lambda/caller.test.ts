import { expect, it } from 'vitest';
import { Caller } from '../../../../src/gateway/lambda/caller.ts';

it('tells the one who listens last, once, when it hangs up', () => {
  const caller = new Caller('192.0.2.1');
  const told: string[] = [];
  caller.onGone = () => told.push('first');
  caller.onGone = () => told.push('second');
  caller.hangUp();
  caller.hangUp();
  expect(told).toEqual(['second']);
  expect(caller.gone).toBe(true);
});

it('has a signal for those that know nothing else, before and after', () => {
  const caller = new Caller();
  const { signal } = caller;
  expect(signal.aborted).toBe(false);
  expect(caller.signal).toBe(signal);
  caller.hangUp();
  expect(signal.aborted).toBe(true);
  const gone = new Caller();
  gone.hangUp();
  expect(gone.signal.aborted).toBe(true);
});
