// Generated from proto/esb/agent/v1/agent.proto by `npm run generate`; do not edit.

import type { MethodDefinition } from '@grpc/proto-loader';
import type { Sparse } from '../sparse.ts';

export type AgentMethods = {
  readonly Destroy: MethodDefinition<Sparse<WorkerRequest>, Sparse<WorkerState>, WorkerRequest, WorkerState>;
  readonly Ensure: MethodDefinition<Sparse<WorkerRequest>, Sparse<WorkerState>, WorkerRequest, WorkerState>;
  readonly GetLogs: MethodDefinition<Sparse<GetLogsRequest>, Sparse<LogChunk>, GetLogsRequest, LogChunk>;
  readonly GetMetrics: MethodDefinition<Sparse<GetMetricsRequest>, Sparse<GetMetricsResponse>, GetMetricsRequest, GetMetricsResponse>;
  readonly Invoke: MethodDefinition<Sparse<InvokeRequest>, Sparse<InvokeResponse>, InvokeRequest, InvokeResponse>;
  readonly InvokeMany: MethodDefinition<Sparse<InvokeManyRequest>, Sparse<InvokeManyResponse>, InvokeManyRequest, InvokeManyResponse>;
  readonly InvokeStreamed: MethodDefinition<Sparse<InvokeStreamedRequest>, Sparse<InvokeResponse>, InvokeStreamedRequest, InvokeResponse>;
  readonly List: MethodDefinition<Sparse<ListRequest>, Sparse<ListResponse>, ListRequest, ListResponse>;
  readonly Pause: MethodDefinition<Sparse<WorkerRequest>, Sparse<WorkerState>, WorkerRequest, WorkerState>;
  readonly Recover: MethodDefinition<Sparse<RecoverRequest>, Sparse<InvokeResponse>, RecoverRequest, InvokeResponse>;
  readonly Resume: MethodDefinition<Sparse<WorkerRequest>, Sparse<WorkerState>, WorkerRequest, WorkerState>;
  readonly Watch: MethodDefinition<Sparse<WatchRequest>, Sparse<WatchEvent>, WatchRequest, WatchEvent>;
};

/** How a function ended its call, by the word of the init of its worker. */
export interface FunctionEnd {
  readonly outcome: FunctionOutcome;
  /** In Lambda's words, or the runtime's; empty for an answer. */
  readonly errorType: string;
  /** JSON of an error that came after a part of the answer had been sent. */
  readonly lateError: string;
}

export const FunctionOutcome = {
  FUNCTION_OUTCOME_UNSPECIFIED: 'FUNCTION_OUTCOME_UNSPECIFIED',
  /**
   * The chunks are the answer, be they none. After any other outcome they are the JSON of the error, or the beginning of
   * an answer where late_error is set.
   */
  FUNCTION_OUTCOME_ANSWERED: 'FUNCTION_OUTCOME_ANSWERED',
  /** The runtime reported an error. */
  FUNCTION_OUTCOME_ERROR: 'FUNCTION_OUTCOME_ERROR',
  /** The function's time was over. */
  FUNCTION_OUTCOME_TIMEOUT: 'FUNCTION_OUTCOME_TIMEOUT',
  /** The process of the runtime, or of an extension, ended. */
  FUNCTION_OUTCOME_EXITED: 'FUNCTION_OUTCOME_EXITED',
  /** The runtime broke its answer off, or asked for the next call in the middle of this one. */
  FUNCTION_OUTCOME_INTERRUPTED: 'FUNCTION_OUTCOME_INTERRUPTED',
  FUNCTION_OUTCOME_TOO_LARGE: 'FUNCTION_OUTCOME_TOO_LARGE',
} as const;

export type FunctionOutcome = keyof typeof FunctionOutcome;

