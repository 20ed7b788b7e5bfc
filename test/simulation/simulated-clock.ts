import type { Clock, Timer } from '../../src/common/clock.ts';

interface Entry {
  readonly at: number;
  readonly order: number;
  fire: (() => void) | undefined;
}

/** Milliseconds of the wall clock at which every run begins. */
const START = Date.parse('2026-11-01T00:00:00Z');

/** Lets everything run that can run without a timer. File operations are in memory, so one turn is enough. */
export function settle(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** A clock that stands until it is moved. Timers fire in the order of their times, those of one time in the order set. */
export class SimulatedClock implements Clock {
  #wall = START;
  #monotonic = 1_000_000;
  #order = 0;
  readonly #heap: Entry[] = [];

  now(): number {
    return this.#wall;
  }

  monotonic(): number {
    return this.#monotonic;
  }

  /** Timers that are set. */
  get pending(): number {
    return this.#heap.filter(({ fire }) => fire !== undefined).length;
  }

  setTimer(callback: () => void, delayMs: number): Timer {
    this.#order += 1;
    // A timer of 0 ms fires with the next move of the clock.
    const entry: Entry = {
      at: this.#monotonic + Math.max(0.1, delayMs),
      order: this.#order,
      fire: callback,
    };
    this.#push(entry);
    return {
      cancel: () => {
        entry.fire = undefined;
      },
    };
  }

  /** Moves the wall clock alone. */
  step(ms: number): void {
    this.#wall += ms;
  }

  /**
   * Moves both clocks on and fires what is due, letting everything run after each timer.
   *
   * @param onTimer told after each timer
   */
  async advance(ms: number, onTimer: () => void): Promise<void> {
    const end = this.#monotonic + ms;
    for (;;) {
      const next = this.#next(end);
      if (next === undefined) {
        this.#move(end);
        return;
      }
      this.#move(next.at);
      next.fire?.();
      await settle();
      onTimer();
    }
  }

  #move(to: number): void {
    if (to > this.#monotonic) {
      this.#wall += to - this.#monotonic;
      this.#monotonic = to;
    }
  }

  /** Takes out the next timer that is due by `end`. */
  #next(end: number): Entry | undefined {
    for (;;) {
      const first = this.#heap[0];
      if (first === undefined || (first.fire !== undefined && first.at > end)) {
        return undefined;
      }
      this.#pop();
      if (first.fire !== undefined) {
        return first;
      }
    }
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(entry);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || !isBefore(entry, above)) {
        break;
      }
      heap[index] = above;
      index = parent;
    }
    heap[index] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) {
      return;
    }
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      const left = heap[child];
      if (left === undefined) {
        break;
      }
      const right = heap[child + 1];
      let smaller = left;
      if (right !== undefined && isBefore(right, left)) {
        child += 1;
        smaller = right;
      }
      if (!isBefore(smaller, last)) {
        break;
      }
      heap[index] = smaller;
      index = child;
    }
    heap[index] = last;
  }
}

function isBefore(one: Entry, other: Entry): boolean {
  return one.at < other.at || (one.at === other.at && one.order < other.order);
}
