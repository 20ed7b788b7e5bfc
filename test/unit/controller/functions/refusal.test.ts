import { expect, it } from 'vitest';
import { Refusals } from '../../../../src/controller/functions/refusal.ts';
import { inTurns } from '../../../../src/controller/functions/write-outcome.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import { manualClock } from '../../../support/manual-clock.ts';

const kind = { key: 'default/hello', generation: 1, kind: 'set' } as const;

/** Attempts to write some items; all but the good ones are refused. */
function lab(good: (item: number) => boolean) {
  const clock = manualClock();
  const refusals = new Refusals(clock);
  const written: number[] = [];
  const tried: number[] = [];
  const look = (items: readonly number[]) =>
    refusals.attempt(kind, items, (some) =>
      inTurns(some, async (item) => {
        tried.push(item);
        if (!good(item)) {
          throw new ApiError('not so', { code: 'Forbidden', retryable: false, status: 403 });
        }
        written.push(item);
        return undefined;
      }),
    );
  return { clock, look, tried, written };
}

it('one write that is refused for ever holds up none of the others', async () => {
  const all = Array.from({ length: 40 }, (_, item) => item);
  const { clock, look, written } = lab((item) => item !== 0);
  for (let round = 0; round < 4; round += 1) {
    const left = () => all.filter((item) => !written.includes(item));
    const outcomes = await look(left());
    if (outcomes.some(({ kind }) => kind === 'behind')) {
      await look(left());
    }
    await clock.advance(30_000);
  }
  expect(written.toSorted((one, other) => one - other)).toEqual(all.slice(1));
});

it('where all are refused, one is tried after each wait, and the waits grow to five minutes', async () => {
  const all = Array.from({ length: 40 }, (_, item) => item);
  const { clock, look, tried } = lab(() => false);
  await look(all);
  tried.length = 0;
  for (let minute = 0; minute < 60; minute += 1) {
    await clock.advance(60_000);
    await look(all);
  }
  expect(tried.length).toBeGreaterThanOrEqual(12);
  expect(tried.length).toBeLessThanOrEqual(15);
  expect(new Set(tried).size).toBe(tried.length);
});
