import type { AgentPhase } from './routing.ts';

/** Names one worker. */
export interface WorkerReference {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** One call, as it goes to an agent. */
export interface InvokeRequest {
  readonly worker: WorkerReference;
  readonly epoch: number;
  readonly requestId: string;
  readonly payload: Buffer;
  /** Base64 as the caller sent it; empty for none. */
  readonly clientContext: string;
  readonly tailLog: boolean;
  /** Its X-Amzn-Trace-Id; empty for none. */
  readonly traceId: string;
  /** The `traceparent` of the gateway's or the caller's span of it; empty for none. */
  readonly traceParent: string;
}

/** Microseconds. */
export interface InvokeTimings {
  readonly queued: number;
  readonly wake: number;
  readonly run: number;
  /** What the call found: `running`, `paused` or `absent`. */
  readonly start: string;
}

export interface InvokeTrailer {
  readonly outcome:
    | 'OUTCOME_UNSPECIFIED'
    | 'OUTCOME_ANSWERED'
    | 'OUTCOME_REFUSED'
    | 'OUTCOME_UNKNOWN'
    | 'OUTCOME_TIMED_OUT';
  readonly reason: string;
  readonly message: string;
  readonly stamp: string;
  readonly timings: InvokeTimings | null;
  readonly logTail: Buffer;
}

/** One or several parts of an answer, in this order. */
export interface InvokeResponse {
  readonly head: { readonly status: number; readonly contentType: string } | null;
  /** Empty for none. */
  readonly chunk: Buffer;
  readonly trailer: InvokeTrailer | null;
}

/** Exactly one of `invoke` and `cancel`. */
export interface InvokeManyRequest {
  readonly call: number;
  readonly invoke?: InvokeRequest;
  readonly cancel?: true;
}

/** Exactly one of `answer` and `failure` is set. */
export interface InvokeManyResponse {
  readonly call: number;
  readonly answer: InvokeResponse | null;
  readonly failure: { readonly code: string; readonly message: string } | null;
}

/** What an agent tells of a worker. */
export interface WorkerState {
  readonly worker: WorkerReference | null;
  readonly functionName: string;
  readonly epoch: number;
  readonly phase: AgentPhase;
  readonly inFlight: number;
  readonly containerId: string;
  readonly callable: boolean;
}

/** Exactly one field is set. */
export interface WatchEvent {
  readonly snapshot?: { readonly workers: readonly WorkerState[] };
  readonly changed?: WorkerState;
  readonly removed?: WorkerReference;
}
