import type { ServerWritableStream } from '@grpc/grpc-js';
import type { Clock } from '../common/clock.ts';
import { isAborted, sleep } from '../common/deadline.ts';
import { EsbError } from '../common/errors.ts';
import type { ContainerRuntime } from '../runtime/container-runtime.ts';
import type { GetLogsRequestMessage, LogChunkMessage } from './agent-messages.ts';
import type { Fleet } from './fleet.ts';
import { resolveWorker } from './worker-message.ts';

export type LogCall = ServerWritableStream<GetLogsRequestMessage, LogChunkMessage>;

/** The part of the runtime that reads logs. */
export type LogSource = Pick<ContainerRuntime, 'readLog' | 'readLogSince' | 'logOffset'>;

const maxLogBytes = 16 * 1024 * 1024;
const chunkBytes = 256 * 1024;
const followMs = 250;

/**
 * Serves one GetLogs: the last lines of a worker's output and, where asked, what it writes until the reader hangs up
 * or `signal` fires. A follower stays with the worker when its container is replaced.
 *
 * @throws {EsbError} `NotFound` when there is no such worker
 */
export async function serveLogs(
  call: LogCall,
  fleet: Fleet,
  logs: LogSource,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const hungUp = new AbortController();
  const onCancelled = (): void => hungUp.abort();
  call.on('cancelled', onCancelled);
  const ended = AbortSignal.any([signal, hungUp.signal]);
  try {
    const uid = resolveWorker(fleet, call.request.worker);
    let containerId = containerOf(fleet, uid);
    let offset = 0;
    if (containerId !== undefined) {
      offset = await logs.logOffset(containerId);
      await send(
        call,
        lastLines(await logs.readLog(containerId, maxLogBytes), call.request.tailLines),
        ended,
      );
    }
    while (call.request.follow && !ended.aborted) {
      await sleep(clock, followMs, ended);
      const present = containerOf(fleet, uid);
      if (present !== containerId) {
        containerId = present;
        offset = 0;
      }
      if (containerId !== undefined) {
        const end = await logs.logOffset(containerId);
        if (end > offset) {
          await send(call, await logs.readLogSince(containerId, offset, end - offset), ended);
          offset = end;
        }
      }
    }
  } catch (error) {
    if (!isAborted(error)) {
      throw error;
    }
  } finally {
    call.off('cancelled', onCancelled);
  }
}

function containerOf(fleet: Fleet, uid: string): string | undefined {
  const view = fleet.view(uid);
  if (view === undefined) {
    throw new EsbError(`no worker with uid ${uid} on this node`, { code: 'NotFound' });
  }
  return view.containerId;
}

async function send(call: LogCall, data: Buffer, signal: AbortSignal): Promise<void> {
  for (let start = 0; start < data.length && !signal.aborted; start += chunkBytes) {
    if (!call.write({ data: data.subarray(start, start + chunkBytes) })) {
      await drained(call, signal);
    }
  }
}

function drained(call: LogCall, signal: AbortSignal): Promise<void> {
  const done = Promise.withResolvers<void>();
  call.once('drain', done.resolve);
  signal.addEventListener('abort', () => done.resolve(), { once: true });
  return done.promise;
}

/** The last `count` lines of `text`; all of it for 0. */
export function lastLines(text: Buffer, count: number): Buffer {
  if (count <= 0) {
    return text;
  }
  // A newline at the very end closes the last line and begins none.
  let at = text.at(-1) === 0x0a ? text.length - 1 : text.length;
  for (let line = 0; line < count; line += 1) {
    at = at === 0 ? -1 : text.lastIndexOf(0x0a, at - 1);
    if (at === -1) {
      return text;
    }
  }
  return text.subarray(at + 1);
}
