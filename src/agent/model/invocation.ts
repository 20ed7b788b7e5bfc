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
  /** The caller's X-Amzn-Trace-Id; empty or absent for none. */
  readonly traceId?: string | undefined;
  /** Listener of its stages; absent without tracing. */
  readonly trace?: InvocationTrace | undefined;
  readonly tailLog: boolean;
  /** Fires when the caller hung up. A call already sent goes on to occupy its worker. */
  readonly signal: AbortSignal;
  /** The worker's answer, as it comes. */
  readonly onHead: (head: { readonly status: number; readonly contentType: string }) => void;
  readonly onChunk: (chunk: Buffer) => void;
  /**
   * Asked after a chunk: settles once more may be read of the answer. Does not reject. Undefined, or absent, for at
   * once.
   */
  readonly room?: (() => Promise<unknown> | undefined) | undefined;
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
      readonly stamp: string;
      readonly timings: InvocationTimings;
      readonly logTail?: Buffer;
    }
  | { readonly kind: 'Refused'; readonly reason: RefusalReason; readonly message: string }
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
/** Why a call that has not been sent is not sent any more. */
export type Closing = readonly [RefusalReason, string];
