import type { ClientHttp2Session } from 'node:http2';
import type { Clock, Timer } from '../../common/clock.ts';
import { messageOf } from '../../common/errors.ts';
import type { InvokeManyRequest, RecoverRequest } from '../../protocol/generated/agent.ts';
import { reasonCodeOf } from '../../protocol/reasons.ts';
import type { Sparse } from '../../protocol/sparse.ts';
import type { AgentCall, AnswerSoFar, CallWay, NewCall } from './agent-call.ts';
import type { AgentProtocol } from './agent-protocol.ts';
import { type GrpcEnd, GrpcStream } from './grpc-stream.ts';

/** Bytes of a streamed answer that may be on their way from worker to caller, in agent and gateway. */
const STREAM_WINDOW_BYTES = 256 * 1024;
/** Bytes of an answer after which its agent is told that they were read. */
const READ_STEP_BYTES = STREAM_WINDOW_BYTES / 4;
/** Bytes of an answer after which its agent is told that they have arrived; until then the init of the worker holds them. */
const ARRIVED_STEP_BYTES = 16 * 1024;
/** Largest number of a call on a shared stream; after it calls have streams of their own. */
const MAX_CALL_NUMBER = 0xffff_ffff;

/** Milliseconds until the agent hears which answers have arrived, unless another word goes there before. */
const GATHER_MS = 100;

/** End of a call for which the next run of its agent was asked. */
export type AskedAgain = 'recovered' | 'not_started' | 'unknown';

/** A call that an earlier run of an agent was sent. */
export type LostCall = Pick<RecoverRequest, 'worker' | 'requestId' | 'run' | 'sentMs' | 'tailLog'>;

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

/** A stream that carries many small calls to one agent, numbered. */
export class SharedCallStream {
  readonly #protocol: AgentProtocol;
  readonly #stream: GrpcStream;
  readonly #calls = new Map<number, AgentCall>();
  readonly #clock: Clock;
  /** Numbers of calls whose answers have arrived, as the agent has yet to hear. */
  readonly #arrived: number[] = [];
  #gathering: Timer | undefined;
  #last = 0;
  #open = true;

  /** Errors of a session that takes no streams are thrown as they are. */
  constructor(session: ClientHttp2Session, protocol: AgentProtocol, clock: Clock) {
    this.#protocol = protocol;
    this.#clock = clock;
    this.#stream = new GrpcStream(session, protocol.invokeManyPath, {
      message: (bytes) => this.#take(bytes),
      ended: (end) => this.#ended(end),
    });
  }

  get isOpen(): boolean {
    return this.#open && this.#stream.isWritable && this.#last < MAX_CALL_NUMBER;
  }

  send(request: NewCall, call: AgentCall): void {
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
      withdraw: () => this.#tell(number, { withdraw: true }),
      onArrived: inSteps(ARRIVED_STEP_BYTES, 0, (arrived) => this.#tell(number, { arrived })),
    };
    this.#write({ call: number, invoke: { ...request, acknowledges: true, confirms: true } });
  }

  /** Passes on a word, and that answers have arrived. */
  #write(message: Sparse<InvokeManyRequest>): void {
    const done = this.#arrived.splice(0);
    this.#stream.write(this.#protocol.encodeInvokeMany(done.length === 0 ? message : { ...message, done }));
  }

  /** Most words of arrival go with the next call. */
  #hasArrived(number: number): void {
    this.#arrived.push(number);
    this.#gathering ??= this.#clock.setTimer(() => {
      this.#gathering = undefined;
      if (this.#arrived.length > 0 && this.#stream.isWritable) {
        this.#write({});
      }
    }, GATHER_MS);
  }

  #tell(number: number, words: Pick<Sparse<InvokeManyRequest>, 'arrived' | 'withdraw'>): void {
    if (this.#calls.has(number) && this.#stream.isWritable) {
      this.#write({ call: number, ...words });
    }
  }

  #cancel(number: number): void {
    if (this.#calls.delete(number) && this.#stream.isWritable) {
      this.#write({ call: number, cancel: true });
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
      this.#hasArrived(number);
    }
  }

  #ended(end: GrpcEnd): void {
    this.#open = false;
    this.#gathering?.cancel();
    for (const call of this.#calls.values()) {
      settle(call, end);
    }
    this.#calls.clear();
  }
}

/**
 * Opens a stream of a call's own, which answers as an Invoke does. Undefined, and the call refused, where the session
 * takes none.
 */
function openStream(
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

/** A stream of a call's own, whose agent is told how much of the answer has arrived and was read. */
function tellingWay(
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

/** Tells of a number that grows, each time that it has grown by so much. */
function inSteps(step: number, from: number, tell: (bytes: number) => void): (bytes: number) => void {
  let said = from;
  return (bytes) => {
    if (bytes - said >= step) {
      said = bytes;
      tell(bytes);
    }
  };
}

/** Settles a call whose stream ended without the end of its answer. */
function settle(call: AgentCall, end: GrpcEnd): void {
  if (end.code === undefined) {
    call.lose(end.message);
  } else {
    call.fail({ code: end.code, message: end.message, reasonCode: reasonCodeOf(end.code) });
  }
}
