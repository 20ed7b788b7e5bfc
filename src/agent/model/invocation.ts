import type { Arrival, InitFault, InitOutcome } from '../../init/contract.ts';
import type { RefusalReason, UnknownReason } from '../../protocol/reasons.ts';

export type { RefusalReason, UnknownReason } from '../../protocol/reasons.ts';

/** Follows one call through the agent. */
export interface InvocationTrace {
  /** The call is about to be sent to its worker, each time that this is tried. */
  running(): RunTrace;
}

/** Follows one attempt of a call within its worker. */
export interface RunTrace {
  /** The X-Amzn-Trace-Id that the worker is to be given. */
  readonly traceId: string;
  /** @param fault why it is not known to have been answered; undefined when it was */
  end(fault?: string): void;
}

/** One call on its way into a worker. */
export interface Invocation {
  readonly uid: string;
  readonly epoch: number;
  readonly requestId: string;
  readonly payload: Buffer;
  /** Base64 as the caller sent it; empty for none. */
  readonly clientContext: string;
  /** The ARN that the caller named, with its qualifier; empty or absent for the ARN without one. */
  readonly invokedFunctionArn?: string | undefined;
  /** The caller's X-Amzn-Trace-Id; empty or absent for none. */
  readonly traceId?: string | undefined;
  /** Listener of its stages; absent without tracing. */
  readonly trace?: InvocationTrace | undefined;
  readonly tailLog: boolean;
  /** Whether it is refused, and does not wait, where other calls have all places of its worker. */
  readonly atOnce?: boolean;
  /** Milliseconds that it has waited before; absent for none. */
  readonly waitedMs?: number;
  /** The name of its caller, for which calls of others are counted; absent for none. */
  readonly caller?: string;
  /** Fires when the caller hung up, or takes the call back. A call already sent goes on to occupy its worker. */
  readonly signal: AbortSignal;
  /** The worker's answer, as it comes. */
  readonly onHead: (head: AnswerHead) => void;
  readonly onChunk: (chunk: Buffer) => void;
  /**
   * Asked after a chunk: settles once more may be read of the answer. Does not reject. Undefined, or absent, for at
   * once.
   */
  readonly room?: (() => Promise<unknown> | undefined) | undefined;
  /** Bytes of the answer that have arrived at the gateway. Undefined, or absent, where it does not tell. */
  readonly arrival?: (() => Arrival) | undefined;
}

/** The wish for the answer of a call that an earlier run of the agent has taken. */
export interface Recovery
  extends Pick<Invocation, 'uid' | 'requestId' | 'signal' | 'onHead' | 'onChunk' | 'room' | 'arrival'> {
  /** Bytes of the answer that the gateway has. */
  readonly from: number;
  /** Milliseconds since the call left its gateway. Undefined where this run of the agent may have taken it. */
  readonly sentMs: number | undefined;
  readonly tailLog: boolean;
}

export interface AnswerHead {
  /** The emulator's; 200 where the worker has an init, whose answers say by {@link FunctionEnd} how they ended. */
  readonly status: number;
  readonly contentType: string;
  /** Whether the runtime streams the answer. */
  readonly streaming?: boolean | undefined;
}

/** How a function ended, as the init of its worker has told. */
export interface FunctionEnd {
  readonly outcome: Exclude<InitOutcome, 'NotStarted'>;
  /** Absent for one that has answered. */
  readonly errorType?: string | undefined;
  /**
   * JSON of an error that came after a part of the answer was passed on. A caller that does not stream gets it in the
   * place of that part. Absent where the answer that was passed on is the error.
   */
  readonly lateError?: string | undefined;
}

export interface InvocationTimings {
  /** Microseconds. */
  readonly queued: number;
  readonly wake: number;
  readonly run: number;
  readonly start: 'running' | 'paused' | 'absent';
}

/** How a call ended. */
export type InvocationResult =
  | {
      readonly kind: 'Answered';
      /** Absent where the emulator answered, whose answers do not tell. */
      readonly end?: FunctionEnd | undefined;
      readonly stamp: string;
      readonly timings: InvocationTimings;
      readonly logTail?: Buffer;
    }
  | {
      readonly kind: 'Refused';
      readonly reason: RefusalReason;
      readonly message: string;
      /** Of a worker whose initialization failed for a reason of its function. */
      readonly fault?: InitFault | undefined;
    }
  | {
      readonly kind: 'Unknown';
      readonly reason: UnknownReason;
      readonly message: string;
      readonly stamp: string;
    }
  | {
      readonly kind: 'TimedOut';
      readonly message: string;
      readonly stamp: string;
      readonly timings: InvocationTimings;
      readonly logTail?: Buffer;
    };

/** Why a call that has not been sent is not sent any more, with the fault of the function where it has one. */
export type Closing = readonly [reason: RefusalReason, message: string, fault?: InitFault | undefined];
