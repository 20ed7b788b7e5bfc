import type { Clock } from '../../common/clock.ts';

/** Milliseconds between two writes that change only a text; doubled up to the most. */
const FIRST_MS = 15_000;
const MOST_MS = 300_000;

/**
 * Paces writes that change only the text of a condition. The text changes with each node that comes and goes, for every
 * worker that waits for one. A new reason is written at once, a new text ever more seldom.
 */
export class Rewordings {
  readonly #clock: Clock;
  /** By uid, the monotonic milliseconds of the last one, and the pause until the next. */
  readonly #written = new Map<string, { readonly at: number; readonly pauseMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Milliseconds until the next one of a worker is due; one that is due counts as written. */
  pauseMs(uid: string): number {
    const now = this.#clock.monotonic();
    const last = this.#written.get(uid);
    const leftMs = last === undefined ? 0 : last.at + last.pauseMs - now;
    if (leftMs > 0) {
      return leftMs;
    }
    // After a quiet time the intervals start over.
    const isQuiet = last === undefined || now - last.at > 2 * last.pauseMs;
    this.#written.set(uid, { at: now, pauseMs: isQuiet ? FIRST_MS : Math.min(MOST_MS, 2 * last.pauseMs) });
    return 0;
  }

  forget(uid: string): void {
    this.#written.delete(uid);
  }
}
