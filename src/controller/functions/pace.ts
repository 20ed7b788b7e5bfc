import type { Clock } from '../../common/clock.ts';

/**
 * Workers of one function that are made in a second, and at once after a rest; as many may leave. The API server of a small
 * cluster gets a thousand in ten parts, so that other functions have their turn between them.
 */
const PER_SECOND = 100;

/** Bounds how many of something each key has in a second. */
export class Pace {
  readonly #clock: Pick<Clock, 'monotonic'>;
  /** By key, how many may be taken at once, and when that was so, in monotonic milliseconds. */
  readonly #left = new Map<string, { readonly count: number; readonly at: number }>();

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock;
  }

  forget(key: string): void {
    this.#left.delete(key);
  }

  /** The first of these items, as many as may be taken now. */
  take<T>(key: string, items: readonly T[]): readonly T[] {
    const now = this.#clock.monotonic();
    const { at, count } = this.#left.get(key) ?? { at: now, count: PER_SECOND };
    const left = Math.min(PER_SECOND, count + ((now - at) / 1_000) * PER_SECOND);
    const taken = items.slice(0, Math.floor(left));
    this.#left.set(key, { count: left - taken.length, at: now });
    return taken;
  }
}
