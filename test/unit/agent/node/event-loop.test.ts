import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { watchEventLoop } from '../../../../src/agent/node/event-loop.ts';

it('the delay of the event loop is how late it was since it was asked for last', async () => {
  const ask = watchEventLoop();
  expect(ask()).toEqual({ mean: 0, p50: 0, p99: 0, max: 0 });
  // The first sample of a period only begins it.
  await delay(250);
  const until = performance.now() + 400;
  while (performance.now() < until) {
    // No other task runs meanwhile.
  }
  // The time is what is tested.
  await delay(150);
  const busy = ask();
  // Of a stall of 400 ms at least what lies behind the next sample, due within 100 ms.
  expect(busy.max).toBeGreaterThanOrEqual(0.25);
  expect(busy.p99).toBeLessThanOrEqual(busy.max);
  expect(busy.p50).toBeGreaterThanOrEqual(0);
});