export interface GetLogsRequest {
  readonly worker: WorkerRef | null;
  /** How many lines from the end; 0 for all that there are. */
  readonly tailLines: number;
  /** Whether to go on until the caller hangs up, the worker is gone, or the call that request_id names has ended. */
  readonly follow: boolean;
  /**
   * Only what was written at this time or later, in milliseconds since the epoch; 0 for all. Lines have no times of their
   * own: it is exact to about a second and errs to the early side, after a restart of the agent to about ten.
   */
  readonly sinceMs: number;
  /** Only what was written during this call; empty for all. */
  readonly requestId: string;
  /** Output of the container that failed to replace the present one, else of the one before; nothing to follow then. */
  readonly previous: boolean;
}

export interface GetMetricsRequest {}

export interface GetMetricsResponse {
  readonly contentType: string;
  readonly text: string;
}

/** Why the initialization of a worker failed, by the word of its init. */
export interface InitFault {
  /** In Lambda's words, or the runtime's. */
  readonly errorType: string;
  readonly message: string;
  /** JSON of the error that the runtime reported; empty for none. */
  readonly body: string;
}

/** The gRPC status of a call that has a stream of its own, for one that shares a stream. */
export interface InvokeFailure {
  /** CamelCase. */
  readonly code: string;
  readonly message: string;
  /** The same as code where that is a reason of a call. */
  readonly reasonCode: Reason;
}

/** Head of the worker's answer. */
export interface InvokeHead {
  /** Of the emulator; 200 from a worker whose init speaks with its runtime. */
  readonly status: number;
  readonly contentType: string;
  /** Whether the runtime streams the answer. */
  readonly streaming: boolean;
}

/** At most one of invoke, cancel, arrived and withdraw. */
export interface InvokeManyRequest {
  readonly call: number;
  readonly invoke: InvokeRequest | null;
  /** The caller no longer waits for this call; nothing more is sent of it. */
  readonly cancel: boolean;
  /** Bytes of chunks, from the first one on, that have arrived at the caller; 0 for no word of that. */
  readonly arrived: number;
  /** Calls whose whole answers have arrived, with any other word or alone, within some 100 ms. */
  readonly done: readonly number[];
  /** Another worker would take the call: it is refused with REASON_CALLER_GONE if it waits, and goes on otherwise. */
  readonly withdraw: boolean;
}

/** Exactly one of answer and failure; a trailer or a failure is the last of its call. */
export interface InvokeManyResponse {
  readonly call: number;
  readonly answer: InvokeResponse | null;
  readonly failure: InvokeFailure | null;
}

export interface InvokeRequest {
  readonly worker: WorkerRef | null;
  /** The assignment's epoch as the caller knows it; any other than the agent's own is refused. */
  readonly epoch: number;
  readonly requestId: string;
  readonly payload: Buffer;
  /** The client context as the caller sent it (base64), empty for none. */
  readonly clientContext: string;
  /** Whether the trailer should carry the last 4 KiB that the function wrote during this call. */
  readonly tailLog: boolean;
  /**
   * The X-Amzn-Trace-Id of the call, empty for none. The worker is given it, or what follows from it where the agent
   * makes spans of its own.
   */
  readonly traceId: string;
  /** The traceparent (W3C Trace Context) of the caller's span of this call, empty for none. */
  readonly traceParent: string;
  /** The ARN by which the caller named the function, where that has a qualifier; else unset. */
  readonly invokedFunctionArn?: string;
  /** Whether the caller tells how much of the answer has arrived. Its worker keeps the rest, for the agent that comes next. */
  readonly acknowledges: boolean;
  /** Whether the caller says as well that it has the whole answer, by done of the stream. Until then the worker keeps it. */
  readonly confirms: boolean;
  /**
   * Whether the call is refused with REASON_BUSY, and waits for nothing, where other calls have all places of the worker.
   * Unset by a caller that knows no other worker of the function, or that other calls have all places.
   */
  readonly atOnce: boolean;
  /**
   * Milliseconds that the call has waited before it was sent. Of calls that wait for a worker the one goes first that has
   * waited longest in all, of any caller.
   */
  readonly waitedMs: number;
  /**
   * Whether the agent keeps the answer, once the call has ended too, for another process that asks by Recover. The end of
   * the caller ends no such call, also one that waits.
   */
  readonly keeps: boolean;
}

/**
 * Parts of an answer: a short answer comes as one message with all three parts, a long one as many. In every case head
 * before chunks before trailer.
 */
