import { unreachable } from '../../common/errors.ts';
import type { TraceSpan, Tracing } from '../../common/tracing/span.ts';
import { continuedXRay, formatTraceParent, parentOf } from '../../common/tracing/trace-context.ts';
import type { AgentAnswer } from '../agents/agent-call.ts';
import type { WorkerEntry } from '../agents/fleet-view.ts';
import type { FunctionCall } from '../agents/function-call.ts';

/** A call on its way to one agent. There are several of one call where workers refuse it. */
export interface SendingSpan {
  readonly span: TraceSpan;
  /** The trace headers for the agent. */
  readonly traceParent: string;
  readonly traceId: string;
}

export function beginSending(tracing: Tracing, call: FunctionCall, worker: WorkerEntry, nodeName: string): SendingSpan {
  const span = tracing.begin('esb.agent.v1.Agent/Invoke', {
    kind: 'client',
    parent: parentOf(call.traceParent, call.traceId),
    attributes: {
      'rpc.system': 'grpc',
      'rpc.service': 'esb.agent.v1.Agent',
      'rpc.method': 'Invoke',
      'faas.invocation_id': call.requestId,
      'faas.invoked_name': call.reference.name,
      'esb.worker': worker.name,
      'esb.node': nodeName,
    },
  });
  return {
    span,
    traceParent: formatTraceParent(span.context),
    traceId: continuedXRay(call.traceId, span.context),
  };
}

export function endSending({ span }: SendingSpan, answer: AgentAnswer): void {
  span.set({ 'esb.outcome': answer.kind });
  switch (answer.kind) {
    case 'Answered':
      break;
    case 'TimedOut':
      span.fail(answer.kind);
      break;
    case 'Refused':
    case 'Unknown':
      span.set({ 'esb.reason': answer.reason });
      span.fail(answer.message);
      break;
    default:
      unreachable(answer);
  }
  span.end();
}
