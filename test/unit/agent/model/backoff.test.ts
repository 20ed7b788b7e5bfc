import { describe, expect, it } from 'vitest';
import {
  crashBackoff,
  failed,
  noBackoff,
  remainingMs,
  restoredFrom,
  snapshotOf,
} from '../../../../src/agent/model/backoff.ts';
import { manualClock } from '../../../support/manual-clock.ts';

describe('the restart backoff', () => {
  it('is nothing, then 10 seconds doubling to 5 minutes', () => {
    let backoff = noBackoff;
    const delays = Array.from({ length: 8 }, () => {
      backoff = failed(backoff, crashBackoff, 0);
      return remainingMs(backoff, 0) / 1_000;
    });
    expect(delays).toEqual([0, 10, 20, 40, 80, 160, 300, 300]);
    expect(remainingMs(noBackoff, 0)).toBe(0);
  });

  it('goes on after a restart of the agent, whatever the wall clock did', async () => {
    const clock = manualClock();
    let before = noBackoff;
    for (let each = 0; each < 3; each += 1) {
      before = failed(before, crashBackoff, clock.monotonic());
    }
    const snapshot = snapshotOf(before, clock.monotonic(), clock.now());
    const restored = (): number =>
      remainingMs(restoredFrom(snapshot, crashBackoff, clock.monotonic(), clock.now()), clock.monotonic());
    await clock.advance(5_000);
    expect(restored()).toBe(15_000);
    clock.step(-86_400_000);
    expect(restored(), 'never longer than the delay itself').toBe(20_000);
    clock.step(2 * 86_400_000);
    expect(restored()).toBe(0);
  });
});
