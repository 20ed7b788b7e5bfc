import type { TraceSpan, Tracing } from '../../common/tracing/span.ts';
import {
  continuedXRay,
  formatTraceParent,
  formatXRay,
  parentOf,
  parseTraceParent,
} from '../../common/tracing/trace-context.ts';
import { type Principal, principalName } from '../access/principal.ts';
import { startKind } from '../lambda/start-kind.ts';
import type { CallInfo, CallObservation, CallObserver, CallReport } from './call-observer.ts';

/** All that is known of a request once it has been answered. */
export interface CallRecord {
  readonly info: CallInfo;
  /** As the request names it; empty for none. It need not exist. */
  readonly functionName: string;
  /** The invocation type; empty for other operations. */
  readonly kind: string;
  /** Undefined where nobody has been told who it is. */
  readonly principal: Principal | undefined;
  readonly requestBytes: number;
  /** Milliseconds that it waited in the gateway. */
  readonly queuedMs: number;
  /** 32 hexadecimal digits; empty for none. */
  readonly trace: string;
}

/** Told of each request, once it has been answered. */
export interface CallListener {
  answered(record: CallRecord, report: CallReport): void;
}

export interface CallObserverOptions {
  readonly listeners: readonly CallListener[];
  /** Where spans go; without it traces are handed on as they came. */
  readonly tracing?: Tracing | undefined;
}

/** Follows every request: for spans while it goes on, for everybody else once it is over. */
export function createCallObserver(options: CallObserverOptions): CallObserver {
  const { listeners, tracing } = options;
  return {
    begin: (info) =>
      tracing === undefined ? new ObservedCall(info, listeners) : new TracedCall(info, listeners, tracing),
  };
}

/** A request of which is remembered what is told at its end. One is made for each request: it has to be cheap. */
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
    if (parent === undefined) {
      this.traceParent = '';
    } else {
      this.traceParent = formatTraceParent(parent);
      if (this.traceId === '') {
        // The form in which workers are told.
        this.traceId = formatXRay(parent);
      }
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
 * A request that is a span as well, from the moment on at which it is known who makes it: a stranger has no say in which traces are kept, and
 * what strangers send is no work for whoever keeps them.
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
    const { operation, requestId, message } = this.info;
    this.#span = this.#tracing.begin(operation, {
      kind: 'server',
      parent: parentOf(this.traceParent, this.traceId),
      startedAt: this.#startedAt,
      attributes: {
        'rpc.system': 'aws-api',
        'rpc.service': 'Lambda',
        'rpc.method': operation,
        'faas.invocation_id': requestId,
        'client.address': message.socket.remoteAddress ?? '',
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

/** Whether a server is to blame for it: what a caller did wrong is no error of ours (OpenTelemetry, "HTTP spans, status"). */
function isFault({ result, status }: CallReport): boolean {
  return status >= 500 || result === 'function_error' || result === 'timed_out' || result === 'unknown';
}

function textOf(value: string | string[] | undefined): string {
  return typeof value === 'string' ? value : (value?.[0] ?? '');
}
