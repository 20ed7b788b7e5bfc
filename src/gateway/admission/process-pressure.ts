import { getHeapStatistics } from 'node:v8';
import type { Clock, Timer } from '../../common/clock.ts';
import type { Pressure } from './load-shed.ts';

/** Milliseconds between two looks. */
const PERIOD_MS = 200;

/** Looks after the process a few times a second, so that reading how it does costs nothing. */
export class ProcessPressure implements Pressure {
  readonly #clock: Clock;
  readonly #heapUse: () => number;
  #timer: Timer | undefined;
  #dueAt = 0;
  #lateness = 0;
  loopDelayMs = 0;
  heapUse = 0;

  /** @param heapUse part of the heap's limit that is in use; that of this process by default */
  constructor(clock: Clock, heapUse: () => number = ownHeapUse) {
    this.#clock = clock;
    this.#heapUse = heapUse;
  }

  start(): void {
    this.#dueAt = this.#clock.monotonic() + PERIOD_MS;
    this.#timer = this.#clock.setTimer(() => this.#look(), PERIOD_MS);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #look(): void {
    const lateness = Math.max(0, this.#clock.monotonic() - this.#dueAt);
    // One long turn, such as a collection of garbage, is no load: the loop has to be late twice.
    this.loopDelayMs = Math.min(lateness, this.#lateness);
    this.#lateness = lateness;
    this.heapUse = this.#heapUse();
    this.start();
  }
}

function ownHeapUse(): number {
  const { heap_size_limit: limit, used_heap_size: used } = getHeapStatistics();
  return used / limit;
}
