import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerRuntime } from '../../runtime/contract/runtime.ts';
import { partOf, reportsEnd, untilEnd } from './invocation-splitter.ts';
import { linesOf } from './line-owner.ts';

/** Bytes of output that a call is answered with, as with Lambda. */
export const LOG_TAIL_BYTES = 4 * 1024;
/** Bytes that are looked at for these where other calls have written beside, or the beginning is not known. */
const AMONG_BYTES = 256 * 1024;
/** Milliseconds, and how often in them, that the last line of a call is waited for. */
const WAIT_MS = 250;
const EVERY_MS = 10;

export interface LogTools {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly runtime: Pick<ContainerRuntime, 'readLogSince'>;
}

export interface LoggedCall {
  readonly containerId: string;
  readonly requestId: string;
  /** Whether its worker takes several calls at once. */
  readonly several: boolean;
  /** Size of the log before the call; undefined where that is not known. */
  readonly offset: number | undefined;
}

/**
 * The last output of a call. The shim writes it a moment after the worker has answered; the last lines of the call
 * before may come as late.
 */
export async function logTailOf(tools: LogTools, call: LoggedCall): Promise<Buffer> {
  const { containerId, offset = 0, requestId, several } = call;
  const isBounded = !several && call.offset !== undefined;
  const bytes = isBounded ? LOG_TAIL_BYTES : AMONG_BYTES;
  const text = await readUntil(
    tools,
    () => tools.runtime.readLogSince(containerId, offset, bytes),
    (read) => reportsEnd(read, requestId),
  );
  if (several) {
    return linesOf(text, requestId).subarray(-LOG_TAIL_BYTES);
  }
  return isBounded ? partOf(text, requestId) : untilEnd(partOf(text, requestId), requestId).subarray(-LOG_TAIL_BYTES);
}

/** Reads a log until it holds what is waited for, for a quarter of a second. Empty where it cannot be read. */
export async function readUntil(
  { clock, logger }: Pick<LogTools, 'clock' | 'logger'>,
  read: () => Promise<Buffer>,
  isThere: (text: Buffer) => boolean,
): Promise<Buffer> {
  let text: Buffer = Buffer.alloc(0);
  try {
    const end = clock.monotonic() + WAIT_MS;
    for (;;) {
      text = await read();
      if (isThere(text) || clock.monotonic() >= end) {
        break;
      }
      await sleep(clock, EVERY_MS);
    }
  } catch (error) {
    logger.debug({ err: error }, 'cannot read the log of a worker');
  }
  return text;
}
