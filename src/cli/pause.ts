import { type Clock, systemClock } from '../common/clock.ts';
import { sleep } from '../common/deadline.ts';

const POLL_MS = 100;

/** Keeps the process alive while a timer runs, as no other thing does during the wait of a command. */
export const waitingClock: Clock = {
  ...systemClock,
  setTimer(callback, delayMs) {
    const timer = setTimeout(callback, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};

/** Waits between two looks. */
export function pause(signal: AbortSignal | undefined, milliseconds = POLL_MS): Promise<void> {
  return sleep(waitingClock, milliseconds, signal);
}
