import type { ServerWritableStream } from '@grpc/grpc-js';
import type { Clock } from '../../common/clock.ts';
import { isAborted, sleep } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import type { GetLogsRequest, LogChunk } from '../../protocol/generated/agent.ts';
import type { WorkerLogReader } from '../../runtime/contract/logs.ts';
import { type FoundSpan, LogCursor, type LogQuery } from '../logs/log-query.ts';
import { resolveWorker, type ServedFleet } from './served-fleet.ts';

export type LogCall = ServerWritableStream<GetLogsRequest, LogChunk>;

/** The part of the runtime that reads logs. */
export interface LogSource {
  readonly workerLogs: WorkerLogReader;
}

const chunkBytes = 256 * 1024;
const followMs = 250;

/**
 * Serves one GetLogs: what a worker has written by the query and, where asked, what it writes until the reader hangs
 * up, the worker is gone, the one call that was asked for has ended, or `signal` fires. A follower stays with the
 * worker when its container is replaced.
 *
 * @throws {EsbError} `NotFound` when there is no such worker, or no container before the present one
 */
export async function serveLogs(
  call: LogCall,
  fleet: ServedFleet,
  { workerLogs }: LogSource,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const { request } = call;
  const hungUp = new AbortController();
  const onCancelled = (): void => hungUp.abort();
  call.on('cancelled', onCancelled);
  const ended = AbortSignal.any([signal, hungUp.signal]);
  const sink = (span: FoundSpan): Promise<void> => send(call, span, ended);
  try {
    const uid = resolveWorker(fleet, request.worker);
    if (fleet.view(uid) === undefined) {
      throw new EsbError(`no worker with uid ${uid} on this node`, { code: 'NotFound' });
    }
    const query = queryOf(request);
    const takesSeveral = (): boolean => (fleet.view(uid)?.perWorker ?? 1) > 1;
    let containerId = await containerOf(fleet, workerLogs, uid);
    let cursor = containerId === undefined ? undefined : new LogCursor(workerLogs, containerId, query, takesSeveral());
    await cursor?.begin(sink);
    while (request.follow && !request.previous && cursor?.isComplete !== true && !ended.aborted) {
      await sleep(clock, followMs, ended);
      await cursor?.readOn(sink);
      if (fleet.view(uid) === undefined) {
        break;
      }
      const present = fleet.view(uid)?.containerId;
      if (present !== undefined && present !== containerId) {
        await cursor?.end(sink);
        containerId = present;
        cursor = new LogCursor(workerLogs, present, { ...query, tailLines: 0, sinceMs: 0 }, takesSeveral());
        await cursor.begin(sink);
      }
    }
    await cursor?.end(sink);
  } catch (error) {
    if (!isAborted(error)) {
      throw error;
    }
  } finally {
    call.off('cancelled', onCancelled);
  }
}

function queryOf(request: GetLogsRequest): LogQuery {
  return {
    tailLines: Math.max(0, request.tailLines),
    sinceMs: request.sinceMs,
    requestId: request.requestId,
    previous: request.previous,
  };
}

/** The container that there is, else the last one: what failed to start has left a log, and no container. */
async function containerOf(fleet: ServedFleet, logs: WorkerLogReader, uid: string): Promise<string | undefined> {
  return fleet.view(uid)?.containerId ?? (await logs.newest(uid));
}

async function send(call: LogCall, span: FoundSpan, signal: AbortSignal): Promise<void> {
  for (let start = 0; start < span.data.length && !signal.aborted; start += chunkBytes) {
    const chunk = {
      data: span.data.subarray(start, start + chunkBytes),
      offset: span.offset + start,
      missed: start === 0 ? span.missed : 0,
      requestId: span.requestId,
    };
    if (!call.write(chunk)) {
      await drained(call, signal);
    }
  }
}

function drained(call: LogCall, signal: AbortSignal): Promise<void> {
  if (signal.aborted) {
    return Promise.resolve();
  }
  const done = Promise.withResolvers<void>();
  const finish = (): void => {
    call.off('drain', finish);
    signal.removeEventListener('abort', finish);
    done.resolve();
  };
  call.on('drain', finish);
  signal.addEventListener('abort', finish, { once: true });
  return done.promise;
}
