/**
 * The messages of proto/esb/agent/v1/agent.proto as the loader of {@link import('./agent-proto.ts')} gives them:
 * camelCase fields, 64-bit numbers as strings, enums by name. Inbound messages have every field set.
 */

export interface WorkerRefMessage {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

export interface InvokeRequestMessage {
  readonly worker: WorkerRefMessage | null;
  readonly epoch: string;
  readonly requestId: string;
  readonly payload: Buffer;
  readonly clientContext: string;
  readonly tailLog: boolean;
  readonly traceId: string;
  readonly traceParent: string;
}

export interface InvokeHeadMessage {
  readonly status: number;
  readonly contentType: string;
}

export type OutcomeName = 'OUTCOME_ANSWERED' | 'OUTCOME_REFUSED' | 'OUTCOME_UNKNOWN' | 'OUTCOME_TIMED_OUT';

export interface InvokeTrailerMessage {
  readonly outcome: OutcomeName;
  readonly reason?: string;
  readonly message?: string;
  readonly stamp?: string;
  readonly timings?: {
    readonly queued: number;
    readonly wake: number;
    readonly run: number;
    readonly start: string;
  };
  readonly logTail?: Buffer;
}

/** One or several parts of an answer, in this order. */
export interface InvokeResponseMessage {
  readonly head?: InvokeHeadMessage;
  readonly chunk?: Buffer;
  readonly trailer?: InvokeTrailerMessage;
}

/** Exactly one of `invoke` and `cancel` is set. */
export interface InvokeManyRequestMessage {
  readonly call: number;
  readonly invoke: InvokeRequestMessage | null;
  readonly cancel: boolean;
}

/** Exactly one of `answer` and `failure`. */
export interface InvokeManyResponseMessage {
  readonly call: number;
  readonly answer?: InvokeResponseMessage;
  readonly failure?: { readonly code: string; readonly message: string };
}

export interface WorkerRequestMessage {
  readonly worker: WorkerRefMessage | null;
  readonly epoch: string;
}

export interface WorkerStateMessage {
  readonly worker: WorkerRefMessage;
  readonly functionName: string;
  readonly epoch: number;
  readonly phase: string;
  readonly inFlight: number;
  readonly containerId: string;
  readonly callable: boolean;
}

/** Exactly one field is set. */
export type WatchEventMessage =
  | { readonly snapshot: { readonly workers: readonly WorkerStateMessage[] } }
  | { readonly changed: WorkerStateMessage }
  | { readonly removed: WorkerRefMessage };

export interface GetLogsRequestMessage {
  readonly worker: WorkerRefMessage | null;
  readonly tailLines: number;
  readonly follow: boolean;
  readonly sinceMs: string;
  readonly requestId: string;
  readonly previous: boolean;
}

export interface LogChunkMessage {
  readonly data: Buffer;
  readonly offset: number;
  readonly missed: number;
  readonly requestId: string;
}
