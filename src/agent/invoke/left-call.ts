import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerRuntime } from '../../runtime/contract/runtime.ts';
import { reportsEnd } from '../logs/invocation-splitter.ts';
import type { LeftCall } from '../model/marked-call.ts';

/** Milliseconds between two looks at the log of a container that an earlier run of the agent left a call in. */
const lookEveryMs = 500;
/** Bytes at the end of a log that are looked at: the last line of a call is followed by little. */
const lookBytes = 64 * 1024;

export interface LeftCallOptions {
  readonly containerId: string;
  readonly call: LeftCall;
  readonly runtime: Pick<ContainerRuntime, 'logOffset' | 'readLog'>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Waits for the end of a call that an earlier run of the agent has left in a container.
 *
 * @returns whether the worker has written the last line of the call; else its time is over
 * @throws {AbortedError} as soon as `signal` fires
 */
export async function endOfLeftCall(options: LeftCallOptions, signal: AbortSignal): Promise<boolean> {
  const { call, clock } = options;
  const until = clock.monotonic() + Math.max(0, call.until - clock.now());
  let size = -1;
  for (;;) {
    const look = await lookAt(options, size);
    signal.throwIfAborted();
    size = look.size;
    const left = until - clock.monotonic();
    if (look.seen || left <= 0) {
      return look.seen;
    }
    await sleep(clock, Math.min(left, lookEveryMs), signal);
  }
}

/** Reads the end of the log, where it has another size than before. */
async function lookAt(
  { call, containerId, logger, runtime }: LeftCallOptions,
  before: number,
): Promise<{ readonly seen: boolean; readonly size: number }> {
  if (call.requestId === undefined) {
    return { seen: false, size: before };
  }
  try {
    const size = await runtime.logOffset(containerId);
    const seen = size !== before && reportsEnd(await runtime.readLog(containerId, lookBytes), call.requestId);
    return { seen, size };
  } catch (error) {
    logger.debug({ err: error }, 'cannot read the log of a worker');
    return { seen: false, size: before };
  }
}
