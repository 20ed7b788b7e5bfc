import { expect, it } from 'vitest';
import { type Allowance, Allowances } from '../../../src/init/allowance.ts';
import { type ManualClock, manualClock } from '../../support/manual-clock.ts';

const alone = (clock: ManualClock): Allowance => new Allowances(clock).open('team-a', () => undefined);

it('allows the words of a busy worker, and holds up one that only talks', async () => {
  const clock = manualClock();
  const busy = alone(clock);
  for (let call = 0; call < 10_000; call += 1) {
    busy.allowCall();
    for (let read = 0; read < 4; read += 1) {
      busy.spendRead(200, false);
    }
    for (let frame = 0; frame < 5; frame += 1) {
      busy.spendWords(100);
    }
    busy.spendPart(100);
    expect(busy.waitMs()).toBe(0);
  }
  const chatty = alone(clock);
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
  const allowance = alone(manualClock());
  for (let frame = 0; frame < 100_000; frame += 1) {
    allowance.spendRead(64 * 1024, true);
    allowance.spendPart(32 * 1024);
  }
  expect(allowance.waitMs()).toBe(0);
  for (let frame = 0; frame < 5_000; frame += 1) {
    allowance.spendPart(1);
  }
  expect(allowance.waitMs()).toBeGreaterThan(400);
});

/** Words of inits that say as much as they may, by namespace, in that many seconds. */
async function wordsIn(seconds: number, workers: Readonly<Record<string, number>>): Promise<Record<string, number>> {
  const clock = manualClock();
  const all = new Allowances(clock);
  const talkers = Object.entries(workers).flatMap(([namespace, count]) =>
    Array.from({ length: count }, () => ({ namespace, allowance: all.open(namespace, () => undefined), from: 0 })),
  );
  const words = Object.fromEntries(Object.keys(workers).map((namespace) => [namespace, 0]));
  for (let at = 0; at < seconds * 1_000; at += 50) {
    for (const talker of talkers) {
      while (talker.from <= at && talker.allowance.hasLeft) {
        talker.allowance.spendWords(0);
        words[talker.namespace] = (words[talker.namespace] ?? 0) + 1;
        talker.from = at + talker.allowance.waitMs();
      }
    }
    await clock.advance(50);
    for (const { allowance } of talkers) {
      allowance.waitMs();
    }
  }
  return words;
}

it('shares the words of a node equally by namespace, however many workers of each talk', async () => {
  const workers = { a: 110, b: 1, c: 20 };
  const [begun, later] = [await wordsIn(1, workers), await wordsIn(31, workers)];
  const perSecond = Object.keys(workers).map((each) => ((later[each] ?? 0) - (begun[each] ?? 0)) / 30);
  // A third of 2,500 words a second is for each, of which one worker takes 200 at most.
  expect(perSecond.map((words) => Math.round(words / 50) * 50)).toEqual([850, 200, 850]);
});

it('lets a worker that says little speak at once, beside those of its namespace that talk without end', async () => {
  const clock = manualClock();
  const all = new Allowances(clock);
  const [quiet, ...talkers] = Array.from({ length: 110 }, () => all.open('team-a', () => undefined));
  for (let second = 0; second < 60; second += 1) {
    for (const talker of talkers) {
      while (talker.waitMs() === 0) {
        talker.spendWords(100);
      }
    }
    quiet?.spendWords(100);
    expect(quiet?.waitMs()).toBe(0);
    expect(quiet?.overMs).toBe(0);
    await clock.advance(1_000);
  }
  expect(talkers.every(({ overMs }) => overMs >= 59_000)).toBe(true);
});

it('lets the workers of a namespace cause little more at once than a few of them may', () => {
  const all = new Allowances(manualClock());
  const atOnce = (count: number): number => {
    let words = 0;
    for (const talker of Array.from({ length: count }, () => all.open(`team-${count}`, () => undefined))) {
      for (; talker.hasLeft; words += 1) {
        talker.spendWords(0);
      }
    }
    return words;
  };
  const few = atOnce(7);
  expect(atOnce(110)).toBeLessThan(5 * few);
});

it('counts no talk above its share as such while calls come', async () => {
  const clock = manualClock();
  const allowance = alone(clock);
  allowance.spendWords(2 ** 22);
  allowance.waitMs();
  await clock.advance(5_000);
  expect(allowance.overMs).toBe(5_000);
  allowance.allowCall();
  expect(allowance.overMs).toBe(0);
});
