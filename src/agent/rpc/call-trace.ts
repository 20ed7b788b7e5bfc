import { EsbError, unreachable } from '../../common/errors.ts';
import type { TraceSpan, Tracing } from '../../common/tracing/span.ts';
import { continuedXRay, parentOf } from '../../common/tracing/trace-context.ts';
import type { InvokeRequest } from '../../protocol/generated/agent.ts';
import type { InvocationResult, InvocationTimings, InvocationTrace, RunTrace } from '../model/invocation.ts';

/**
 * The spans of one call at its agent: the whole of it, and below that the making of a ready worker, the wait for other
 * calls, and each run in the worker. The worker gets the last of these as its parent.
 */
export class CallTrace implements InvocationTrace {
  readonly #tracing: Tracing;
  readonly #givenTraceId: string;
  readonly #arrivedAt: number;
  readonly #whole: TraceSpan;

  constructor(tracing: Tracing, request: InvokeRequest) {
    this.#tracing = tracing;
    this.#givenTraceId = request.traceId;
    this.#arrivedAt = tracing.now();
    this.#whole = tracing.begin('esb.agent.v1.Agent/Invoke', {
      kind: 'server',
      parent: parentOf(request.traceParent, request.traceId),
      startedAt: this.#arrivedAt,
      attributes: {
        'rpc.system': 'grpc',
        'rpc.service': 'esb.agent.v1.Agent',
        'rpc.method': 'Invoke',
        'faas.invocation_id': request.requestId,
        'k8s.namespace.name': request.worker?.namespace ?? '',
        'esb.worker': request.worker?.name ?? '',
      },
    });
  }

  running(): RunTrace {
    const span = this.#tracing.begin('run', { kind: 'client', parent: this.#whole.context });
    return {
      traceId: continuedXRay(this.#givenTraceId, span.context),
      end: (fault) => {
        if (fault !== undefined) {
          span.fail(fault);
        }
        span.end();
      },
    };
  }

  /** The call has ended. */
  end(result: InvocationResult): void {
    const span = this.#whole;
    span.set({ 'esb.outcome': result.kind });
    switch (result.kind) {
      case 'Answered':
        this.#stages(result.timings);
        break;
      case 'TimedOut':
        this.#stages(result.timings);
        span.fail(result.message);
        break;
      case 'Refused':
      case 'Unknown':
        span.set({ 'esb.reason': result.reason });
        span.fail(result.message);
        break;
      default:
        unreachable(result);
    }
    span.end();
  }

  /** The call has ended otherwise. */
  fail(error: unknown): void {
    const { code, message } = EsbError.from(error);
    this.#whole.set({ 'esb.reason': code });
    this.#whole.fail(message);
    this.#whole.end();
  }

  /** Spans before the run, which are known only afterwards. */
  #stages({ queued, start, wake }: InvocationTimings): void {
    this.#whole.set({ 'esb.start': start, 'faas.coldstart': start === 'absent' });
    const readyAt = this.#arrivedAt + wake / 1_000;
    if (start !== 'running') {
      this.#stage('wake', this.#arrivedAt, readyAt);
    }
    this.#stage('queue', readyAt, readyAt + queued / 1_000);
  }

  #stage(name: string, startedAt: number, endedAt: number): void {
    this.#tracing.begin(name, { kind: 'internal', parent: this.#whole.context, startedAt }).end(endedAt);
  }
}
