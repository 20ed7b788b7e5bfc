import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerRuntime, OutputWindow } from '../../runtime/contract/runtime.ts';

export interface StalledOutputOptions {
  readonly runtime: Pick<ContainerRuntime, 'list' | 'isOutputLost'>;
  readonly fleet: {
    /** See `NodeFleet.outputLost`. */
    outputLost(containerId: string, pid: number): boolean;
  };
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called for each container that is replaced. */
  readonly onLost?: () => void;
}

/** Milliseconds before the first look of an agent in which the disk may have been full already. */
const firstLookMs = 60 * 60_000;
const listMs = 60_000;
const retryMs = 5_000;

/**
 * Replaces the workers that wrote while the disk was full, once there is room again: a shim whose write found no room
 * copies nothing more, and the worker stands still as soon as its pipe is full. Does nothing while no disk was full.
 */
export class StalledOutput {
  readonly #options: StalledOutputOptions;
  #isFull = false;
  /** Since when writes may have failed; undefined when all workers were looked at since. */
  #from: number | undefined;
  #isRunning = false;

  constructor(options: StalledOutputOptions) {
    this.#options = options;
  }

  /**
   * Notes whether the disk has room now.
   *
   * @param roomAt wall clock milliseconds at which it had room last: it may have filled up at once; undefined for never
   * @returns whether {@link StalledOutput.run} has something to do
   */
  told(hasRoom: boolean, roomAt: number | undefined): boolean {
    this.#isFull = !hasRoom;
    if (this.#isFull) {
      this.#from ??= roomAt ?? this.#options.clock.now() - firstLookMs;
    }
    return this.#from !== undefined && !this.#isFull && !this.#isRunning;
  }

  /** Looks at every worker, again where the disk was full meanwhile. Resolves when done, or when the disk is full. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    if (this.#isRunning) {
      return;
    }
    this.#isRunning = true;
    try {
      while (this.#from !== undefined && !this.#isFull) {
        const full = { from: this.#from, until: clock.now() };
        this.#from = undefined;
        try {
          await this.#replaceWriters(full, signal);
        } catch (error) {
          signal.throwIfAborted();
          this.#from = full.from;
          logger.warn({ reason: messageOf(error) }, 'cannot tell yet which workers wrote to a full disk');
          await sleep(clock, retryMs, signal);
        }
      }
    } finally {
      this.#isRunning = false;
    }
  }

  async #replaceWriters(full: OutputWindow, signal: AbortSignal): Promise<void> {
    const { fleet, logger, onLost, runtime } = this.#options;
    const workers = await runtime.list({ signal, deadlineMs: listMs });
    let lost = 0;
    // Running workers first: calls go to them.
    for (const kind of ['Running', 'Paused'] as const) {
      for (const { containerId, task } of workers) {
        if (this.#isFull) {
          // A replacement would lose its output as well.
          this.#from = Math.min(full.from, this.#from ?? full.from);
          return;
        }
        if (
          task.kind === kind &&
          (await runtime.isOutputLost(containerId, full)) &&
          fleet.outputLost(containerId, task.pid)
        ) {
          lost += 1;
          onLost?.();
          logger.warn(
            { container: containerId },
            'a worker wrote while the disk was full and is replaced when no call is in it',
          );
        }
      }
    }
    logger.info({ workers: workers.length, lost }, 'replaced the workers that wrote to a full disk');
  }
}
