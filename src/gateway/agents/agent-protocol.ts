import { loadAgentProto } from '../../protocol/agent-proto.ts';
import type {
  InvokeManyRequest,
  InvokeManyResponse,
  InvokeRequest,
  InvokeResponse,
  WatchEvent,
} from '../../protocol/generated/agent.ts';
import type { Sparse } from '../../protocol/sparse.ts';
import { checkedAnswer, checkedEvent, checkedFailure } from './agent-claims.ts';

/**
 * The messages of the agent's API that a gateway sends and reads, as bytes. A message of an agent is not trusted: the
 * decoded form is checked.
 */
export interface AgentProtocol {
  readonly invokePath: string;
  readonly invokeManyPath: string;
  readonly watchPath: string;
  encodeInvoke(request: InvokeRequest): Buffer;
  decodeInvoke(bytes: Buffer): InvokeResponse;
  encodeInvokeMany(request: Sparse<InvokeManyRequest>): Buffer;
  decodeInvokeMany(bytes: Buffer): InvokeManyResponse;
  encodeWatch(): Buffer;
  decodeWatch(bytes: Buffer): WatchEvent;
}

/** The codec over proto/esb/agent/v1/agent.proto. */
export function loadAgentProtocol(): AgentProtocol {
  const { Invoke: invoke, InvokeMany: invokeMany, Watch: watch } = loadAgentProto().agent;
  return {
    invokePath: invoke.path,
    invokeManyPath: invokeMany.path,
    watchPath: watch.path,
    encodeInvoke: invoke.requestSerialize,
    decodeInvoke: (bytes) => checkedAnswer(invoke.responseDeserialize(bytes)),
    encodeInvokeMany: invokeMany.requestSerialize,
    decodeInvokeMany(bytes) {
      const { call, answer, failure } = invokeMany.responseDeserialize(bytes);
      return {
        call,
        answer: answer === null ? null : checkedAnswer(answer),
        failure: failure === null ? null : checkedFailure(failure),
      };
    },
    encodeWatch: () => watch.requestSerialize({}),
    decodeWatch: (bytes) => checkedEvent(watch.responseDeserialize(bytes)),
  };
}
