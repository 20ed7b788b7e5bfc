import type { ClientHttp2Session } from 'node:http2';
import type { Clock, Timer } from '../../common/clock.ts';
import type { InvokeManyRequest } from '../../protocol/generated/agent.ts';
import type { Sparse } from '../../protocol/sparse.ts';
import { type AgentCall, ARRIVED_STEP_BYTES, inSteps, type NewCall, settle } from './agent-call.ts';
import type { AgentProtocol } from './agent-protocol.ts';
import { type GrpcEnd, GrpcStream } from './grpc-stream.ts';

/** Largest number of a call on a shared stream; after it calls have streams of their own. */
const MAX_CALL_NUMBER = 0xffff_ffff;

/** Milliseconds until the agent hears which answers have arrived, unless another word goes there before. */
const GATHER_MS = 100;

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
