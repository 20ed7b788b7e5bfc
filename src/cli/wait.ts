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

/** The bounds of a wait that looks again and again. */
export interface LookOptions {
  /** Milliseconds from the beginning after which no further look is taken. Default: no bound. */
  readonly withinMs?: number;
  /** Milliseconds between two looks. Default 100. */
  readonly everyMs?: number;
  readonly clock?: Clock;
  readonly signal: AbortSignal | undefined;
}

/** Looks until `isDone` holds of the result, or the time is over. Returns the last result, which may be undone. */
export async function lookUntil<T>(
  look: () => Promise<T>,
  isDone: (found: T) => boolean,
  { clock = waitingClock, everyMs = POLL_MS, signal, withinMs = Number.POSITIVE_INFINITY }: LookOptions,
): Promise<T> {
  const end = clock.monotonic() + withinMs;
  for (;;) {
    const found = await look();
    if (isDone(found) || clock.monotonic() >= end) {
      return found;
    }
    await sleep(clock, everyMs, signal);
  }
}
