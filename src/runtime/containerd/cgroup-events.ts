import { setImmediate } from 'node:timers/promises';
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import type { Limit, LimitHits } from '../contract/limits.ts';

export interface CgroupEventsOptions {
  /** Counters of the kernel; undefined without such a worker. Synchronous: a few microseconds. */
  readonly read: (containerId: string) => LimitHits | undefined;
  /** Called for each limit that was reached since the last look, with the count. Must not throw. */
  readonly onHit: (containerId: string, limit: Limit, count: number) => void;
  readonly clock: Clock;
}

/** Milliseconds between two looks at the counters: version 1 of cgroups reports no refused process. */
const LOOK_EVERY_MS = 10_000;
/** Milliseconds from the kernel's report of a want of memory to its count. */
const COUNTED_AFTER_MS = 300;
/** Workers that are read without a pause, at about 30 microseconds each. */
const AT_ONCE = 50;
const LIMITS: readonly Limit[] = ['processes', 'memory'];

/** The workers that reached their limits and survived. */
export class CgroupEvents {
  readonly #options: CgroupEventsOptions;
  readonly #hits = new Map<string, LimitHits>();
  readonly #starved = new Set<string>();

  constructor(options: CgroupEventsOptions) {
    this.#options = options;
  }

  /** Begins to watch a worker. Earlier hits count as known. */
  watch(containerId: string): void {
    if (!this.#hits.has(containerId)) {
      const hits = this.#options.read(containerId);
      if (hits !== undefined) {
        this.#hits.set(containerId, hits);
      }
    }
  }

  /** Ends the watch of a worker. A want of memory stays known, for the reason of the worker's end. */
  forget(containerId: string): void {
    this.#hits.delete(containerId);
  }

  /** Forgets everything of a worker whose container is replaced, or gone for good. */
  reset(containerId: string): void {
    this.#hits.delete(containerId);
    this.#starved.delete(containerId);
  }

  /**
   * Whether the kernel reported a want of memory of a worker. systemd removes the cgroup of a worker that has ended,
   * and with it the kernel's count.
   */
  isStarved(containerId: string): boolean {
    return this.#starved.has(containerId);
  }

  /** Limits that a worker reached, as of the last look; undefined for none. */
  of(containerId: string): LimitHits | undefined {
    const hits = this.#hits.get(containerId);
    return hits !== undefined && LIMITS.some((limit) => hits[limit] > 0) ? hits : undefined;
  }

  /** Reads one worker and reports new hits. */
  look(containerId: string): void {
    const before = this.#hits.get(containerId);
    if (before === undefined) {
      return;
    }
    const hits = this.#options.read(containerId);
    if (hits === undefined) {
      this.#hits.delete(containerId);
      return;
    }
    this.#hits.set(containerId, hits);
    for (const limit of LIMITS) {
      if (hits[limit] > before[limit]) {
        this.#options.onHit(containerId, limit, hits[limit] - before[limit]);
      }
    }
  }

  /** Reads now and in a moment: the kernel reports a want of memory before it counts the killed processes. */
  hint(containerId: string): void {
    this.#starved.add(containerId);
    this.look(containerId);
    this.#options.clock.setTimer(() => this.look(containerId), COUNTED_AFTER_MS);
  }

  /** Reads all workers now and then until `signal` fires. */
  async run(signal: AbortSignal): Promise<void> {
    for (;;) {
      await sleep(this.#options.clock, LOOK_EVERY_MS, signal);
      let looked = 0;
      for (const containerId of [...this.#hits.keys()]) {
        this.look(containerId);
        looked += 1;
        if (looked % AT_ONCE === 0) {
          await setImmediate();
        }
      }
    }
  }
}
