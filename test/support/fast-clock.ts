import { type Clock, systemClock } from '../../src/common/clock.ts';

/**
 * Time that goes by `times` as fast, for parts whose waits a test cannot shorten one by one. The time of day stays as it
 * is, since others read it.
 */
export function fastClock(times: number): Clock {
  return {
    now: () => systemClock.now(),
    monotonic: () => systemClock.monotonic() * times,
    setTimer: (run, afterMs) => systemClock.setTimer(run, afterMs / times),
  };
}
