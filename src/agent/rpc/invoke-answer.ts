import { EsbError } from '../../common/errors.ts';
import type { Tracing } from '../../common/tracing/span.ts';
import { FUNCTION_FAILURES } from '../../protocol/function-ends.ts';
import type { InvokeHead, InvokeRequest, InvokeResponse, InvokeTrailer } from '../../protocol/generated/agent.ts';
import { reasonCodeOf } from '../../protocol/reasons.ts';
import type { Sparse } from '../../protocol/sparse.ts';
import type { FunctionEnd, InvocationResult, Recovery } from '../model/invocation.ts';
import type { AnswerCredit } from './answer-credit.ts';
import { ArrivedBytes } from './arrived-bytes.ts';
import type { CallBudget, CallBytes } from './call-budget.ts';
import { CallTrace } from './call-trace.ts';
import type { KeptCalls } from './kept-calls.ts';
import { resolveWorker, type ServedFleet } from './served-fleet.ts';

/**
 * Bytes of an answer that are worth a message of their own before the next part is known. A piece of an init has 60 KiB,
 * and two of them are not copied together.
 */
const gatherBytes = 32 * 1024;

/** Passes one message on to the caller, and tells when it has left. */
type Send = (message: Sparse<InvokeResponse>, sent: () => void) => void;

/** The way of an answer to its caller. */
type Way = Pick<Recovery, 'signal' | 'onHead' | 'onChunk' | 'room' | 'arrival'>;

/** Whose answers these are, and what they are held to. */
export interface Callers {
  /** The workers that they may call. */
  readonly fleet: ServedFleet;
  readonly budget: CallBudget;
  readonly kept: KeptCalls;
  /** Namespaces that they serve. */
  readonly namespaces: ReadonlySet<string>;
  /** Name of the connection. */
  readonly peer: string;
  /** Name of the caller itself, whichever its connection. */
  readonly caller: string;
  readonly tracing: Tracing | undefined;
}

/**
 * The way back to one caller. Bytes that wait there count against the budget of the agent. An answer is read at the pace
 * of the worker, whose place the call holds, until there is no room: then the worker waits, two seconds at most without
 * a credit. Bytes of one read go in one message, which costs both sides a record, a system call and a wake-up.
 */
export class InvokeAnswer {
  readonly #send: Send;
  readonly #callers: Callers;
  readonly #credit: AnswerCredit | undefined;
  #arrival: ArrivedBytes | undefined;
  readonly #isKept: boolean;
  /** Fires when the call is to be refused if it waits. */
  readonly #unwanted = new AbortController();
  #isGone = false;
  /** Whether the call stays wanted without its caller. */
  #outlives = false;
  #bytes: CallBytes | undefined;
  #over = false;
  #head: InvokeHead | undefined;
  #chunks: Buffer[] = [];
  /** Bytes of `#chunks`. */
  #gathered = 0;
  #flush: NodeJS.Immediate | undefined;
  #overflowed = false;

  /**
   * @param credit of a caller that tells what it has read
   * @param isKept whether the answer stays for the next who asks, where this caller is gone
   */
  constructor(send: Send, callers: Callers, credit?: AnswerCredit, arrival?: ArrivedBytes, isKept = false) {
    this.#arrival = arrival;
    this.#isKept = isKept;
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

  /** Bytes that have arrived, by the word of the caller. */
  get arrival(): ArrivedBytes {
    if (this.#arrival === undefined) {
      this.#arrival = new ArrivedBytes();
      if (this.#isLost) {
        this.#arrival.end();
      }
    }
    return this.#arrival;
  }

  /** The caller has hung up. */
  abandon(): void {
    this.#isGone = true;
    if (!this.#outlives) {
      this.#unwanted.abort();
    }
    this.#credit?.close();
    if (!this.#isKept) {
      this.#arrival?.end();
    }
  }

  /** The caller takes the call back, unless it has begun. */
  withdraw(): void {
    this.#unwanted.abort();
  }

  get #isLost(): boolean {
    return this.#overflowed || this.#isGone;
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
    const { fleet, kept } = this.#callers;
    const bytes = this.#open(uid);
    const namespace = fleet.view(uid)?.identity.namespace;
    const isKept = request.keeps && namespace !== undefined;
    // A call that may go on without its caller holds its payload for as long.
    const payloads = isKept ? this.#account(uid) : bytes;
    const payloadBytes = request.payload.length;
    payloads.take(payloadBytes);
    try {
      const { atOnce, clientContext, epoch, invokedFunctionArn, payload, requestId, tailLog, traceId, waitedMs } =
        request;
      const call = {
        uid,
        caller: this.#callers.caller,
        waitedMs,
        epoch,
        requestId,
        payload,
        clientContext,
        invokedFunctionArn,
        traceId,
        trace,
        tailLog,
        atOnce,
      };
      const arrival = request.acknowledges ? () => this.arrival : undefined;
      const invoke = (way: Way): Promise<InvocationResult> => fleet.invoke({ ...call, ...way, arrival });
      if (!isKept) {
        return await this.send(uid, invoke, bytes);
      }
      // Its caller may be another one by its end.
      this.#outlives = true;
      return await this.send(
        uid,
        (way) => kept.run(namespace, call, way, (taker) => invoke({ ...way, ...taker })),
        bytes,
      );
    } finally {
      payloads.add(-payloadBytes);
    }
  }

