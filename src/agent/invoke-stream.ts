import type { ServerWritableStream } from '@grpc/grpc-js';
import { EsbError } from '../common/errors.ts';
import type { InvokeRequestMessage, InvokeResponseMessage, InvokeTrailerMessage } from './agent-messages.ts';
import type { Fleet } from './fleet.ts';
import type { InvocationResult } from './invocation.ts';
import { resolveWorker } from './worker-message.ts';

export type InvokeCall = ServerWritableStream<InvokeRequestMessage, InvokeResponseMessage>;

/**
 * Bytes of an answer that may wait for a slow caller. A worker's answer is taken in at the worker's own pace, since
 * it holds the slot; a whole answer of the largest size that Lambda allows (6 MB) fits.
 */
const maxPendingBytes = 8 * 1024 * 1024;

/**
 * Serves one Invoke: passes the request to the fleet and the worker's answer to the caller as it comes. A caller who
 * hangs up or cannot keep pace disturbs nobody: the call in the worker goes on.
 *
 * @throws {EsbError} what the caller is to be told instead of a trailer
 */
export async function serveInvoke(call: InvokeCall, fleet: Fleet): Promise<InvocationResult> {
  const { request } = call;
  const gone = new AbortController();
  const answer = new Answer(call, gone);
  const onCancelled = (): void => answer.abandon();
  call.on('cancelled', onCancelled);
  try {
    const result = await fleet.invoke({
      uid: resolveWorker(fleet, request.worker),
      epoch: Number(request.epoch),
      requestId: request.requestId,
      payload: request.payload,
      clientContext: request.clientContext,
      traceId: request.traceId,
      tailLog: request.tailLog,
      signal: gone.signal,
      onHead: (head) => answer.write({ head }, 0),
      onChunk: (chunk) => answer.write({ chunk }, chunk.length),
    });
    if (answer.overflowed) {
      throw new EsbError(`more than ${maxPendingBytes} bytes of the answer waited for the caller`, {
        code: 'ResponseTooSlow',
      });
    }
    answer.write({ trailer: trailerOf(result) }, 0);
    return result;
  } finally {
    call.off('cancelled', onCancelled);
  }
}

/** The way back to the caller, with a bound on what waits there. */
class Answer {
  readonly #call: InvokeCall;
  readonly #gone: AbortController;
  #pendingBytes = 0;
  #abandoned = false;
  #overflowed = false;

  constructor(call: InvokeCall, gone: AbortController) {
    this.#call = call;
    this.#gone = gone;
  }

  get overflowed(): boolean {
    return this.#overflowed;
  }

  write(message: InvokeResponseMessage, bytes: number): void {
    if (this.#abandoned || this.#overflowed) {
      return;
    }
    if (this.#pendingBytes + bytes > maxPendingBytes) {
      this.#overflowed = true;
      return;
    }
    this.#pendingBytes += bytes;
    this.#call.write(message, () => {
      this.#pendingBytes -= bytes;
    });
  }

  abandon(): void {
    this.#abandoned = true;
    this.#gone.abort();
  }
}

/** A result as the last message of an answer. */
export function trailerOf(result: InvocationResult): InvokeTrailerMessage {
  switch (result.kind) {
    case 'Answered':
      return {
        outcome: 'OUTCOME_ANSWERED',
        stamp: result.stamp,
        timings: result.timings,
        ...(result.logTail === undefined ? {} : { logTail: result.logTail }),
      };
    case 'Refused':
      return { outcome: 'OUTCOME_REFUSED', reason: result.reason, message: result.message };
    case 'Unknown':
      return {
        outcome: 'OUTCOME_UNKNOWN',
        reason: result.reason,
        message: result.message,
        stamp: result.stamp,
      };
    case 'TimedOut':
      return {
        outcome: 'OUTCOME_TIMED_OUT',
        message: result.message,
        stamp: result.stamp,
        timings: result.timings,
        ...(result.logTail === undefined ? {} : { logTail: result.logTail }),
      };
  }
}
