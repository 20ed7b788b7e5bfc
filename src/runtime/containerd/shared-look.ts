import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';

/**
 * One look at something large for all callers. No caller gets a look that began before its call, and two looks begin a
 * minimum time apart.
 */
export class SharedLook<T> {
  readonly #look: () => Promise<T>;
  readonly #clock: Clock;
  readonly #apartMs: number;
  #next: Promise<T> | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #begunAt = Number.NEGATIVE_INFINITY;

  /** @param apartMs milliseconds between the beginnings of two looks, at least */
  constructor(look: () => Promise<T>, clock: Clock, apartMs: number) {
    this.#look = look;
    this.#clock = clock;
    this.#apartMs = apartMs;
  }

  /** The result of the next look. Errors are those of the look. */
  async take(): Promise<T> {
    this.#next ??= this.#begin();
    return await this.#next;
  }

  async #begin(): Promise<T> {
    await this.#last.catch(() => undefined);
    const waitMs = this.#begunAt + this.#apartMs - this.#clock.monotonic();
    if (waitMs > 0) {
      await sleep(this.#clock, waitMs);
    }
    this.#next = undefined;
    this.#begunAt = this.#clock.monotonic();
    const looking = this.#look();
    this.#last = looking;
    return await looking;
  }
}
