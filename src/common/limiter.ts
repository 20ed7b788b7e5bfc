import { abortable } from './deadline.ts';

/** Bounds how many tasks run at once; the others wait in order of arrival. One place makes tasks run one by one. */
export class Limiter {
  readonly #places: number;
  /** A set keeps the order of arrival, and takes a waiter out of the middle in constant time. */
  readonly #waiting = new Set<() => void>();
  #taken = 0;

  constructor(places: number) {
    this.#places = places;
  }

  /** Whether the next task has to wait. */
  get isFull(): boolean {
    return this.#taken >= this.#places;
  }

  /**
   * Runs `task` as soon as there is a place.
   *
   * @throws {AbortedError} when `signal` fires before that
   */
  async run<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const leave = await this.enter(signal);
    try {
      return await task();
    } finally {
      leave();
    }
  }

  /**
   * Waits for a place.
   *
   * @returns gives the place back; repeated calls do nothing
   * @throws {AbortedError} when `signal` fires before there is a place
   */
  enter(signal?: AbortSignal): Promise<() => void> {
    return abortable('waiting for a place', signal, (enter) => {
      const admit = (): void => enter(this.#leaver());
      if (this.isFull) {
        this.#waiting.add(admit);
      } else {
        this.#taken += 1;
        admit();
      }
      return () => this.#waiting.delete(admit);
    });
  }

  #leaver(): () => void {
    let left = false;
    return () => {
      if (left) {
        return;
      }
      left = true;
      const [next] = this.#waiting;
      if (next === undefined) {
        this.#taken -= 1;
      } else {
        this.#waiting.delete(next);
        next();
      }
    };
  }
}
