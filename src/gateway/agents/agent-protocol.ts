import { fileURLToPath } from 'node:url';
import { loadSync, type MethodDefinition, type ServiceDefinition } from '@grpc/proto-loader';
import { EsbError } from '../../common/errors.ts';
import { checkedAnswer, checkedCode, checkedEvent, checkedMessage } from './agent-claims.ts';
import type {
  InvokeManyRequest,
  InvokeManyResponse,
  InvokeRequest,
  InvokeResponse,
  WatchEvent,
} from './agent-messages.ts';

/**
 * The messages of the agent's API that a gateway sends and reads, as bytes. What is read is an agent's word: it comes out in
 * form, or not at all.
 */
export interface AgentProtocol {
  readonly invokePath: string;
  readonly invokeManyPath: string;
  readonly watchPath: string;
  encodeInvoke(request: InvokeRequest): Buffer;
  decodeInvoke(bytes: Buffer): InvokeResponse;
  encodeInvokeMany(request: InvokeManyRequest): Buffer;
  decodeInvokeMany(bytes: Buffer): InvokeManyResponse;
  encodeWatch(): Buffer;
  decodeWatch(bytes: Buffer): WatchEvent;
}

/** Reads proto/esb/agent/v1/agent.proto. */
export function loadAgentProtocol(): AgentProtocol {
  const definition = loadSync('esb/agent/v1/agent.proto', {
    keepCase: false,
    longs: Number,
    enums: String,
    defaults: true,
    oneofs: false,
    includeDirs: [fileURLToPath(new URL('../../../proto', import.meta.url))],
  })['esb.agent.v1.Agent'] as ServiceDefinition | undefined;
  const invoke = methodOf<InvokeRequest, InvokeResponse>(definition, 'Invoke');
  const invokeMany = methodOf<InvokeManyRequest, InvokeManyResponse>(definition, 'InvokeMany');
  const watch = methodOf<object, WatchEvent>(definition, 'Watch');
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
        failure:
          failure === null
            ? null
            : { code: checkedCode(failure.code), message: checkedMessage(failure.message) },
      };
    },
    encodeWatch: () => watch.requestSerialize({}),
    decodeWatch: (bytes) => checkedEvent(watch.responseDeserialize(bytes)),
  };
}

function methodOf<Request, Response>(
  service: ServiceDefinition | undefined,
  name: string,
): MethodDefinition<Request, Response> {
  const method = service?.[name];
  if (method === undefined) {
    throw new EsbError(`the agent's protocol has no method ${name}`, { code: 'Internal' });
  }
  return method as unknown as MethodDefinition<Request, Response>;
}
