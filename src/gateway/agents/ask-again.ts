import type { ClientHttp2Session } from 'node:http2';
import type { RecoverRequest } from '../../protocol/generated/agent.ts';
import { type AgentCall, openStream, settle } from './agent-call.ts';
import type { AgentProtocol } from './agent-protocol.ts';

/** Asks for the answer of a call that was sent to an earlier run of the agent. Agents of earlier releases keep none. */
export function askAgain(
  session: ClientHttp2Session,
  protocol: AgentProtocol,
  request: RecoverRequest,
  call: AgentCall,
): void {
  const stream = openStream(session, protocol, protocol.recoverPath, call, (end) => {
    settle(call, stream?.isUnimplemented === true ? { ...end, code: 'Unimplemented' } : end);
  });
  if (stream !== undefined) {
    call.way = stream;
    stream.end(protocol.encodeRecover(request));
  }
}
