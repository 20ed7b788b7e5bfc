import type {
  AnswerTaker,
  Found,
  InitAnswer,
  InitEnd,
  InitFault,
  InitFiles,
  InitLink,
  InitNews,
  InitRequest,
  InitState,
  WorkerInits,
} from '../../src/init/contract.ts';
import { waitUntilReady } from '../../src/init/readiness.ts';

/** A call that is in a worker. */
export interface FakeInitCall {
  readonly containerId: string;
  readonly request: InitRequest;
  /** Answers it, and has the worker wait for the next. */
  answer(text?: string, end?: Partial<InitEnd>): void;
  /** Ends it in another way. */
  end(answer: InitAnswer): void;
}

/** Milliseconds that a call may have been on its way to its agent. */
const ON_ITS_WAY_MS = 500;
/** A call of an earlier run of the agent. */
interface FoundCall {
  readonly requestId: string;
  readonly ended: boolean;
}

function foundOf(calls: readonly FoundCall[]): Found {
  const running = calls.filter(({ ended }) => !ended);
  return { running: running.length, requestId: running[0]?.requestId };
}

const readyState: InitState = { phase: 'Ready', idle: true, initMs: 10, restarts: 0 };

class FakeLink implements InitLink {
  readonly containerId: string;
  readonly #inits: FakeInits;
  state: InitState | undefined;
  found: Found = foundOf([]);
  breach: string | undefined;
  /** Monotonic milliseconds from which on the calls of the worker come to it alone, as it was told. */
  aloneSince: number | undefined;
  /** Whether this run of the agent has said where calls come. */
  isTold = false;

  constructor(containerId: string, inits: FakeInits, state: InitState | undefined) {
    this.containerId = containerId;
    this.#inits = inits;
    this.state = state;
  }

  async disconnected(): Promise<void> {
    this.#inits.readLast(this.containerId);
  }

  call(request: InitRequest): Promise<InitAnswer> {
    return this.#inits.take(this, request);
  }

  serveAlone(hasLost: boolean): void {
    if (hasLost && !this.isTold) {
      this.serveBeside();
    }
    this.isTold = true;
    this.aloneSince ??= this.#inits.now();
  }

  serveBeside(): void {
    this.isTold = true;
    this.aloneSince = undefined;
  }

  neverHad(requestId: string, sentMs: number): boolean {
    const { aloneSince = Number.POSITIVE_INFINITY, containerId, state } = this;
    const isRemembered = this.#inits.now() - aloneSince > sentMs + ON_ITS_WAY_MS;
    return state !== undefined && isRemembered && !this.#inits.had.has(`${containerId} ${requestId}`);
  }

  abort(requestId: string, message: string): void {
    this.#inits.leave(this.containerId, requestId, message);
  }

  leave(requestId: string, message: string): void {
    this.#inits.leave(this.containerId, requestId, message);
  }

  recover(requestId: string, _from: number, taker: AnswerTaker): Promise<InitAnswer> | undefined {
    return this.#inits.recover(this.containerId, requestId, taker);
  }
}

/** The inits of all workers of a node, in memory. Keeps watch over what must never happen to one. */
export class FakeInits implements WorkerInits {
  /** Calls that are in workers now, and whose callers wait. */
  readonly calls: FakeInitCall[] = [];
  /** Calls that are in workers, and whose answers have no taker. */
  readonly left: FakeInitCall[] = [];
  /** Request ids of all that were sent, in order. */
  readonly sent: string[] = [];
  /** Words of all inits, each with its container before it. */
  readonly had = new Set<string>();
  /** Containers whose files were removed, in order. */
  readonly removed: string[] = [];
  /** Faults: calls that overlapped, calls into a frozen worker or one that is not ready. */
  readonly violations: string[] = [];
  /** State that the init of a container reports as soon as the container is opened; undefined for none that connects. */
  initial: InitState | undefined = readyState;
  /** Handler of a call that arrives; by default it waits for {@link FakeInitCall.answer}. */
  onCall: (call: FakeInitCall) => void = () => undefined;
  /** Monotonic milliseconds. */
  now: () => number = () => 0;
  /** Whether a container is frozen. */
  isFrozen: (containerId: string) => boolean = () => false;
  /** Most calls of one worker at a time. */
  perWorker = 1;
  readonly heldBytes = 0;
  /** Last words of inits by container, which the agent has not read when their processes end. */
  readonly unread = new Map<string, InitFault>();
  /** Takers of answers of {@link FakeInits.left}, by request id. */
  readonly #askers = new Map<string, { readonly taker: AnswerTaker; readonly end: (answer: InitAnswer) => void }>();
  readonly #links = new Map<string, FakeLink>();
  readonly #listeners = new Set<(news: InitNews) => void>();

