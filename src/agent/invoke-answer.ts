import { EsbError } from '../common/errors.ts';
import type { Tracing } from '../common/tracing.ts';
import type {
  InvokeHeadMessage,
  InvokeRequestMessage,
  InvokeResponseMessage,
  InvokeTrailerMessage,
} from './agent-messages.ts';
import { CallTrace } from './call-trace.ts';
import type { InvocationResult } from './invocation.ts';
import type { ServedFleet } from './served-fleet.ts';
import { resolveWorker } from './worker-message.ts';

/**
 * Bytes of an answer that may wait for a slow caller. A worker's answer is taken in at the worker's own pace, since
 * it holds the slot; a whole answer of the largest size that Lambda allows (6 MB) fits.
 */
const maxPendingBytes = 8 * 1024 * 1024;
/** Bytes of an answer that are worth a message of their own before the next part is known. */
const gatherBytes = 64 * 1024;

/** Passes one message on to the caller, and tells when it has left. */
export type Send = (message: InvokeResponseMessage, sent: () => void) => void;

/**
 * The way back to one caller, with a bound on what waits there. What comes in one go from the worker goes in one message:
 * every message costs both sides an encrypted record, a system call and a wake-up.
 */
export class InvokeAnswer {
  readonly #send: Send;
  readonly #gone = new AbortController();
  #head: InvokeHeadMessage | undefined;
  #chunks: Buffer[] = [];
  /** Bytes of `#chunks`. */
  #gathered = 0;
  #flush: NodeJS.Immediate | undefined;
  #pendingBytes = 0;
  #overflowed = false;

  constructor(send: Send) {
    this.#send = send;
  }

  /**
   * Runs one call and sends its answer. A caller who hangs up or cannot keep pace disturbs nobody: the call in the
   * worker goes on.
   *
   * @throws {EsbError} what the caller is to be told instead of a trailer
   */
  async run(request: InvokeRequestMessage, fleet: ServedFleet, tracing?: Tracing): Promise<InvocationResult> {
    const trace = tracing === undefined ? undefined : new CallTrace(tracing, request);
    try {
      const result = await this.#run(request, fleet, trace);
      trace?.end(result);
      return result;
    } catch (error) {
      trace?.fail(error);
      throw error;
    }
  }

  /** The caller has hung up. */
  abandon(): void {
    this.#gone.abort();
  }

  async #run(
    request: InvokeRequestMessage,
    fleet: ServedFleet,
    trace: CallTrace | undefined,
  ): Promise<InvocationResult> {
    const result = await fleet.invoke({
      uid: resolveWorker(fleet, request.worker),
      epoch: Number(request.epoch),
      requestId: request.requestId,
      payload: request.payload,
      clientContext: request.clientContext,
      traceId: request.traceId,
      trace,
      tailLog: request.tailLog,
      signal: this.#gone.signal,
      onHead: (head) => {
        this.#head = head;
        this.#schedule();
      },
      onChunk: (chunk) => this.#take(chunk),
    });
    if (this.#overflowed) {
      throw new EsbError(`more than ${maxPendingBytes} bytes of the answer waited for the caller`, {
        code: 'ResponseTooSlow',
      });
    }
    this.#write(trailerOf(result));
    return result;
  }

  #take(chunk: Buffer): void {
    if (this.#pendingBytes + this.#gathered + chunk.length > maxPendingBytes) {
      this.#overflowed = true;
    }
    if (this.#overflowed || this.#gone.signal.aborted) {
      return;
    }
    this.#chunks.push(chunk);
    this.#gathered += chunk.length;
    if (this.#gathered >= gatherBytes) {
      this.#write();
    } else {
      this.#schedule();
    }
  }

  /** After what is being read from the worker has been looked at to its end. */
  #schedule(): void {
    this.#flush ??= setImmediate(() => this.#write());
  }

  #write(trailer?: InvokeTrailerMessage): void {
    if (this.#flush !== undefined) {
      clearImmediate(this.#flush);
      this.#flush = undefined;
    }
    const [first] = this.#chunks;
    const chunk = this.#chunks.length > 1 ? Buffer.concat(this.#chunks) : first;
    const head = this.#head;
    const bytes = this.#gathered;
    this.#head = undefined;
    this.#chunks = [];
    this.#gathered = 0;
    if (this.#overflowed || this.#gone.signal.aborted) {
      return;
    }
    this.#pendingBytes += bytes;
    const message = {
      ...(head === undefined ? {} : { head }),
      ...(chunk === undefined ? {} : { chunk }),
      ...(trailer === undefined ? {} : { trailer }),
    };
    this.#send(message, () => {
      this.#pendingBytes -= bytes;
    });
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
