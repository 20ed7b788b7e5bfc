import { describe, expect, it } from 'vitest';
import { crashBackoff, RestartBackoff } from '../../../../src/agent/model/backoff.ts';
import { manualClock } from '../../../support/manual-clock.ts';

describe('the restart backoff', () => {
  it('is nothing, then 10 seconds doubling to 5 minutes', () => {
    const backoff = new RestartBackoff({ clock: manualClock(), ...crashBackoff });
    const delays = Array.from({ length: 8 }, () => {
      backoff.fail();
      return backoff.remainingMs / 1_000;
    });
    expect(delays).toEqual([0, 10, 20, 40, 80, 160, 300, 300]);
    backoff.reset();
    expect(backoff.remainingMs).toBe(0);
  });

  it('goes on after a restart of the agent, whatever the wall clock did', async () => {
    const clock = manualClock();
    const before = new RestartBackoff({ clock, ...crashBackoff });
    for (let each = 0; each < 3; each += 1) {
      before.fail();
    }
    const snapshot = before.snapshot();
    const restored = (): number => {
      const after = new RestartBackoff({ clock, ...crashBackoff });
      after.restore(snapshot);
      return after.remainingMs;
    };
    await clock.advance(5_000);
    expect(restored()).toBe(15_000);
    clock.step(-86_400_000);
    expect(restored(), 'never longer than the delay itself').toBe(20_000);
    clock.step(2 * 86_400_000);
    expect(restored()).toBe(0);
  });
});
