import { getHeapStatistics } from 'node:v8';
import type { Clock, Timer } from '../../common/clock.ts';

/**
 * Requests under way below which neither a late event loop nor a full heap is a reason to refuse: with so few requests
 * the cause is another, and refusing would not help. The gateway also recovers by these requests, since the heap is
 * collected only while there is work.
 */
const LEAST_LOAD = 64;
/** Milliseconds between two measurements. */
const PERIOD_MS = 200;

export interface Load {
  /** Requests that have arrived and whose answer has not gone out. */
  readonly requests: number;
  /** Bytes of bodies and answers of these. */
  readonly bytes: number;
}

export interface Pressure {
  /** Milliseconds by which the event loop is late. */
  readonly loopDelayMs: number;
  /** Part of the heap's limit that is in use, from 0 to 1. */
  readonly heapUse: number;
}

export interface LoadLimits {
  readonly maxRequests: number;
  readonly maxBytes: number;
  readonly maxLoopDelayMs: number;
  /** From 0 to 1. */
  readonly maxHeapUse: number;
}

export type Overload = 'Requests' | 'Bytes' | 'LoopDelay' | 'Heap';

/** Why one more request is too much; undefined when there is room. */
export function overloadOf(load: Load, pressure: Pressure, limits: LoadLimits): Overload | undefined {
  if (load.requests >= limits.maxRequests) {
    return 'Requests';
  }
  if (load.bytes >= limits.maxBytes) {
    return 'Bytes';
  }
  if (load.requests < LEAST_LOAD) {
    return undefined;
  }
  if (pressure.loopDelayMs > limits.maxLoopDelayMs) {
    return 'LoopDelay';
  }
  return pressure.heapUse > limits.maxHeapUse ? 'Heap' : undefined;
}

/** Measures the process a few times a second, so that reading the measurements costs nothing. */
export class ProcessPressure implements Pressure {
  readonly #clock: Clock;
  readonly #heapUse: () => number;
  #timer: Timer | undefined;
  #dueAt = 0;
  #lateness = 0;
  loopDelayMs = 0;
  heapUse = 0;

  /** @param heapUse part of the heap's limit that is in use; by default that of this process */
  constructor(clock: Clock, heapUse: () => number = ownHeapUse) {
    this.#clock = clock;
    this.#heapUse = heapUse;
  }

  start(): void {
    this.#dueAt = this.#clock.monotonic() + PERIOD_MS;
    this.#timer = this.#clock.setTimer(() => this.#measure(), PERIOD_MS);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #measure(): void {
    const lateness = Math.max(0, this.#clock.monotonic() - this.#dueAt);
    // One long turn, such as a garbage collection, is no load: the loop has to be late twice.
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
