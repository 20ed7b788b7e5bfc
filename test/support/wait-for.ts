import { setTimeout as delay } from 'node:timers/promises';
import { patience } from './patience.ts';

export interface WaitOptions {
  /** Milliseconds until giving up, times {@link patience}. Default 30,000. */
  readonly timeoutMs?: number;
  /** Milliseconds between two looks. Default 100. */
  readonly everyMs?: number;
}

/**
 * Looks until `probe` returns something other than undefined or false, and returns that. A probe that throws counts as
 * not yet; the last error is told when the time is over.
 */
export async function waitFor<T>(
  what: string,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
  { timeoutMs = 30_000, everyMs = 100 }: WaitOptions = {},
): Promise<T> {
  const patientMs = timeoutMs * patience();
  const end = performance.now() + patientMs;
  let last: unknown;
  for (;;) {
    try {
      const value = await probe();
      if (value !== undefined && value !== false) {
        return value;
      }
    } catch (error) {
      last = error;
    }
    if (performance.now() > end) {
      throw new Error(`waited ${patientMs} ms in vain for ${what}`, { cause: last });
    }
    await delay(everyMs);
  }
}