export interface InvokeResponse {
  readonly head: InvokeHead | null;
  readonly chunk: Buffer;
  readonly trailer: InvokeTrailer | null;
}

export interface InvokeStreamedRequest {
  /** In the first message alone, as the window is. */
  readonly invoke: InvokeRequest | null;
  /** Bytes of chunks that may be on their way unread. */
  readonly window: number;
  /** Bytes of chunks, from the first one on, that the caller has read. */
  readonly read: number;
  /** As in InvokeManyRequest. */
  readonly arrived: number;
  /** The whole answer has arrived. The agent waits for that before it ends the stream. */
  readonly done: boolean;
  /** As in InvokeManyRequest. */
  readonly withdraw: boolean;
}

/** Microseconds. */
export interface InvokeTimings {
  readonly queued: number;
  /** Time until the worker was ready; 0 when it was running. */
  readonly wake: number;
  readonly run: number;
  /** State that the call found: "running", "paused" or "absent". */
  readonly start: string;
}

export interface InvokeTrailer {
  readonly outcome: Outcome;
  /** CamelCase reason of a refusal or an unknown outcome. */
  readonly reason: string;
  readonly message: string;
  /** The agent's stamp of this activity (RFC 3339, microseconds, UTC). The agent writes it to status.lastInvocationTime. */
  readonly stamp: string;
  readonly timings: InvokeTimings | null;
  readonly logTail: Buffer;
  /** The same as reason. */
  readonly reasonCode: Reason;
  /**
   * Set with the outcome ANSWERED alone. Unset by a worker that runs the emulator, and where the function's end is not
   * known.
   */
  readonly functionEnd: FunctionEnd | null;
  /**
   * With a refusal by a worker whose initialization failed for a reason of its function. Lambda answers a call with this
   * error; another worker may be tried first. Unset for every other reason.
   */
  readonly initFault: InitFault | null;
}

export interface ListRequest {
  /** Whether each worker is to have its usage. */
  readonly withUsage: boolean;
}

export interface ListResponse {
  readonly workers: readonly WorkerState[];
}

export interface LogChunk {
  readonly data: Buffer;
  /** Of the first byte of data, counted from the first one that the container ever wrote. */
  readonly offset: number;
  /** Bytes right before it that were removed before they could be read. */
  readonly missed: number;
  /** The call during which it was written; empty between calls. */
  readonly requestId: string;
}

export const Outcome = {
  OUTCOME_UNSPECIFIED: 'OUTCOME_UNSPECIFIED',
  /** The worker answered; head and body came before. */
  OUTCOME_ANSWERED: 'OUTCOME_ANSWERED',
  /** Nothing was sent to the worker. Anyone may try again. */
  OUTCOME_REFUSED: 'OUTCOME_REFUSED',
  /** The call was sent, and its progress is unknown. Never to be repeated by ESB. */
  OUTCOME_UNKNOWN: 'OUTCOME_UNKNOWN',
  /** The function was still silent when its time and a margin were over; the worker is being restarted. */
  OUTCOME_TIMED_OUT: 'OUTCOME_TIMED_OUT',
} as const;

export type Outcome = keyof typeof Outcome;

export const Phase = {
  PHASE_UNSPECIFIED: 'PHASE_UNSPECIFIED',
  PHASE_PENDING: 'PHASE_PENDING',
  PHASE_PULLING: 'PHASE_PULLING',
  PHASE_CREATING: 'PHASE_CREATING',
  PHASE_RUNNING: 'PHASE_RUNNING',
  PHASE_PAUSING: 'PHASE_PAUSING',
  PHASE_PAUSED: 'PHASE_PAUSED',
  PHASE_RESUMING: 'PHASE_RESUMING',
  PHASE_TERMINATING: 'PHASE_TERMINATING',
  PHASE_ABSENT: 'PHASE_ABSENT',
  PHASE_FAILED: 'PHASE_FAILED',
  PHASE_UNKNOWN: 'PHASE_UNKNOWN',
} as const;

export type Phase = keyof typeof Phase;

