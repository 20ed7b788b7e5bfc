import type { IncomingMessage } from 'node:http';
import type { TraceSpan, Tracing } from '../../common/tracing/span.ts';
import {
  continuedXRay,
  formatTraceParent,
  formatXRay,
  parentOf,
  parseTraceParent,
} from '../../common/tracing/trace-context.ts';
import type { InvokeTimings } from '../../protocol/generated/agent.ts';
import { type Principal, principalName } from '../access/principal.ts';

/** How a call found its worker, as `X-Esb-Start` and metrics name it; empty when the call ran nowhere. */
export type StartKind = 'warm' | 'resumed' | 'cold' | '';

/**
 * @param start the worker's state before the call, in the words of its agent: `running`, `paused`, `absent` or empty
 */
export function startKind(start: string): StartKind {
  switch (start) {
    case '':
      return '';
    case 'running':
      return 'warm';
    case 'paused':
      return 'resumed';
    default:
      return 'cold';
  }
}

/** A request before anything of it has been looked at. */
export interface CallInfo {
  readonly requestId: string;
  /** `Invoke`, `GetFunction`, …; `Unknown` for a request that is no operation. */
  readonly operation: string;
  /** For its headers and address. */
  readonly message: IncomingMessage;
  /** Of the client, where a proxy that is believed has named one; that of the connection when absent. */
  readonly address?: string;
}

export interface CallReport {
  /**
   * `ok`, `function_error`, `timed_out`, `exited`, `interrupted`, `too_large`, `init_failed`, `unknown`, `accepted`,
   * `dry_run`, `hung_up`, or the name of an error.
   */
  readonly result: string;
  /** The HTTP status; 0 when nothing was answered. */
  readonly status: number;
  /** Milliseconds from the whole request to the answer. */
  readonly durationMs: number;
  /** The worker's state before the call: `running`, `paused` or `absent`; empty when the call ran nowhere. */
  readonly start: string;
  /** Of calls that a worker answered. */
  readonly timings: InvokeTimings | undefined;
  readonly answerBytes: number;
}

export interface CallObservation {
  /** W3C `traceparent` that goes on with the call; empty for none. */
  readonly traceParent: string;
  /** `X-Amzn-Trace-Id` that goes on with the call, and back to the caller; empty for none. */
  readonly traceId: string;
  identified(principal: Principal): void;
  /** The request names this function. `kind` is the invocation type, empty for the read side. */
  addressed(functionName: string, kind: string, requestBytes: number): void;
  /** The call has its place, after a wait of `queuedMs` milliseconds. */
  admitted(queuedMs: number): void;
  /** The answer has been handed over. To be called once. */
  end(report: CallReport): void;
}

export type CallObserver = (info: CallInfo) => CallObservation;

const nothing = (): void => undefined;

/** An observation without effect. */
export const UNOBSERVED: CallObservation = {
  traceParent: '',
  traceId: '',
  identified: nothing,
  addressed: nothing,
  admitted: nothing,
  end: nothing,
};

/** The report of a request that has not run, but for its result and status. */
export const NOT_RUN = { durationMs: 0, start: '', timings: undefined, answerBytes: 0 } as const;

/** A request that has been answered. */
export interface CallRecord {
  readonly info: CallInfo;
  /** The name in the request; empty for none. No function need have it. */
  readonly functionName: string;
  /** The invocation type; empty for other operations. */
  readonly kind: string;
  /** Undefined for a sender that is not proved. */
  readonly principal: Principal | undefined;
  readonly requestBytes: number;
  /** Milliseconds that the call waited in the gateway. */
  readonly queuedMs: number;
  /** 32 hexadecimal digits; empty for none. */
  readonly trace: string;
}

/** Notified of each request once it has been answered. */
export interface CallListener {
  answered(record: CallRecord, report: CallReport): void;
}

/**
 * Follows every request: makes its spans, and notifies the listeners of its end.
 *
 * @param tracing receives spans; without it trace headers are handed on unchanged
 */
export function createCallObserver(listeners: readonly CallListener[], tracing: Tracing | undefined): CallObserver {
  return (info) =>
    tracing === undefined ? new ObservedCall(info, listeners) : new TracedCall(info, listeners, tracing);
}

