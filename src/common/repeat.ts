import type { Clock } from './clock.ts';
import { sleep } from './deadline.ts';

export interface Repetition {
  readonly clock: Clock;
  /** Milliseconds from the end of one run to the next. */
  readonly everyMs: number | (() => number);
  /** Milliseconds after a failed run; `everyMs` when absent. */
  readonly retryMs?: number;
  readonly onError: (error: unknown) => void;
}

/**
 * Runs `work` periodically, until `work` returns true.
 *
 * @throws {AbortedError} when `signal` fires
 */
export async function repeat(
  { clock, everyMs, onError, retryMs }: Repetition,
  signal: AbortSignal,
  work: () => Promise<unknown>,
): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    let delayMs = typeof everyMs === 'number' ? everyMs : everyMs();
    try {
      if ((await work()) === true) {
        return;
      }
    } catch (error) {
      signal.throwIfAborted();
      onError(error);
      delayMs = retryMs ?? delayMs;
    }
    await sleep(clock, delayMs, signal);
  }
}
