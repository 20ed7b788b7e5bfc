import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerRuntime, WorkerInfo } from '../../runtime/contract/runtime.ts';

export interface StalledOutputOptions {
  readonly runtime: Pick<ContainerRuntime, 'list' | 'isOutputLost'>;
  readonly fleet: {
    /** See `NodeFleet.outputLost`. */
    outputLost(containerId: string, pid: number): boolean;
  };
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told of each container that is made anew for it. */
  readonly onLost?: () => void;
}

/**
 * Workers that are looked at together. One whose output is lost takes seconds until that is certain, so that no more than
 * three a second are made anew.
 */
const checksAtOnce = 8;
const listMs = 60_000;
const retryMs = 5_000;

interface Candidate {
  readonly containerId: string;
  readonly pid: number;
}

/**
 * Finds the workers that a full disk has cut off from their logs, once there is room again: each would stand still in
 * the middle of a call as soon as its pipe is full. As long as no disk was full, nothing is done.
 */
export class StalledOutput {
  readonly #options: StalledOutputOptions;
  #full = false;
  /** Whether the disk was full since the workers were looked at. */
  #due = false;
  #running = false;

  constructor(options: StalledOutputOptions) {
    this.#options = options;
  }

  /**
   * Whether the disk has room, as it is known now; may be told as often as one likes.
   *
   * @returns whether {@link StalledOutput.run} has something to do
   */
  told(hasRoom: boolean): boolean {
    this.#full = !hasRoom;
    this.#due ||= this.#full;
    return this.#due && !this.#full && !this.#running;
  }

  /** Looks at every worker, again where the disk was full meanwhile. Resolves when that is done, or the disk is full. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    if (this.#running) {
      return;
    }
    this.#running = true;
    try {
      while (this.#due && !this.#full) {
        this.#due = false;
        try {
          await this.#checkAll(signal);
        } catch (error) {
          signal.throwIfAborted();
          this.#due = true;
          logger.warn(
            { reason: messageOf(error) },
            'cannot check yet whether the output of workers is written',
          );
          await sleep(clock, retryMs, signal);
        }
      }
    } finally {
      this.#running = false;
    }
  }

  async #checkAll(signal: AbortSignal): Promise<void> {
    const { logger, runtime } = this.#options;
    const candidates = candidatesOf(await runtime.list({ signal, deadlineMs: listMs }));
    const left = candidates.values();
    const counts = { workers: candidates.length, lost: 0, unknown: 0 };
    const work = async (): Promise<void> => {
      for (const candidate of left) {
        // A line that finds no room is what cuts a worker off.
        if (this.#full) {
          return;
        }
        const lost = await this.#check(candidate, signal);
        counts.lost += lost === true ? 1 : 0;
        counts.unknown += lost === undefined ? 1 : 0;
      }
    };
    await Promise.all(Array.from({ length: checksAtOnce }, work));
    logger.info(counts, 'checked after a full disk whether the output of workers is written');
  }

  /** Undefined where it cannot be told. */
  async #check({ containerId, pid }: Candidate, signal: AbortSignal): Promise<boolean | undefined> {
    const { fleet, logger, onLost, runtime } = this.#options;
    try {
      const lost =
        (await runtime.isOutputLost(containerId, pid, { signal })) && fleet.outputLost(containerId, pid);
      if (lost) {
        onLost?.();
        logger.warn(
          { container: containerId },
          'the output of a worker is not written since the disk was full; it is made anew when no call is in it',
        );
      }
      return lost;
    } catch (error) {
      signal.throwIfAborted();
      logger.warn(
        { container: containerId, reason: messageOf(error) },
        'cannot tell whether the output of a worker is written',
      );
      return undefined;
    }
  }
}

/** Those that run first: they are called. */
function candidatesOf(infos: readonly WorkerInfo[]): readonly Candidate[] {
  return (['Running', 'Paused'] as const).flatMap((kind) =>
    infos.flatMap(({ containerId, task }) => (task.kind === kind ? [{ containerId, pid: task.pid }] : [])),
  );
}
