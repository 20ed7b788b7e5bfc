import type { IncomingMessage } from 'node:http';
import type { InvokeTimings } from '../../protocol/generated/agent.ts';
import type { Principal } from '../access/principal.ts';

/** What is known of a request before anything has been looked at. */
export interface CallInfo {
  readonly requestId: string;
  /** `Invoke`, `GetFunction`, …; `Unknown` for what is no operation. */
  readonly operation: string;
  /** For its headers and address. */
  readonly message: IncomingMessage;
}

/** What is told of each request, once it is answered. */
export interface CallReport {
  /** `ok`, `function_error`, `timed_out`, `unknown`, `accepted`, `dry_run`, `hung_up`, or the name of an error. */
  readonly result: string;
  /** The HTTP status; 0 when nothing was answered. */
  readonly status: number;
  /** Milliseconds from the whole request to the answer. */
  readonly durationMs: number;
  /** What the call found: `running`, `paused` or `absent`; empty when it ran nowhere. */
  readonly start: string;
  /** Of calls that a worker answered. */
  readonly timings: InvokeTimings | undefined;
  /** Bytes of the answer's body. */
  readonly answerBytes: number;
}

/** Follows one request. */
export interface CallObservation {
  /** W3C `traceparent` that goes on with the call; empty for none. */
  readonly traceParent: string;
  /** `X-Amzn-Trace-Id` that goes on with the call, and back to the caller; empty for none. */
  readonly traceId: string;
  /** The caller has proved who it is. */
  identified(principal: Principal): void;
  /** The request means this function. `kind` is the invocation type, empty for the read side. */
  addressed(functionName: string, kind: string, requestBytes: number): void;
  /** The call has its place, for which it waited so long. */
  admitted(queuedMs: number): void;
  /** The answer has been handed over. Called once, for every observation. */
  end(report: CallReport): void;
}

/** Told of every request. */
export interface CallObserver {
  begin(info: CallInfo): CallObservation;
}

const nothing = (): void => undefined;

/** Follows a request and does nothing about it. */
export const UNOBSERVED: CallObservation = {
  traceParent: '',
  traceId: '',
  identified: nothing,
  addressed: nothing,
  admitted: nothing,
  end: nothing,
};
