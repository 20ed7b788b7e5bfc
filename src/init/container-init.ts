import type { Duplex } from 'node:stream';
import type { Clock, Timer } from '../common/clock.ts';
import { unreachable } from '../common/errors.ts';
import { type Allowance, Allowances } from './allowance.ts';
import { markOf, neverHad } from './call-history.ts';
import { type Connected, newConnection } from './connected.ts';
import type { AnswerTaker, Found, InitAnswer, InitLink, InitNews, InitRequest, InitState } from './contract.ts';
import { FoundCalls } from './found-calls.ts';
import { eventFrames, InitBreach, linesFrame } from './frames.ts';
import { InitConnection, type MessageUse } from './init-connection.ts';
import { KeptAnswers, MAX_KNOWN } from './kept-answers.ts';
import type { CallTold, Hello, InitMessage } from './messages.ts';
import { OpenCalls } from './open-calls.ts';
import { mistakeIn, orderFrame } from './order.ts';
import { ARRIVAL_WINDOW_BYTES, SentCall } from './sent-call.ts';

/** Milliseconds in which a connection has to say who it is. */
const HELLO_MS = 5_000;
/**
 * Milliseconds in which an init has to name the calls that it knows. The breach of one that does not is
 * reported before its worker counts as lost.
 */
const WHOLE_MS = 15_000;
/** Bytes that the agent keeps of a call that an init has named, beside its id. */
const KNOWN_BYTES = 256;
const NONE: Found = { running: 0, requestId: undefined };
/** Milliseconds that calls wait for the return of their init. */
const RETURN_MS = 2_000;
/** Milliseconds in which gateways ask for the answers of calls that an earlier run of the agent has sent. */
const ASKED_MS = 60_000;

/** Parts of the hub that a container needs. */
export interface ContainerInitOptions {
  readonly clock: Clock;
  /** Allowances of the node. Default: of this container alone. */
  readonly allowances?: Allowances | undefined;
  /** Absent for none. */
  readonly namespace?: string | undefined;
  readonly onNews: (news: InitNews) => void;
  /** A connection has ended, and another may come. */
  readonly onFree: () => void;
}

/**
 * The init of one container. Any process of the container may connect in its place, and can harm its own worker alone:
 * the first connection stays until its end, and meanwhile nothing listens for a second.
 */
export class ContainerInit implements InitLink {
  readonly containerId: string;
  readonly #options: ContainerInitOptions;
  readonly #calls: OpenCalls;
  readonly #kept: KeptAnswers;
  readonly #allowance: Allowance;
  #connected: Connected | undefined;
  #session: string | undefined;
  #lost: Timer | undefined;
  #breach: string | undefined;
  #failed: InitState | undefined;
  #closed = false;

