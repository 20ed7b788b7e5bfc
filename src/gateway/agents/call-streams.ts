import type { ClientHttp2Session } from 'node:http2';
import { messageOf } from '../../common/errors.ts';
import type { InvokeRequest } from '../../protocol/generated/agent.ts';
import type { AgentCall } from './agent-call.ts';
import type { AgentProtocol } from './agent-protocol.ts';
import { type GrpcEnd, GrpcStream } from './grpc-stream.ts';

/** Largest number of a call on a shared stream; after it calls have streams of their own. */
const MAX_CALL_NUMBER = 0xffff_ffff;

/** Sends one call on a stream of its own. */
export function sendAlone(
  session: ClientHttp2Session,
  protocol: AgentProtocol,
  request: InvokeRequest,
  call: AgentCall,
): void {
  let stream: GrpcStream;
  try {
    stream = new GrpcStream(session, protocol.invokePath, {
      message: (bytes) => call.take(protocol.decodeInvoke(bytes)),
      ended: (end) => settle(call, end),
    });
  } catch (error) {
    call.refuse(messageOf(error));
    return;
  }
  call.way = stream;
  stream.end(protocol.encodeInvoke(request));
}

/** A stream that carries many small calls to one agent, numbered. */
export class SharedCallStream {
  readonly #protocol: AgentProtocol;
  readonly #stream: GrpcStream;
  readonly #calls = new Map<number, AgentCall>();
  #last = 0;
  #open = true;

  /** Errors of a session that takes no streams are thrown as they are. */
  constructor(session: ClientHttp2Session, protocol: AgentProtocol) {
    this.#protocol = protocol;
    this.#stream = new GrpcStream(session, protocol.invokeManyPath, {
      message: (bytes) => this.#take(bytes),
      ended: (end) => this.#ended(end),
    });
  }

  /** Whether it takes calls. */
  get isOpen(): boolean {
    return this.#open && this.#stream.isWritable && this.#last < MAX_CALL_NUMBER;
  }

  send(request: InvokeRequest, call: AgentCall): void {
    this.#last += 1;
    const number = this.#last;
    this.#calls.set(number, call);
    const stream = this.#stream;
    call.way = {
      get neverSeen() {
        // At an orderly end the agent has answered all calls that it took. The loss of the connection right after may
        // be noticed first.
        return stream.neverSeen || stream.isEndedInOrder;
      },
      cancel: () => this.#cancel(number),
    };
    this.#stream.write(this.#protocol.encodeInvokeMany({ call: number, invoke: request }));
  }

  #cancel(number: number): void {
    if (this.#calls.delete(number) && this.#stream.isWritable) {
      this.#stream.write(this.#protocol.encodeInvokeMany({ call: number, cancel: true }));
    }
  }

  #take(bytes: Buffer): void {
    const { call: number, answer, failure } = this.#protocol.decodeInvokeMany(bytes);
    const call = this.#calls.get(number);
    if (answer !== null) {
      call?.take(answer);
    }
    if (failure !== null) {
      call?.fail(failure);
    }
    if (failure !== null || (answer !== null && answer.trailer !== null)) {
      this.#calls.delete(number);
    }
  }

  #ended(end: GrpcEnd): void {
    this.#open = false;
    for (const call of this.#calls.values()) {
      settle(call, end);
    }
    this.#calls.clear();
  }
}

/** Settles a call whose stream ended without the end of its answer. */
function settle(call: AgentCall, end: GrpcEnd): void {
  if (end.code === undefined) {
    call.lose(end.message);
  } else {
    call.fail({ code: end.code, message: end.message, reasonCode: 'REASON_UNSPECIFIED' });
  }
}
