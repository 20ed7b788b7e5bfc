import { setImmediate } from 'node:timers/promises';
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import type { Limit, LimitHits } from '../contract/limits.ts';

export interface CgroupEventsOptions {
  /** What the kernel has counted; undefined when there is no such worker. Synchronous: a few microseconds. */
  readonly read: (containerId: string) => LimitHits | undefined;
  /** Told of each limit that was reached since the last look, and how often. Must not throw. */
  readonly onHit: (containerId: string, limit: Limit, count: number) => void;
  readonly clock: Clock;
}

/**
 * Version 1 of cgroups tells nobody when it refuses a process, so the counters are looked at; and the kernel's word for
 * memory names the worker only.
 */
const LOOK_EVERY_MS = 10_000;
const COUNTED_AFTER_MS = 300;
/** Workers that are looked at without a pause, at about 30 microseconds each. */
const AT_ONCE = 50;
const LIMITS: readonly Limit[] = ['processes', 'memory'];

/** Knows which workers ran into their limits and lived on. */
export class CgroupEvents {
  readonly #options: CgroupEventsOptions;
  readonly #hits = new Map<string, LimitHits>();
  readonly #starved = new Set<string>();

  constructor(options: CgroupEventsOptions) {
    this.#options = options;
  }

  /** Looks after a worker from now on. What it ran into before counts as known. */
  watch(containerId: string): void {
    if (!this.#hits.has(containerId)) {
      const hits = this.#options.read(containerId);
      if (hits !== undefined) {
        this.#hits.set(containerId, hits);
      }
    }
  }

  /** Looks after a worker no more. That it was starved is kept: somebody asks why it ended. */
  forget(containerId: string): void {
    this.#hits.delete(containerId);
  }

  /** A worker is about to be made anew, or gone for good: nothing of the last one counts. */
  reset(containerId: string): void {
    this.#hits.delete(containerId);
    this.#starved.delete(containerId);
  }

  /**
   * Whether it was said that the worker ran out of memory. systemd removes the group of a worker that has ended, and with it
   * the kernel's count.
   */
  isStarved(containerId: string): boolean {
    return this.#starved.has(containerId);
  }

  /** What a worker ran into, as of the last look; undefined for nothing. */
  of(containerId: string): LimitHits | undefined {
    const hits = this.#hits.get(containerId);
    return hits !== undefined && LIMITS.some((limit) => hits[limit] > 0) ? hits : undefined;
  }

  /** Looks at one worker and tells what is new. */
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

  /** Looks now and in a moment: the kernel tells of a want of memory before it has counted whom it ended. */
  hint(containerId: string): void {
    this.#starved.add(containerId);
    this.look(containerId);
    this.#options.clock.setTimer(() => this.look(containerId), COUNTED_AFTER_MS);
  }

  /** Looks at everybody now and then until `signal` fires. */
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
