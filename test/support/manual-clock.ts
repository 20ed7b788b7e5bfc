import type { Clock, Timer } from '../../src/common/clock.ts';

/** A clock that stands until it is moved. */
export interface ManualClock extends Clock {
  /** Moves both clocks on and fires what is due, in order, letting promises settle in between. */
  advance(ms: number): Promise<void>;
  /** Moves the wall clock alone. */
  step(ms: number): void;
  /** From now on time goes by, this many milliseconds with each look at the clock, and timers fire this much early. */
  flow(perLookMs: number, earlyMs: number): void;
  /** Timers that are set. */
  pending(): number;
}

/** Lets everything that can run now run. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) {
    const done = Promise.withResolvers<void>();
    setImmediate(done.resolve);
    await done.promise;
  }
}

/** @param start wall-clock milliseconds; the monotonic clock starts at 1,000,000 */
export function manualClock(start = Date.parse('2026-11-01T00:00:00Z')): ManualClock {
  let wall = start;
  let monotonic = 1_000_000;
  let perLook = 0;
  let early = 0;
  const timers = new Set<{ readonly at: number; readonly fire: () => void }>();
  return {
    now: () => wall,
    monotonic: () => {
      monotonic += perLook;
      return monotonic;
    },
    setTimer(callback, delayMs): Timer {
      const timer = { at: monotonic + Math.max(Math.min(delayMs, 0.1), delayMs - early), fire: callback };
      timers.add(timer);
      return { cancel: () => timers.delete(timer) };
    },
    async advance(ms) {
      const end = monotonic + ms;
      await settle();
      for (;;) {
        const next = [...timers].filter(({ at }) => at <= end).toSorted((a, b) => a.at - b.at)[0];
        const to = next?.at ?? end;
        wall += Math.max(0, to - monotonic);
        monotonic = Math.max(monotonic, to);
        if (next === undefined) {
          return;
        }
        timers.delete(next);
        next.fire();
        await settle();
      }
    },
    step(ms) {
      wall += ms;
    },
    flow(perLookMs, earlyMs) {
      perLook = perLookMs;
      early = earlyMs;
    },
    pending: () => timers.size,
  };
}
