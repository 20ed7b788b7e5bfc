import type { Duplex } from 'node:stream';
import type { Clock, Timer } from '../common/clock.ts';
import { unreachable } from '../common/errors.ts';
import { type Allowance, Allowances } from './allowance.ts';
import { markOf, neverHad } from './call-history.ts';
import type { Connected, Pending } from './connected.ts';
import type { AnswerTaker, Found, InitAnswer, InitLink, InitNews, InitRequest, InitState } from './contract.ts';
import { FoundCalls } from './found-calls.ts';
import { eventFrames, InitBreach, linesFrame } from './frames.ts';
import { InitConnection, type MessageUse } from './init-connection.ts';
import { KeptAnswers, MAX_KNOWN } from './kept-answers.ts';
import type { CallTold, Hello, InitMessage } from './messages.ts';
import { mistakeIn, orderFrame } from './order.ts';
import { ARRIVAL_WINDOW_BYTES, SentCall } from './sent-call.ts';

/** Milliseconds in which a connection has to say who it is. */
const HELLO_MS = 5_000;
/**
 * Milliseconds in which an init has to name the calls that it knows. The breach of one that does not is
 * reported before its worker counts as lost.
 */
const WHOLE_MS = 15_000;
/** Milliseconds for which an init may say more than its share without a call. */
const ABUSE_MS = 30_000;
/** Most bytes of a frame with a part of an answer. */
const PART_BYTES = 64 * 1024;
/** Bytes that the agent keeps of a call that an init has named, beside its id. */
const KNOWN_BYTES = 256;
const NONE: Found = { running: 0, requestId: undefined };
/** Milliseconds that calls wait for the return of their init. */
const RETURN_MS = 2_000;
/** Milliseconds that the last bytes of an answer may take once there is room for them. */
const LAST_BYTES_MS = 5_000;
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
  readonly #calls = new Map<string, Pending>();
  /** Calls that have no taker any more, and whose end the connected init has yet to tell. */
  readonly #left = new Set<string>();
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
    this.#kept = new KeptAnswers(options.clock, (ids) => this.#connected?.connection.send(this.#forgetting(ids)));
  }

  get state(): InitState | undefined {
    const { whole, state } = this.#connected ?? {};
    if (whole !== true || state === undefined) {
      return undefined;
    }
    // The init hears of a call after it was sent, and may have spoken meanwhile.
    return state.idle && this.#calls.size + this.#left.size > 0 ? { ...state, idle: false } : state;
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
    const connected: Connected = {
      connection,
      ended: Promise.withResolvers(),
      hello: undefined,
      state: undefined,
      named: new Set(),
      found: new FoundCalls({
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
      }),
      unasked: undefined,
      whole: false,
      late: this.#options.clock.setTimer(() => connection.end(), HELLO_MS),
      hasNews: false,
      share: 'Untold',
    };
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
    const mistake = mistakeIn(request, order, this.#calls.has(requestId) || !connected.found.drop(requestId));
    if (mistake !== undefined) {
      return Promise.resolve({ kind: 'NotSent', message: mistake, own: true });
    }
    // An init takes a call that it knows for the same one.
    this.#kept.drop(requestId);
    const call = new SentCall(request, request.arrival && ARRIVAL_WINDOW_BYTES);
    const bound = this.#options.clock.setTimer(() => this.#overdue(requestId), request.boundMs);
    this.#calls.set(requestId, { call, on: connected, bound });
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
    const isOurs = this.#calls.has(requestId) || this.#left.has(requestId);
    return !isOurs && neverHad(hello.history, this.#options.clock.monotonic() - hello.at, requestId, sentMs);
  }

  abort(requestId: string, message: string): void {
    this.#settle(requestId, { kind: 'Unknown', message });
  }

  leave(requestId: string, message: string): void {
    this.#settle(requestId, { kind: 'Unknown', message }, true);
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
    this.#settleAll({ kind: 'Unknown', message });
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
        return (this.#calls.get(message.id)?.call ?? connected.found).takeData(message) ? 'Part' : 'Unread';
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
    this.#left.clear();
    if (this.#session !== session) {
      this.#settleAll({ kind: 'Unknown', message: 'the init was replaced by another' });
    }
    this.#session = session;
    this.#nameUntilWhole(connected);
  }

  #takeCall(connected: Connected, told: CallTold): void {
    const { id, head, end } = told;
    const pending = this.#calls.get(id);
    if (pending?.on !== connected && !connected.whole) {
      connected.named.add(id);
    }
    if (pending === undefined) {
      if (end === undefined || !this.#left.delete(id)) {
        this.#find(connected, told);
      }
    } else {
      if (pending.on !== connected) {
        pending.on = connected;
        this.#say('A', { id, offset: pending.call.acknowledged });
      }
      if (head !== undefined) {
        pending.call.takeHead(head);
      }
      if (end !== undefined) {
        pending.call.checkEnd(end);
        this.#settle(id, { kind: 'Ended', end });
      }
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
    for (const [id, { on }] of this.#calls) {
      if (on !== connected) {
        this.#settle(id, { kind: 'NotSent', message, own: true });
      }
    }
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
    this.#acknowledgeAll(connected);
    this.#giveUp(connected);
    const hasCalls = this.#calls.size > 0;
    // A part of an answer on its way is bounded, and a frame of it is no larger than that.
    const { heldBytes } = connected.connection;
    this.#allowance.keepFrame(hasCalls ? Math.max(0, heldBytes - PART_BYTES) : heldBytes);
    if (hasCalls) {
      this.#allowance.forgive();
    } else if (this.#allowance.overMs >= ABUSE_MS) {
      throw new InitBreach('the init has said more than its share for 30 seconds, without a call');
    }
  }

  #disconnected(connected: Connected, breach: string | undefined): void {
    connected.late.cancel();
    this.#connected = undefined;
    this.#breach = breach;
    this.#failed = connected.state?.phase === 'Failed' ? connected.state : undefined;
    this.#left.clear();
    this.#kept.clear();
    this.#allowance.keepNothing();
    connected.unasked?.cancel();
    connected.found.close('the connection to the init of the worker ended');
    if (breach !== undefined) {
      this.#settleAll({ kind: 'Unknown', message: breach });
    } else if (this.#calls.size > 0) {
      const answer: InitAnswer = { kind: 'Unknown', message: 'the connection to the init of the worker ended' };
      this.#lost?.cancel();
      this.#lost = this.#options.clock.setTimer(() => this.#settleAll(answer), RETURN_MS);
    }
    if (connected.whole || breach !== undefined) {
      this.#options.onNews(this.news);
    }
    connected.ended.resolve();
    if (!this.#closed && breach === undefined) {
      this.#options.onFree();
    }
  }

  #acknowledgeAll(connected: Connected | undefined): void {
    if (connected === undefined) {
      return;
    }
    for (const [id, { on, call }] of this.#calls) {
      if (on === connected) {
        this.#acknowledge(connected, id, call);
      }
    }
    for (const [id, { sent }] of connected.found.read) {
      this.#acknowledge(connected, id, sent);
    }
  }

  /** Acknowledges what there is room for, unless the init has yet to read what it was sent before. */
  #acknowledge(connected: Connected, id: string, call: SentCall): void {
    while (connected === this.#connected && !connected.connection.full) {
      const offset = call.due(() => this.#acknowledgeAll(this.#connected));
      if (offset === undefined) {
        return;
      }
      this.#say('A', { id, offset });
    }
  }

  #overdue(id: string): void {
    const pending = this.#calls.get(id);
    if (pending?.call.waits === true) {
      // The receiver is slow, and not the init.
      pending.bound = this.#options.clock.setTimer(() => this.#overdue(id), LAST_BYTES_MS);
      return;
    }
    this.#settle(id, { kind: 'Silent' });
  }

  /** Ends the wait for a call, and has the init forget it, unless it is left to the next run of the agent. */
  #settle(id: string, answer: InitAnswer, left = false): void {
    const pending = this.#calls.get(id);
    if (pending !== undefined && this.#calls.delete(id)) {
      pending.bound.cancel();
      pending.call.settle(answer);
      if (left || pending.on !== this.#connected) {
        return;
      }
      if (answer.kind === 'Ended') {
        this.#keep(id, pending.call);
      } else {
        this.#say('F', { id });
        this.#left.add(id);
      }
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

  #settleAll(answer: InitAnswer): void {
    for (const id of [...this.#calls.keys()]) {
      this.#settle(id, answer);
    }
  }

  #say(kind: 'A' | 'F' | 'L' | 'O' | 'T', fields: Readonly<Record<string, string | number>>): void {
    this.#connected?.connection.send([linesFrame(kind, fields)]);
  }
}