  constructor(containerId: string, options: ContainerInitOptions) {
    this.containerId = containerId;
    this.#options = options;
    const { allowances = new Allowances(options.clock), namespace = '' } = options;
    this.#allowance = allowances.open(namespace, (breach) => this.#connected?.connection.end(breach));
    this.#calls = new OpenCalls({
      clock: options.clock,
      connected: () => this.#connected,
      acknowledge: (id, offset) => this.#say('A', { id, offset }),
      forget: (id) => this.#say('F', { id }),
      onRead: (id, call) => this.#keep(id, call),
    });
    this.#kept = new KeptAnswers(options.clock, (ids) => this.#connected?.connection.send(this.#forgetting(ids)));
  }

  get state(): InitState | undefined {
    const { whole, state } = this.#connected ?? {};
    if (whole !== true || state === undefined) {
      return undefined;
    }
    // The init hears of a call after it was sent, and may have spoken meanwhile.
    return state.idle && this.#calls.isBusy ? { ...state, idle: false } : state;
  }

  get found(): Found {
    const { whole, found, state } = this.#connected ?? {};
    return whole === true && found !== undefined ? found.running(state?.idle === true) : NONE;
  }

  /** Milliseconds until another connection may come, beyond the usual rest. */
  get restMs(): number {
    return this.#allowance.waitMs();
  }

  /** Why the init is not served any more. */
  get breach(): string | undefined {
    return this.#breach;
  }

  get news(): InitNews {
    return { containerId: this.containerId, state: this.state, found: this.found, breach: this.#breach };
  }

  /** The container as far as its way to the first call goes: an init that failed has left soon afterwards. */
  get start(): Pick<InitNews, 'containerId' | 'state' | 'breach'> {
    return { containerId: this.containerId, state: this.state ?? this.#failed, breach: this.#breach };
  }

  async disconnected(): Promise<void> {
    await this.#connected?.ended.promise;
  }

  /** Takes the connection of an init. The one before has ended. */
  accept(socket: Duplex): void {
    if (this.#closed || this.#breach !== undefined || this.#connected !== undefined) {
      socket.destroy();
      return;
    }
    const connection = new InitConnection(
      socket,
      {
        onMessage: (message) => this.#take(connected, message),
        onTurn: () => this.#turn(connected),
        onEnd: (breach) => this.#disconnected(connected, breach),
      },
      this.#options.clock,
      this.#allowance,
    );
    const found = new FoundCalls({
      onLost: (id) => {
        this.#kept.release(id);
        this.#say('F', { id });
      },
      onRead: (id, call) => this.#keep(id, call),
      onAsked: () => this.#told(connected),
      onTell: (id, number) => {
        this.#kept.release(id);
        this.#say('T', { id, number });
      },
      onDropped: (id) => this.#drop(connected, id),
    });
    const late = this.#options.clock.setTimer(() => connection.end(), HELLO_MS);
    const connected = newConnection(connection, found, late);
    this.#connected = connected;
    this.#allowance.spendConnection();
  }

  call(request: InitRequest): Promise<InitAnswer> {
    const { requestId, payload } = request;
    const connected = this.#connected;
    if (connected === undefined || !connected.whole) {
      return Promise.resolve({ kind: 'NotSent', message: 'the init of the worker is not connected', own: false });
    }
    const order = orderFrame(request, this.#options.clock);
    const mistake = mistakeIn(
      request,
      order,
      this.#calls.get(requestId) !== undefined || !connected.found.drop(requestId),
    );
    if (mistake !== undefined) {
      return Promise.resolve({ kind: 'NotSent', message: mistake, own: true });
    }
    // An init takes a call that it knows for the same one.
    this.#kept.drop(requestId);
    const call = new SentCall(request, request.arrival && ARRIVAL_WINDOW_BYTES);
    this.#calls.add(requestId, call, connected, request.boundMs);
    request.onSending();
    this.#allowance.allowCall();
    const arrived = this.#forgetting(this.#kept.takeArrived());
    connected.connection.send([...arrived, order, ...eventFrames(requestId, payload)]);
    return call.answer;
  }

  serveAlone(hasLost: boolean): void {
    if (hasLost && this.#connected?.share === 'Untold') {
      this.serveBeside();
    }
    this.#tellShare('Alone');
  }

  serveBeside(): void {
    this.#tellShare('Beside');
  }

  neverHad(requestId: string, sentMs: number): boolean {
    const { found, hello, whole } = this.#connected ?? {};
    if (whole !== true || hello?.history === undefined || found?.has(requestId) === true) {
      return false;
    }
    return (
      !this.#calls.has(requestId) &&
      neverHad(hello.history, this.#options.clock.monotonic() - hello.at, requestId, sentMs)
    );
  }

  abort(requestId: string, message: string): void {
    this.#calls.settle(requestId, { kind: 'Unknown', message });
  }

  leave(requestId: string, message: string): void {
    this.#calls.settle(requestId, { kind: 'Unknown', message }, true);
  }

  recover(requestId: string, from: number, taker: AnswerTaker): Promise<InitAnswer> | undefined {
    const connected = this.#connected;
    return connected?.whole === true ? connected.found.recover(requestId, from, taker) : undefined;
  }

  /** Ends the connection. Every call goes on. */
  close(message: string): void {
    this.#closed = true;
    this.#connected?.connection.end();
    this.#lost?.cancel();
    this.#calls.settleAll({ kind: 'Unknown', message });
    this.#allowance.close();
  }

  #take(connected: Connected, message: InitMessage): MessageUse {
    if (message.kind !== 'Hello' && connected.hello === undefined) {
      throw new InitBreach('the init did not begin with its name');
    }
    switch (message.kind) {
      case 'Hello':
        this.#takeHello(connected, message);
        return 'Words';
      case 'Phase':
        connected.state = message.state;
        this.#told(connected);
        return 'Words';
      case 'Call':
        this.#takeCall(connected, message.call);
        return connected.whole ? 'Words' : 'Idle';
      case 'Data':
        return (this.#calls.get(message.id) ?? connected.found).takeData(message) ? 'Part' : 'Unread';
      case 'Other':
        return 'Words';
      default:
        return unreachable(message);
    }
  }

  #takeHello(connected: Connected, hello: Hello): void {
    const { session, calls, state } = hello;
    if (connected.hello !== undefined || calls > MAX_KNOWN) {
      throw new InitBreach('the init said its name twice, or knows too many calls');
    }
    connected.late.cancel();
    this.#lost?.cancel();
    connected.late = this.#options.clock.setTimer(
      () => connected.connection.end('the init did not name the calls that it knows'),
      WHOLE_MS,
    );
    connected.hello = { ...hello, at: this.#options.clock.monotonic() };
    connected.state = state;
    this.#calls.forgetLeft();
    if (this.#session !== session) {
      this.#calls.settleAll({ kind: 'Unknown', message: 'the init was replaced by another' });
    }
    this.#session = session;
    this.#nameUntilWhole(connected);
  }

  #takeCall(connected: Connected, told: CallTold): void {
    const { end, id } = told;
    if (!connected.whole && !this.#calls.isOn(id, connected)) {
      connected.named.add(id);
    }
    if (!this.#calls.take(told, connected)) {
      this.#find(connected, told);
    }
    if (end !== undefined && this.state?.idle === true) {
      // The worker waited for the next call before its init told the end of this one.
      this.#told(connected);
    }
    this.#nameUntilWhole(connected);
  }

  /** Notes a call of an earlier run of the agent. */
  #find(connected: Connected, told: CallTold): void {
    const isKnown = connected.found.has(told.id);
    if (!isKnown && connected.whole) {
      return;
    }
    if (!isKnown) {
      this.#allowance.keep(KNOWN_BYTES + told.id.length);
    }
    const hasEnded = connected.found.told(told);
    connected.unasked ??= this.#options.clock.setTimer(() => this.#expire(connected), ASKED_MS);
    if (isKnown && hasEnded) {
      this.#told(connected);
    }
  }

  #expire(connected: Connected): void {
    connected.found.expire();
    this.#giveUp(connected);
  }

  /** Has the init forget the answers whose time is over, as fast as the init reads. */
  #giveUp({ connection, found }: Connected): void {
    found.giveUp(() => !connection.full);
  }

  /** Forgets a call that was found, but for its mark: the init has had it. */
  #drop({ hello }: Connected, id: string): void {
    hello?.history?.marks.add(markOf(id));
    this.#allowance.keep(-(KNOWN_BYTES + id.length));
  }

  /** An init that has named all calls that it knows has never had the event of any other of this run in whole. */
  #nameUntilWhole(connected: Connected): void {
    if (connected.whole || connected.hello === undefined || connected.named.size < connected.hello.calls) {
      return;
    }
    connected.whole = true;
    connected.late.cancel();
    connected.named.clear();
    const message = 'the connection to the init of the worker ended';
    this.#calls.settleUnnamed(connected, { kind: 'NotSent', message, own: true });
    this.#told(connected);
  }

  #tellShare(share: 'Alone' | 'Beside'): void {
    if (this.#connected !== undefined && this.#connected.share !== share) {
      this.#connected.share = share;
      this.#say(share === 'Alone' ? 'L' : 'O', {});
    }
  }

  /** Tells the news, of all words of a read at once. */
  #told(connected: Connected): void {
    if (!connected.whole) {
      return;
    }
    if (connected.connection.reading) {
      connected.hasNews = true;
    } else if (connected === this.#connected) {
      this.#options.onNews(this.news);
    }
  }

  /** The words of a read were taken, or there is room for words again. */
  #turn(connected: Connected): void {
    if (connected.hasNews) {
      connected.hasNews = false;
      this.#allowance.spendNews();
      this.#told(connected);
    }
    this.#calls.acknowledgeAll(connected);
    this.#giveUp(connected);
    this.#allowance.endTurn(connected.connection.heldBytes, this.#calls.size > 0);
  }

  #disconnected(connected: Connected, breach: string | undefined): void {
    connected.late.cancel();
    this.#connected = undefined;
    this.#breach = breach;
    this.#failed = connected.state?.phase === 'Failed' ? connected.state : undefined;
    this.#calls.forgetLeft();
    this.#kept.clear();
    this.#allowance.keepNothing();
    connected.unasked?.cancel();
    connected.found.close('the connection to the init of the worker ended');
    if (breach !== undefined) {
      this.#calls.settleAll({ kind: 'Unknown', message: breach });
    } else if (this.#calls.size > 0) {
      const answer: InitAnswer = { kind: 'Unknown', message: 'the connection to the init of the worker ended' };
      this.#lost?.cancel();
      this.#lost = this.#options.clock.setTimer(() => this.#calls.settleAll(answer), RETURN_MS);
    }
    if (connected.whole || breach !== undefined) {
      this.#options.onNews(this.news);
    }
    connected.ended.resolve();
    if (!this.#closed && breach === undefined) {
      this.#options.onFree();
    }
  }

  /** An answer was read. The init has yet to forget it, as far as it has the whole. */
  #keep(id: string, { acknowledged, arrival, isKept, received }: SentCall): void {
    if (isKept) {
      this.#kept.keep(id, received - acknowledged, arrival, this.state?.places ?? 1);
    } else {
      this.#say('F', { id });
    }
  }

  /** Words for the init. */
  #forgetting(ids: readonly string[]): readonly Buffer[] {
    this.#connected?.found.forgotten(ids);
    return ids.map((id) => linesFrame('F', { id }));
  }

  #say(kind: 'A' | 'F' | 'L' | 'O' | 'T', fields: Readonly<Record<string, string | number>>): void {
    this.#connected?.connection.send([linesFrame(kind, fields)]);
  }
}
