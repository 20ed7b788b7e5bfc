import { expect, it } from 'vitest';
import { lookUntil } from '../../../src/cli/wait.ts';
import { manualClock } from '../../support/manual-clock.ts';

const { signal } = new AbortController();

/** Looks that find 1, 2, 3 and so on, and the list of them. */
function counting() {
  const found: number[] = [];
  return {
    found,
    look: () => {
      found.push(found.length + 1);
      return Promise.resolve(found.length);
    },
  };
}

it('looks until the result is the awaited one', async () => {
  const { found, look } = counting();
  expect(await lookUntil(look, (count) => count === 3, { everyMs: 1, signal })).toBe(3);
  expect(found).toEqual([1, 2, 3]);
});

it('returns the last result once the time is over', async () => {
  const clock = manualClock();
  const { found, look } = counting();
  const waiting = lookUntil(look, () => false, { clock, everyMs: 100, withinMs: 150, signal });
  await clock.advance(100);
  await clock.advance(100);
  expect(await waiting).toBe(3);
  expect(found).toEqual([1, 2, 3]);
});

it('ends with the signal, and with the error of a look', async () => {
  const stop = new AbortController();
  const waiting = lookUntil(counting().look, () => false, { signal: stop.signal });
  stop.abort(new Error('stopped'));
  await expect(waiting).rejects.toThrow();
  await expect(
    lookUntil(
      () => Promise.reject(new Error('gone')),
      () => true,
      { signal },
    ),
  ).rejects.toThrow('gone');
});
