import type { ClientHttp2Session } from 'node:http2';
import { messageOf } from '../../common/errors.ts';
import type { RecoverRequest } from '../../protocol/generated/agent.ts';
import { type AgentCall, settle } from './agent-call.ts';
import type { AgentProtocol } from './agent-protocol.ts';
import { GrpcStream } from './grpc-stream.ts';

/** Asks for the answer of a call that was sent to an earlier run of the agent. Agents of earlier releases keep none. */
export function askAgain(
  session: ClientHttp2Session,
  protocol: AgentProtocol,
  request: RecoverRequest,
  call: AgentCall,
): void {
  let stream: GrpcStream;
  try {
    stream = new GrpcStream(session, protocol.recoverPath, {
      message: (bytes) => call.take(protocol.decodeInvoke(bytes)),
      ended(end) {
        settle(call, stream.isUnimplemented ? { ...end, code: 'Unimplemented' } : end);
      },
    });
  } catch (error) {
    call.refuse(messageOf(error));
    return;
  }
  call.way = stream;
  stream.end(protocol.encodeRecover(request));
}
