import { expect, it } from 'vitest';
import { repeat } from '../../../src/common/repeat.ts';
import { manualClock, settle } from '../../support/manual-clock.ts';

it('repeats work after its period, a failed run after its own, and ends once the work is done', async () => {
  const clock = manualClock();
  const failures: unknown[] = [];
  const answers = [false, new Error('away'), true];
  let runs = 0;
  const work = async (): Promise<boolean> => {
    const answer = answers[runs];
    runs += 1;
    if (answer instanceof Error) {
      throw answer;
    }
    return answer === true;
  };
  const onError = (error: unknown): void => void failures.push(error);
  const running = repeat({ clock, everyMs: 100, retryMs: 10, onError }, new AbortController().signal, work);
  await settle();
  expect(runs).toBe(1);
  await clock.advance(99);
  expect(runs).toBe(1);
  await clock.advance(1);
  expect(failures).toEqual([answers[1]]);
  await clock.advance(10);
  await running;
  expect(runs).toBe(3);
});

it('ends with its signal, also after a failed run', async () => {
  const stop = new AbortController();
  const onError = (): void => expect.unreachable('the run was ended');
  const running = repeat({ clock: manualClock(), everyMs: 1, onError }, stop.signal, async () => {
    stop.abort();
    throw new Error('ended');
  });
  await expect(running).rejects.toBe(stop.signal.reason);
});
