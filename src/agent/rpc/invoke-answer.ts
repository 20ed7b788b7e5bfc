import { EsbError } from '../../common/errors.ts';
import type { Tracing } from '../../common/tracing/span.ts';
import type { InvokeHead, InvokeRequest, InvokeResponse, InvokeTrailer } from '../../protocol/generated/agent.ts';
import type { Sparse } from '../../protocol/sparse.ts';
import type { InvocationResult } from '../model/invocation.ts';
import type { AnswerCredit } from './answer-credit.ts';
import type { CallBudget, CallBytes } from './call-budget.ts';
import { CallTrace } from './call-trace.ts';
import { trailerOf } from './invoke-trailer.ts';
import { resolveWorker, type ServedFleet } from './served-fleet.ts';

/** Bytes of an answer that are worth a message of their own before the next part is known. */
const gatherBytes = 64 * 1024;

/** Passes one message on to the caller, and tells when it has left. */
type Send = (message: Sparse<InvokeResponse>, sent: () => void) => void;

/** Whose answers these are, and what they are held to. */
export interface Callers {
  /** The workers that they may call. */
  readonly fleet: ServedFleet;
  readonly budget: CallBudget;
  /** Name of the connection. */
  readonly peer: string;
  readonly tracing: Tracing | undefined;
}

/**
 * The way back to one caller. Bytes that wait there count against the budget of the agent. A worker's answer is read at
 * the worker's own pace, since the call holds the place in the worker, until there is no room; then the worker waits
 * two seconds at most, and the answer is lost; with a credit, the worker waits until its caller has read. Bytes of one read
 * go in one message: every message costs both sides an encrypted record, a system call and a wake-up.
 */
export class InvokeAnswer {
  readonly #send: Send;
  readonly #callers: Callers;
  readonly #credit: AnswerCredit | undefined;
  readonly #gone = new AbortController();
  #bytes: CallBytes | undefined;
  #over = false;
  #head: InvokeHead | undefined;
  #chunks: Buffer[] = [];
  /** Bytes of `#chunks`. */
  #gathered = 0;
  #flush: NodeJS.Immediate | undefined;
  #overflowed = false;

  /** @param credit of a caller that tells what it has read */
  constructor(send: Send, callers: Callers, credit?: AnswerCredit) {
    this.#send = send;
    this.#callers = callers;
    this.#credit = credit;
  }

  /**
   * Runs one call and sends its answer. A caller that hangs up or cannot keep pace disturbs no other: the call in the
   * worker goes on.
   *
   * @throws {EsbError} what the caller is to be told instead of a trailer
   */
  async run(request: InvokeRequest): Promise<InvocationResult> {
    const { tracing } = this.#callers;
    const trace = tracing === undefined ? undefined : new CallTrace(tracing, request);
    try {
      const result = await this.#run(request, trace);
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
    this.#credit?.close();
  }

  /** Whether nothing is held for it any more. */
  get isEmpty(): boolean {
    return (this.#bytes?.held ?? 0) === 0;
  }

  /** The way to the caller is over, and nothing waits there. */
  close(): void {
    this.#over = true;
    this.#bytes?.close();
  }

  async #run(request: InvokeRequest, trace: CallTrace | undefined): Promise<InvocationResult> {
    const uid = resolveWorker(this.#callers.fleet, request.worker);
    const bytes = this.#open(uid);
    const payloadBytes = request.payload.length;
    bytes.take(payloadBytes);
    try {
      return await this.#invoke(uid, request, trace, bytes);
    } finally {
      bytes.add(-payloadBytes);
    }
  }

  #open(uid: string): CallBytes {
    const { budget, fleet, peer } = this.#callers;
    const identity = fleet.view(uid)?.identity;
    const bytes = budget.open(peer, identity === undefined ? '' : `${identity.namespace}/${identity.functionName}`);
    this.#bytes = bytes;
    if (this.#over) {
      bytes.close();
    }
    return bytes;
  }

  async #invoke(
    uid: string,
    request: InvokeRequest,
    trace: CallTrace | undefined,
    bytes: CallBytes,
  ): Promise<InvocationResult> {
    const result = await this.#callers.fleet.invoke({
      uid,
      epoch: request.epoch,
      requestId: request.requestId,
      payload: request.payload,
      clientContext: request.clientContext,
      traceId: request.traceId,
      trace,
      tailLog: request.tailLog,
      signal: this.#gone.signal,
      onHead: (head) => {
        this.#head = { ...head, streaming: head.streaming ?? false };
        this.#schedule();
      },
      onChunk: (chunk) => this.#take(chunk, bytes),
      room: () => this.#room(bytes),
    });
    if (this.#overflowed) {
      this.#write();
      throw new EsbError('the answer waited for its caller, and there was no room for more', {
        code: 'ResponseTooSlow',
      });
    }
    this.#write(trailerOf(result));
    return result;
  }

  #take(chunk: Buffer, bytes: CallBytes): void {
    if (this.#overflowed || this.#gone.signal.aborted) {
      return;
    }
    bytes.add(chunk.length);
    this.#credit?.sent(chunk.length);
    this.#chunks.push(chunk);
    this.#gathered += chunk.length;
    if (this.#gathered >= gatherBytes) {
      this.#write();
    } else {
      this.#schedule();
    }
  }

  /** A caller that does not read holds the worker for a moment, and then loses the answer, unless it has a credit. */
  #room(bytes: CallBytes): Promise<void> | undefined {
    const credit = this.#credit;
    if (this.#overflowed || this.#gone.signal.aborted) {
      return undefined;
    }
    if (credit === undefined) {
      return bytes.room()?.then((there) => {
        this.#overflowed ||= !there;
      });
    }
    const wait = credit.room() ?? bytes.room();
    return wait === undefined ? undefined : this.#paced(wait, bytes, credit);
  }

  /** The time of the function bounds the wait: the worker is asked for the end of its call all the while. */
  async #paced(first: Promise<unknown>, bytes: CallBytes, credit: AnswerCredit): Promise<void> {
    let wait: Promise<unknown> | undefined = first;
    while (wait !== undefined && !this.#gone.signal.aborted) {
      await wait;
      wait = credit.room() ?? bytes.room();
    }
  }

  /** After what is being read from the worker has been looked at to its end. */
  #schedule(): void {
    this.#flush ??= setImmediate(() => this.#write());
  }

  #write(trailer?: Sparse<InvokeTrailer>): void {
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
      this.#bytes?.add(-bytes);
      return;
    }
    const message = {
      ...(head === undefined ? {} : { head }),
      ...(chunk === undefined ? {} : { chunk }),
      ...(trailer === undefined ? {} : { trailer }),
    };
    this.#send(message, () => {
      this.#bytes?.add(-bytes);
    });
  }
}
