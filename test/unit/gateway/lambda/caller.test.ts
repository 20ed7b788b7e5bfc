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
