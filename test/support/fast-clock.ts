import { type Clock, systemClock } from '../../src/common/clock.ts';

/** A clock that goes faster than the one on the wall, and that a test can set forward. */
export interface FastClock extends Clock {
  /** Lets `ms` go by at once, but for timers: those that are set already go off when they would have. */
  skip(ms: number): void;
}

/**
 * Time that goes by `times` as fast, for parts whose waits a test cannot shorten one by one. The time of day stays as
 * it is, since others read it.
 */
export function fastClock(times: number): FastClock {
  let skippedMs = 0;
  return {
    now: () => systemClock.now(),
    monotonic: () => systemClock.monotonic() * times + skippedMs,
    setTimer: (run, afterMs) => systemClock.setTimer(run, afterMs / times),
    skip(ms) {
      skippedMs += ms;
    },
  };
}
