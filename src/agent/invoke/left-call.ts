import type { Clock } from '../../common/clock.ts';
import { isAborted, sleep } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerRuntime } from '../../runtime/contract/runtime.ts';
import { reportsEnd } from '../logs/invocation-splitter.ts';
import type { MarkedCall } from './in-flight-marker.ts';

/** Milliseconds between two looks at the log of a container that an earlier run of the agent left a call in. */
const lookEveryMs = 500;
/** Bytes at the end of a log that are looked at: the last line of a call is followed by little. */
const lookBytes = 64 * 1024;

/** A call that an earlier run of the agent has left in a container. Its answer goes to nobody. */
export interface LeftCall {
  /** Absent where nobody knows it: then no line of the log tells its end. */
  readonly requestId?: string;
  /** Wall-clock milliseconds at which its time is over. */
  readonly until: number;
}

/**
 * What is known of a call that was found in a container.
 *
 * @param boundMs milliseconds that no call in that container takes longer than: a wall clock may have been set meanwhile
 */
export function leftCall(found: Partial<MarkedCall>, now: number, boundMs: number): LeftCall {
  const latest = now + boundMs;
  return { ...found, until: Math.min(found.until ?? latest, latest) };
}

export interface LeftCallWatchOptions {
  readonly containerId: string;
  readonly call: LeftCall;
  readonly runtime: Pick<ContainerRuntime, 'logOffset' | 'readLog'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told once. `seen`: the worker has written the last line of the call; else its time is over. */
  readonly onEnd: (seen: boolean) => void;
}

/** Waits for the end of a call that an earlier run of the agent has left in a container. */
export class LeftCallWatch {
  readonly #options: LeftCallWatchOptions;
  readonly #stopped = new AbortController();
  readonly #done: Promise<void>;
  #size = -1;

  constructor(options: LeftCallWatchOptions) {
    this.#options = options;
    this.#done = this.#run().catch((error: unknown) => {
      if (!isAborted(error)) {
        throw error;
      }
    });
  }

  /** Nobody asks any more. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#done;
  }

  async #run(): Promise<void> {
    const { call, clock, onEnd } = this.#options;
    const until = clock.monotonic() + Math.max(0, call.until - clock.now());
    for (;;) {
      const seen = await this.#look();
      this.#stopped.signal.throwIfAborted();
      const left = until - clock.monotonic();
      if (seen || left <= 0) {
        onEnd(seen);
        return;
      }
      await sleep(clock, Math.min(left, lookEveryMs), this.#stopped.signal);
    }
  }

  async #look(): Promise<boolean> {
    const { call, containerId, logger, runtime } = this.#options;
    if (call.requestId === undefined) {
      return false;
    }
    try {
      const size = await runtime.logOffset(containerId);
      if (size === this.#size) {
        return false;
      }
      this.#size = size;
      return reportsEnd(await runtime.readLog(containerId, lookBytes), call.requestId);
    } catch (error) {
      logger.debug({ err: error }, 'cannot read the log of a worker');
      return false;
    }
  }
}
