import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SimulatedClock } from '../../simulation/simulated-clock.ts';

describe('the clock of the simulation', () => {
  it('fires timers in the order of their times, and those of one time as they were set', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 40 }), async (delays) => {
        const clock = new SimulatedClock();
        const fired: number[] = [];
        for (const [index, delay] of delays.entries()) {
          clock.setTimer(() => fired.push(index), delay);
        }
        await clock.advance(100, () => undefined);
        const order = delays.map((_delay, index) => index);
        expect(fired).toEqual(order.toSorted((a, b) => (delays[a] ?? 0) - (delays[b] ?? 0) || a - b));
        expect(clock.pending).toBe(0);
      }),
      { numRuns: 50 },
    );
  });

  it('fires nothing that was cancelled or is not due, and lets promises run after each timer', async () => {
    const clock = new SimulatedClock();
    const begun = clock.monotonic();
    const seen: string[] = [];
    clock.setTimer(() => seen.push('cancelled'), 1).cancel();
    clock.setTimer(() => seen.push('late'), 20);
    clock.setTimer(() => {
      void Promise.resolve().then(() => seen.push('settled'));
    }, 5);
    await clock.advance(10, () => seen.push('timer'));
    expect(seen).toEqual(['settled', 'timer']);
    expect(clock.monotonic() - begun).toBe(10);
    const wall = clock.now();
    clock.step(-5_000);
    expect(clock.now()).toBe(wall - 5_000);
    expect(clock.monotonic() - begun).toBe(10);
  });
});