/** Collects the record of a request. One is made for each request: the constructor has to be cheap. */
class ObservedCall implements CallObservation, CallRecord {
  readonly info: CallInfo;
  traceParent: string;
  traceId: string;
  functionName = '';
  kind = '';
  principal: Principal | undefined;
  requestBytes = 0;
  queuedMs = 0;
  readonly #listeners: readonly CallListener[];

  constructor(info: CallInfo, listeners: readonly CallListener[]) {
    this.info = info;
    this.#listeners = listeners;
    const { headers } = info.message;
    this.traceId = textOf(headers['x-amzn-trace-id']);
    const given = textOf(headers.traceparent);
    const parent = given === '' ? undefined : parseTraceParent(given);
    this.traceParent = parent === undefined ? '' : formatTraceParent(parent);
    if (parent !== undefined && this.traceId === '') {
      // Workers know this form.
      this.traceId = formatXRay(parent);
    }
  }

  get trace(): string {
    return parentOf(this.traceParent, this.traceId)?.traceId ?? '';
  }

  identified(principal: Principal): void {
    this.principal = principal;
  }

  addressed(functionName: string, kind: string, requestBytes: number): void {
    this.functionName = functionName;
    this.kind = kind;
    this.requestBytes = requestBytes;
  }

  admitted(queuedMs: number): void {
    this.queuedMs = queuedMs;
  }

  end(report: CallReport): void {
    for (const listener of this.#listeners) {
      listener.answered(this, report);
    }
  }
}

/**
 * A request with a span, which begins once the sender is proved: an unproved sender neither decides which traces are
 * kept nor makes work for their receiver.
 */
class TracedCall extends ObservedCall {
  readonly #tracing: Tracing;
  readonly #startedAt: number;
  #span: TraceSpan | undefined;

  constructor(info: CallInfo, listeners: readonly CallListener[], tracing: Tracing) {
    super(info, listeners);
    this.#tracing = tracing;
    this.#startedAt = tracing.now();
  }

  override identified(principal: Principal): void {
    super.identified(principal);
    const { address, operation, requestId, message } = this.info;
    this.#span = this.#tracing.begin(operation, {
      kind: 'server',
      parent: parentOf(this.traceParent, this.traceId),
      startedAt: this.#startedAt,
      attributes: {
        'rpc.system': 'aws-api',
        'rpc.service': 'Lambda',
        'rpc.method': operation,
        'faas.invocation_id': requestId,
        'client.address': address ?? message.socket.remoteAddress ?? '',
      },
    });
    this.traceParent = formatTraceParent(this.#span.context);
    this.traceId = continuedXRay(this.traceId, this.#span.context);
  }

  override admitted(queuedMs: number): void {
    super.admitted(queuedMs);
    if (queuedMs > 0 && this.#span !== undefined) {
      const now = this.#tracing.now();
      this.#tracing
        .begin('queue', { kind: 'internal', parent: this.#span.context, startedAt: now - queuedMs })
        .end(now);
    }
  }

  override end(report: CallReport): void {
    this.#endSpan(report);
    super.end(report);
  }

  #endSpan(report: CallReport): void {
    const span = this.#span;
    if (span === undefined) {
      return;
    }
    span.set({
      'http.response.status_code': report.status,
      'http.request.body.size': this.requestBytes,
      'http.response.body.size': report.answerBytes,
      'esb.outcome': report.result,
      ...(this.functionName === '' ? {} : { 'faas.invoked_name': this.functionName }),
      ...(this.kind === '' ? {} : { 'esb.invocation_type': this.kind }),
      ...(this.principal === undefined ? {} : { 'enduser.id': principalName(this.principal) }),
      ...(report.start === '' ? {} : { 'esb.start': startKind(report.start) }),
    });
    if (isFault(report)) {
      span.fail(report.result);
    }
    span.end();
  }
}

const FAULTS: ReadonlySet<string> = new Set([
  'function_error',
  'timed_out',
  'exited',
  'interrupted',
  'too_large',
  'init_failed',
  'unknown',
]);

/** Whether the server side failed: an error of the caller is none of the span (OpenTelemetry, "HTTP spans, status"). */
function isFault({ result, status }: CallReport): boolean {
  return status >= 500 || FAULTS.has(result);
}

function textOf(value: string | string[] | undefined): string {
  return typeof value === 'string' ? value : (value?.[0] ?? '');
}
