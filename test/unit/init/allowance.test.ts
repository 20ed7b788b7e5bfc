import { expect, it } from 'vitest';
import { Allowance } from '../../../src/init/allowance.ts';
import { manualClock } from '../../support/manual-clock.ts';

it('allows the words of a busy worker, and holds up one that only talks', async () => {
  const clock = manualClock();
  const busy = new Allowance(clock);
  for (let call = 0; call < 10_000; call += 1) {
    busy.allowCall();
    for (let read = 0; read < 4; read += 1) {
      busy.spendRead(200);
    }
    for (let frame = 0; frame < 5; frame += 1) {
      busy.spendWords(100);
    }
    busy.spendPart(100);
    expect(busy.waitMs()).toBe(0);
  }
  const chatty = new Allowance(clock);
  let count = 0;
  while (chatty.waitMs() === 0) {
    chatty.spendWords(100);
    count += 1;
  }
  expect(count).toBeLessThan(500);
  await clock.advance(chatty.waitMs());
  expect(chatty.waitMs()).toBe(0);
  chatty.spendWords(256 * 1024);
  expect(chatty.waitMs()).toBeGreaterThan(400);
});

it('counts small parts of an answer, and not those that fill a frame', () => {
  const allowance = new Allowance(manualClock());
  for (let frame = 0; frame < 100_000; frame += 1) {
    allowance.spendRead(64 * 1024);
    allowance.spendPart(32 * 1024);
  }
  expect(allowance.waitMs()).toBe(0);
  for (let frame = 0; frame < 5_000; frame += 1) {
    allowance.spendPart(1);
  }
  expect(allowance.waitMs()).toBeGreaterThan(400);
});
