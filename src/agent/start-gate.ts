import { AbortedError } from '../common/deadline.ts';

/** Lets a bounded number of starts through at once; those that a call waits for go first. */
export class StartGate {
  readonly #limit: number;
  readonly #urgent = new Set<() => void>();
  readonly #patient = new Set<() => void>();
  #taken = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /**
   * Runs `start` when there is a place for it. `start` may give its place back before it is done, with what it is
   * given: a pull takes minutes and none of what the gate protects.
   *
   * @throws {AbortedError} when `signal` fires before it was its turn
   */
  async pass<T>(urgent: boolean, signal: AbortSignal, start: (leave: () => void) => Promise<T>): Promise<T> {
    if (this.#taken >= this.#limit) {
      await this.#turn(urgent ? this.#urgent : this.#patient, signal);
    } else {
      this.#taken += 1;
    }
    let left = false;
    const leave = (): void => {
      if (!left) {
        left = true;
        this.#handOn();
      }
    };
    try {
      return await start(leave);
    } finally {
      leave();
    }
  }

  #turn(waiting: Set<() => void>, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const enter = (): void => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
      const onAbort = (): void => {
        waiting.delete(enter);
        reject(new AbortedError('start', signal.reason));
      };
      waiting.add(enter);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  #handOn(): void {
    const waiting = this.#urgent.size > 0 ? this.#urgent : this.#patient;
    const next = waiting.values().next().value;
    if (next === undefined) {
      this.#taken -= 1;
    } else {
      waiting.delete(next);
      next();
    }
  }
}
