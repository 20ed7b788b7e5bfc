import type { ClientHttp2Session } from 'node:http2';
import type { RecoverRequest } from '../../protocol/generated/agent.ts';
import { type AgentCall, type AnswerSoFar, settle } from './agent-call.ts';
import type { AgentProtocol } from './agent-protocol.ts';
import { openStream, STREAM_WINDOW_BYTES, tellingWay } from './call-streams.ts';
import type { GrpcStream } from './grpc-stream.ts';

/** End of a call for which the next run of its agent was asked. */
export type AskedAgain = 'recovered' | 'not_started' | 'unknown';

/** A call that an earlier run of an agent was sent. */
export type LostCall = Pick<RecoverRequest, 'worker' | 'requestId' | 'run' | 'sentMs' | 'tailLog'>;

/** Asks for the rest of the answer of a call that was sent to an earlier run of the agent. */
export function askAgain(
  session: ClientHttp2Session,
  protocol: AgentProtocol,
  request: LostCall,
  call: AgentCall,
  soFar: AnswerSoFar,
): void {
  const stream = openRecovery(session, protocol, call);
  if (stream !== undefined) {
    const { size } = soFar;
    const read = soFar.read.bytes;
    call.way = tellingWay(stream, protocol.encodeRecover, { read, size });
    const from = { from: size, window: STREAM_WINDOW_BYTES, read, confirms: true };
    stream.write(protocol.encodeRecover({ ...request, ...from }));
  }
}

function openRecovery(session: ClientHttp2Session, protocol: AgentProtocol, call: AgentCall): GrpcStream | undefined {
  const stream = openStream(session, protocol, protocol.recoverPath, call, (end) => {
    settle(call, stream?.isUnimplemented === true ? { ...end, code: 'Unimplemented' } : end);
  });
  return stream;
}
