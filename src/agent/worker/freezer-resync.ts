import type { Clock, Timer } from '../../common/clock.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerRuntime } from '../../runtime/contract/runtime.ts';

/**
 * Milliseconds that a worker has been awake until the runtime's own tools are told. Longer than the 10 seconds after which
 * most are paused again: those cost nothing (`docs/adr/0008-thaw-below-containerd.md`).
 */
const settleAfterMs = 15_000;
/** Milliseconds until it is tried again while calls are in the worker, and after a call came in between. */
const retryMs = 1_000;
const longestRetryMs = 60_000;

export interface FreezerResyncOptions {
  readonly containerId: string;
  readonly runtime: Pick<ContainerRuntime, 'settle'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Whether the worker is known not to run: there is nothing to tell of it until it is thawed again. */
  readonly isAsleep: () => boolean;
  /** Whether the worker runs, and no call is in it or waits, and nothing is being done to it. */
  readonly isIdle: () => boolean;
  /** Whether the kernel says that the worker runs. */
  readonly runs: () => boolean;
  /** It begins, or is over: what was read of the container before that is out of date. */
  readonly turned: () => void;
  /** It is over, and the worker runs; `false` when that is not known. */
  readonly ended: (runs: boolean) => void;
}

/**
 * Lets the runtime know of a worker that was thawed below it, while no call is in the worker: it is frozen for the few
 * milliseconds of that. While {@link FreezerResync.active}, no call may be sent and nothing be done; whoever wants either
 * interrupts, and is called back by `ended` in the same turn of the event loop.
 */
export class FreezerResync {
  readonly #options: FreezerResyncOptions;
  #timer: Timer | undefined;
  #retryMs = retryMs;
  #abort: AbortController | undefined;
  #work: Promise<void> = Promise.resolve();

  constructor(options: FreezerResyncOptions) {
    this.#options = options;
  }

  get active(): boolean {
    return this.#abort !== undefined;
  }

  /** The worker has just been thawed. */
  thawed(): void {
    this.#retryMs = retryMs;
    this.#arm(settleAfterMs);
  }

  /** It was found thawed, since whenever. */
  found(): void {
    if (this.#timer === undefined && !this.active) {
      this.thawed();
    }
  }

  /** Ends it early. The worker is thawed when this returns. */
  interrupt(): void {
    this.#abort?.abort();
  }

  /** Ends it for good; resolves when nothing is under way any more. */
  async stop(): Promise<void> {
    this.#timer?.cancel();
    this.interrupt();
    await this.#work;
    this.#timer?.cancel();
  }

  #arm(delayMs: number): void {
    this.#timer?.cancel();
    this.#timer = this.#options.clock.setTimer(() => {
      this.#timer = undefined;
      if (this.#options.isIdle()) {
        this.#work = this.#settle();
      } else if (!this.#options.isAsleep()) {
        this.#arm(retryMs);
      }
    }, delayMs);
  }

  async #settle(): Promise<void> {
    const { containerId, runtime, logger, turned, ended } = this.#options;
    const abort = new AbortController();
    this.#abort = abort;
    turned();
    let settled = false;
    let runs = true;
    try {
      settled = await runtime.settle(containerId, { signal: abort.signal });
    } catch (error) {
      logger.warn({ err: error }, 'a worker could not be settled');
      runs = this.#options.runs();
    }
    if (!settled && runs) {
      this.#arm(this.#retryMs);
      this.#retryMs = Math.min(this.#retryMs * 2, longestRetryMs);
    }
    this.#abort = undefined;
    turned();
    ended(runs);
  }
}
