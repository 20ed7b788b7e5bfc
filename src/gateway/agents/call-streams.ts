import type { ClientHttp2Session } from 'node:http2';
import { messageOf } from '../../common/errors.ts';
import { type AgentCall, ARRIVED_STEP_BYTES, type CallWay, inSteps, type NewCall, settle } from './agent-call.ts';
import type { AgentProtocol } from './agent-protocol.ts';
import { type GrpcEnd, GrpcStream } from './grpc-stream.ts';

/** Bytes of a streamed answer that may be on their way from worker to caller, in agent and gateway. */
export const STREAM_WINDOW_BYTES = 256 * 1024;
/** Bytes of an answer after which its agent is told that they were read. */
const READ_STEP_BYTES = STREAM_WINDOW_BYTES / 4;

/**
 * Opens a stream of a call's own, which answers as an Invoke does. Undefined, and the call refused, where the session
 * takes none.
 */
export function openStream(
  session: ClientHttp2Session,
  protocol: AgentProtocol,
  path: string,
  call: AgentCall,
  ended: (end: GrpcEnd) => void,
): GrpcStream | undefined {
  try {
    return new GrpcStream(session, path, { message: (bytes) => call.take(protocol.decodeInvoke(bytes)), ended });
  } catch (error) {
    call.refuse(messageOf(error));
    return undefined;
  }
}

/** Sends one call on a stream of its own, whose agent is told what of the answer has arrived and was read. */
export function sendStreamed(
  session: ClientHttp2Session,
  protocol: AgentProtocol,
  request: NewCall,
  call: AgentCall,
): void {
  const stream = openStream(session, protocol, protocol.invokeStreamedPath, call, (end) => settle(call, end));
  if (stream === undefined) {
    return;
  }
  call.way = tellingWay(stream, protocol.encodeInvokeStreamed);
  const invoke = { ...request, acknowledges: true, confirms: true };
  stream.write(protocol.encodeInvokeStreamed({ invoke, window: STREAM_WINDOW_BYTES }));
}

/** A stream of a call's own, whose agent is told how much of the answer has arrived and was read. */
export function tellingWay(
  stream: GrpcStream,
  encode: (words: {
    readonly read?: number;
    readonly arrived?: number;
    readonly done?: boolean;
    readonly withdraw?: boolean;
  }) => Buffer,
  from: { readonly read: number; readonly size: number } = { read: 0, size: 0 },
): CallWay {
  const tell = (words: Parameters<typeof encode>[0]): void => {
    if (stream.isWritable) {
      stream.write(encode(words));
    }
  };
  return {
    get neverSeen() {
      return stream.neverSeen;
    },
    cancel: () => stream.cancel(),
    withdraw: () => tell({ withdraw: true }),
    onRead: inSteps(READ_STEP_BYTES, from.read, (read) => tell({ read })),
    onArrived: inSteps(ARRIVED_STEP_BYTES, from.size, (arrived) => tell({ arrived })),
    onWhole: () => tell({ done: true }),
  };
}