  async start(): Promise<void> {
    // Nothing to listen on.
  }

  async open(containerId: string): Promise<InitFiles> {
    if (!this.#links.has(containerId)) {
      this.#links.set(containerId, new FakeLink(containerId, this, this.initial));
      this.#news(containerId);
    }
    return { program: '/state/init/digest/esb-init', folder: `/run/inits/${containerId}` };
  }

  link(containerId: string): InitLink | undefined {
    return this.#links.get(containerId);
  }

  untilReady(containerId: string, signal: AbortSignal): Promise<InitState> {
    return waitUntilReady(
      () => this.#opened(containerId),
      signal,
      (look) => this.subscribe(look),
    );
  }

  async remove(containerId: string): Promise<void> {
    this.removed.push(containerId);
    this.gone(containerId, 'the container is gone');
    this.#links.delete(containerId);
  }

  async list(): Promise<readonly string[]> {
    return [...this.#links.keys()];
  }

  subscribe(listener: (news: InitNews) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async stop(): Promise<void> {
    for (const { containerId, request } of [...this.calls]) {
      this.leave(containerId, request.requestId, 'the agent stops');
    }
  }

  /** A process begins in a container, and with it another init. */
  begin(containerId: string): void {
    const link = this.#links.get(containerId) ?? new FakeLink(containerId, this, undefined);
    this.#links.set(containerId, link);
    link.breach = undefined;
    link.found = foundOf([]);
    link.aloneSince = undefined;
    link.isTold = false;
    link.state = this.initial;
    this.#news(containerId);
  }

  /** The agent is killed: the calls go on, and their answers have no taker. */
  agentGone(): void {
    for (const { containerId, request } of [...this.calls]) {
      this.leave(containerId, request.requestId, 'the agent is gone');
    }
    for (const link of this.#links.values()) {
      link.state = undefined;
      link.found = foundOf([]);
      link.isTold = false;
    }
  }

  /** The init of a container connects to the next agent. */
  reconnect(containerId: string): void {
    const found = this.left.filter((call) => call.containerId === containerId);
    this.find(
      containerId,
      found.map(({ request: { requestId } }) => ({ requestId, ended: false })),
    );
  }

  /** A call that an earlier agent has left ends. */
  endLeft(requestId: string): void {
    const call = this.left.find(({ request }) => request.requestId === requestId);
    if (call !== undefined) {
      this.left.splice(this.left.indexOf(call), 1);
      this.find(call.containerId, [{ requestId, ended: true }]);
    }
  }

  /** The init of a container tells of a change. */
  tell(containerId: string, change: Partial<InitState>): void {
    const link = this.#opened(containerId);
    link.state = { ...(link.state ?? readyState), ...change };
    this.#news(containerId);
  }

  /** The initialization of a container failed. */
  fail(containerId: string, fault: InitFault): void {
    this.tell(containerId, { phase: 'Failed', idle: false, fault });
  }

  /** An init that has connected again tells of calls that an earlier run of the agent sent. */
  find(containerId: string, found: readonly FoundCall[]): void {
    this.#opened(containerId).found = foundOf(found);
    this.tell(containerId, { idle: found.every(({ ended }) => ended) });
  }

  /** The init of a container is gone, and with it the calls in the container. */
  gone(containerId: string, message = 'the init ended'): void {
    if (this.unread.has(containerId)) {
      return;
    }
    for (const call of this.calls.filter((one) => one.containerId === containerId)) {
      call.end({ kind: 'Unknown', message });
    }
    for (const call of this.left.filter((one) => one.containerId === containerId)) {
      this.left.splice(this.left.indexOf(call), 1);
    }
    const link = this.#links.get(containerId);
    if (link !== undefined) {
      link.state = undefined;
      link.found = foundOf([]);
      this.#news(containerId);
    }
  }

  /** The agent reads the last words of an init whose process has ended. */
  readLast(containerId: string): void {
    const fault = this.unread.get(containerId);
    if (fault !== undefined) {
      this.unread.delete(containerId);
      this.fail(containerId, fault);
      this.gone(containerId);
    }
  }

  /** The init of a container broke the protocol: its connection is ended. */
  breach(containerId: string, why: string): void {
    this.#opened(containerId).breach = why;
    this.gone(containerId, why);
  }

  /** No caller waits for a call any more. The worker goes on with the call. */
  leave(containerId: string, requestId: string, message: string): void {
    const call = this.calls.find((one) => one.containerId === containerId && one.request.requestId === requestId);
    if (call !== undefined) {
      this.left.push(call);
      call.end({ kind: 'Unknown', message });
    }
  }

  /** A caller asks for the answer of a call that an earlier agent has left. */
  recover(containerId: string, requestId: string, taker: AnswerTaker): Promise<InitAnswer> | undefined {
    if (!this.left.some((one) => one.containerId === containerId && one.request.requestId === requestId)) {
      return undefined;
    }
    const { promise, resolve } = Promise.withResolvers<InitAnswer>();
    this.#askers.set(requestId, { taker, end: resolve });
    return promise;
  }

  /** Answers every call that is in a worker now. */
  answerAll(): void {
    for (const call of [...this.calls]) {
      call.answer();
    }
  }

  /** Takes a call of a link. */
  take(link: FakeLink, request: InitRequest): Promise<InitAnswer> {
    const { containerId, state } = link;
    if (state === undefined) {
      return Promise.resolve({ kind: 'NotSent', message: 'no init is connected', own: false });
    }
    if (state.phase !== 'Ready') {
      this.violations.push(`${request.requestId} was sent to ${containerId}, which is ${state.phase}`);
    }
    if (this.isFrozen(containerId)) {
      this.violations.push(`${request.requestId} was sent to ${containerId}, which is frozen`);
    }
    if ([...this.calls, ...this.left].filter((one) => one.containerId === containerId).length >= this.perWorker) {
      this.violations.push(`${request.requestId} overlaps with another call in ${containerId}`);
    }
    const done = Promise.withResolvers<InitAnswer>();
    const call: FakeInitCall = {
      containerId,
      request,
      answer: (text = '{}', end = {}) => {
        const place = this.left.indexOf(call);
        const asker = this.#askers.get(request.requestId);
        if (place >= 0) {
          this.left.splice(place, 1);
          asker?.taker.onHead({ contentType: 'application/json', streaming: false });
          asker?.taker.onChunk(Buffer.from(text));
        } else if (this.calls.includes(call)) {
          request.onHead({ contentType: 'application/json', streaming: false });
          request.onChunk(Buffer.from(text));
        }
        const size = Buffer.byteLength(text);
        const answer: InitAnswer = {
          kind: 'Ended',
          end: { outcome: 'Answered', size, durationUs: 1_000, ...end },
        };
        asker?.end(answer);
        call.end(answer);
        this.tell(containerId, { idle: this.#busy(containerId) === 0 });
      },
      end: (answer) => {
        const place = this.calls.indexOf(call);
        if (place >= 0) {
          this.calls.splice(place, 1);
          if (answer.kind === 'NotSent') {
            this.sent.splice(this.sent.lastIndexOf(request.requestId), 1);
          }
        }
        done.resolve(answer);
      },
    };
    this.calls.push(call);
    this.sent.push(request.requestId);
    this.had.add(`${link.containerId} ${request.requestId}`);
    link.state = { ...state, idle: false };
    request.onSending();
    this.onCall(call);
    return done.promise;
  }

  #busy(containerId: string): number {
    return [...this.calls, ...this.left].filter((one) => one.containerId === containerId).length;
  }

  #opened(containerId: string): FakeLink {
    const link = this.#links.get(containerId);
    if (link === undefined) {
      throw new Error(`${containerId} was never opened`);
    }
    return link;
  }

  #news(containerId: string): void {
    const { state, found, breach } = this.#opened(containerId);
    for (const listener of this.#listeners) {
      listener({ containerId, state, found, breach });
    }
  }
}
