import { systemClock } from '../common/clock.ts';
import { sleep } from '../common/deadline.ts';

const POLL_MS = 100;

/** Waits between two looks and keeps the process alive. */
export async function pause(signal: AbortSignal | undefined, milliseconds = POLL_MS): Promise<void> {
  const alive = setInterval(() => undefined, 1_000);
  try {
    await sleep(systemClock, milliseconds, signal);
  } finally {
    clearInterval(alive);
  }
}