export const Reason = {
  REASON_UNSPECIFIED: 'REASON_UNSPECIFIED',
  /** Nothing was sent to the worker. */
  REASON_NOT_FOUND: 'REASON_NOT_FOUND',
  REASON_FENCED: 'REASON_FENCED',
  REASON_PAUSED_BY_OWNER: 'REASON_PAUSED_BY_OWNER',
  REASON_QUEUE_FULL: 'REASON_QUEUE_FULL',
  REASON_START_FAILED: 'REASON_START_FAILED',
  REASON_CRASH_LOOP_BACK_OFF: 'REASON_CRASH_LOOP_BACK_OFF',
  REASON_NODE_FULL: 'REASON_NODE_FULL',
  REASON_UNAVAILABLE: 'REASON_UNAVAILABLE',
  REASON_CALLER_GONE: 'REASON_CALLER_GONE',
  REASON_INVALID_ARGUMENT: 'REASON_INVALID_ARGUMENT',
  REASON_SHARE_IN_USE: 'REASON_SHARE_IN_USE',
  REASON_BUSY: 'REASON_BUSY',
  /** The worker may have begun the call. */
  REASON_WORKER_EXITED: 'REASON_WORKER_EXITED',
  REASON_CONNECTION_LOST: 'REASON_CONNECTION_LOST',
  REASON_AGENT_STOPPED: 'REASON_AGENT_STOPPED',
  REASON_RESTARTED: 'REASON_RESTARTED',
  REASON_RESPONSE_TOO_SLOW: 'REASON_RESPONSE_TOO_SLOW',
} as const;

export type Reason = keyof typeof Reason;

export interface RecoverRequest {
  readonly worker: WorkerRef | null;
  readonly requestId: string;
  /**
   * Of the run of the agent that the call was sent to; empty where it told none. A call of another run is known not to
   * have begun where no init of its worker has had it.
   */
  readonly run: string;
  /** Milliseconds since the call was sent. */
  readonly sentMs: number;
  /** Bytes of chunks that have arrived by way of an earlier run. The answer goes on from there. */
  readonly from: number;
  /** As in InvokeStreamedRequest. */
  readonly window: number;
  readonly read: number;
  /** As in InvokeManyRequest. Messages after the first have read, arrived and done alone. */
  readonly arrived: number;
  /** As in InvokeRequest. */
  readonly confirms: boolean;
  /** As in InvokeStreamedRequest. */
  readonly done: boolean;
  /** As in InvokeRequest. */
  readonly tailLog: boolean;
}

export interface Snapshot {
  readonly workers: readonly WorkerState[];
  /** Another one for each process of an agent. */
  readonly run: string;
}

/** Use of a worker, by the kernel. */
export interface Usage {
  /** Microseconds of processor time since its container was made. */
  readonly cpuUs: number;
  /** Memory without file pages that were not read of late. */
  readonly memoryBytes: number;
  /** When that was read, in milliseconds since the epoch by the clock of the node. */
  readonly takenAtMs: number;
}

export interface WatchEvent {
  readonly snapshot?: Snapshot;
  readonly changed?: WorkerState;
  readonly removed?: WorkerRef;
}

export interface WatchRequest {}

/** Names one worker. The uid tells apart two resources that had the same name one after the other. */
export interface WorkerRef {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

export interface WorkerRequest {
  readonly worker: WorkerRef | null;
  readonly epoch: number;
}

export interface WorkerState {
  readonly worker: WorkerRef | null;
  readonly functionName: string;
  readonly epoch: number;
  readonly phase: Phase;
  /** Calls in the worker or waiting for it. */
  readonly inFlight: number;
  readonly containerId: string;
  /** Whether a call may lift it out of its resting state. */
  readonly callable: boolean;
  /** Calls that it takes at once. */
  readonly places: number;
  /** Absent where it was not asked for, and of a worker without a container. */
  readonly usage: Usage | null;
  /**
   * Of in_flight, those that another sent than who is told, and of these the ones that have a place, or will have one as
   * soon as the worker is ready. The authority of a request names its caller.
   */
  readonly others: number;
  readonly othersPlaced: number;
}