  #account(uid: string): CallBytes {
    const { budget, fleet, peer } = this.#callers;
    const identity = fleet.view(uid)?.identity;
    return budget.open(peer, identity === undefined ? '' : `${identity.namespace}/${identity.functionName}`);
  }

  #open(uid: string): CallBytes {
    const bytes = this.#account(uid);
    this.#bytes = bytes;
    if (this.#over) {
      bytes.close();
    }
    return bytes;
  }

  /** Sends an answer of a worker as it comes, and its end. */
  async send(
    uid: string,
    fetch: (way: Way) => Promise<InvocationResult>,
    bytes = this.#open(uid),
  ): Promise<InvocationResult> {
    const result = await fetch({
      signal: this.#unwanted.signal,
      onHead: (head) => {
        this.#head = { ...head, streaming: head.streaming ?? false };
        this.#schedule();
      },
      onChunk: (chunk) => this.#take(chunk, bytes),
      room: () => this.#room(bytes),
      arrival: () => this.arrival,
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
    if (this.#isLost) {
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
    if (this.#isLost) {
      return undefined;
    }
    if (credit === undefined) {
      return bytes.room()?.then((there) => {
        if (!there) {
          this.#overflowed = true;
          this.#arrival?.end();
        }
      });
    }
    const wait = credit.room() ?? bytes.room();
    return wait === undefined ? undefined : this.#paced(wait, bytes, credit);
  }

  /** The time of the function bounds the wait: the worker is asked for the end of its call all the while. */
  async #paced(first: Promise<unknown>, bytes: CallBytes, credit: AnswerCredit): Promise<void> {
    let wait: Promise<unknown> | undefined = first;
    while (wait !== undefined && !this.#isGone) {
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
    if (this.#isLost) {
      this.#bytes?.add(-bytes);
      return;
    }
    const parts = { ...(head && { head }), ...(chunk && { chunk }), ...(trailer && { trailer }) };
    this.#send(parts, () => this.#bytes?.add(-bytes));
  }
}

/** A result as the last message of an answer. */
export function trailerOf(result: InvocationResult): Sparse<InvokeTrailer> {
  switch (result.kind) {
    case 'Answered':
      return {
        outcome: 'OUTCOME_ANSWERED',
        ...(result.end === undefined ? {} : endOf(result.end)),
        stamp: result.stamp,
        timings: result.timings,
        ...(result.logTail === undefined ? {} : { logTail: result.logTail }),
      };
    case 'Refused': {
      const { fault, message, reason } = result;
      const initFault = fault === undefined ? null : { ...fault, body: fault.body ?? '' };
      return { outcome: 'OUTCOME_REFUSED', reason, reasonCode: reasonCodeOf(reason), message, initFault };
    }
    case 'Unknown':
      return {
        outcome: 'OUTCOME_UNKNOWN',
        reason: result.reason,
        reasonCode: reasonCodeOf(result.reason),
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

function endOf({ outcome, errorType = '', lateError = '' }: FunctionEnd): Pick<InvokeTrailer, 'functionEnd'> {
  const code = outcome === 'Answered' ? 'FUNCTION_OUTCOME_ANSWERED' : FUNCTION_FAILURES[outcome].code;
  return { functionEnd: { outcome: code, errorType, lateError } };
}
