import type { Duplex } from 'node:stream';
import type { Clock, Timer } from '../common/clock.ts';
import type { FoundCall, InitAnswer, InitLink, InitNews, InitRequest, InitState } from './contract.ts';
import { eventFrames, InitBreach, linesFrame, MAX_FRAME_BYTES } from './frames.ts';
import { InitConnection } from './init-connection.ts';
import type { CallTold, InitMessage } from './messages.ts';
import { MAX_BUFFERED_BYTES, SentCall } from './sent-call.ts';

/** Milliseconds in which a connection has to say who it is. */
const HELLO_MS = 5_000;
/** Milliseconds that calls wait for the return of their init. */
const RETURN_MS = 2_000;
/** Milliseconds that the last bytes of an answer may take once there is room for them. */
const LAST_BYTES_MS = 5_000;
/** Most calls that an init knows. */
const MAX_FOUND = 1_024;
/** Milliseconds that a call has at least to reach a runtime. */
const LEAST_WAIT_MS = 1_000;

/** Parts of the hub that a container needs. */
export interface ContainerInitOptions {
  readonly clock: Clock;
  readonly onNews: (news: InitNews) => void;
  /** A connection has ended, and another may come. */
  readonly onFree: () => void;
}

/** A connection, and how far its init has come with what it knows. */
interface Connected {
  readonly connection: InitConnection;
  hello: { readonly session: string; readonly calls: number } | undefined;
  state: InitState | undefined;
  /** Calls from before the connection that the init has named. */
  readonly named: Set<string>;
  readonly found: Map<string, boolean>;
  whole: boolean;
  readonly late: Timer;
}

/** A call, and the connection on which its init was last known to have it. */
interface Pending {
  readonly call: SentCall;
  on: Connected;
  bound: Timer;
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
  #connected: Connected | undefined;
  #session: string | undefined;
  #lost: Timer | undefined;
  #breach: string | undefined;
  #failed: InitState | undefined;
  #closed = false;

  constructor(containerId: string, options: ContainerInitOptions) {
    this.containerId = containerId;
    this.#options = options;
  }

  get state(): InitState | undefined {
    const { whole, state } = this.#connected ?? {};
    if (whole !== true || state === undefined) {
      return undefined;
    }
    // The init hears of a call after it was sent, and may have spoken meanwhile.
    return state.idle && this.#calls.size + this.#left.size > 0 ? { ...state, idle: false } : state;
  }

  get found(): readonly FoundCall[] {
    const { whole, found } = this.#connected ?? {};
    return whole === true ? [...(found ?? [])].map(([requestId, ended]) => ({ requestId, ended })) : [];
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
        onTurn: () => this.#acknowledgeAll(connected),
        onEnd: (breach) => this.#disconnected(connected, breach),
      },
      this.#options.clock,
    );
    const connected: Connected = {
      connection,
      hello: undefined,
      state: undefined,
      named: new Set(),
      found: new Map(),
      whole: false,
      late: this.#options.clock.setTimer(() => connection.end(), HELLO_MS),
    };
    this.#connected = connected;
  }

  call(request: InitRequest): Promise<InitAnswer> {
    const { requestId, payload } = request;
    const connected = this.#connected;
    if (connected === undefined || !connected.whole) {
      return Promise.resolve({ kind: 'NotSent', message: 'the init of the worker is not connected', own: false });
    }
    const order = orderFrame(request, this.#options.clock.now());
    const mistake = mistakeIn(request, order, this.#calls.has(requestId));
    if (mistake !== undefined) {
      return Promise.resolve({ kind: 'NotSent', message: mistake, own: true });
    }
    const call = new SentCall(request);
    const bound = this.#options.clock.setTimer(() => this.#overdue(requestId), request.boundMs);
    this.#calls.set(requestId, { call, on: connected, bound });
    request.onSending();
    connected.connection.allowCall();
    connected.connection.send([order, ...eventFrames(requestId, payload)]);
    return call.answer;
  }

  forget(requestId: string): void {
    const pending = this.#calls.get(requestId);
    if (pending !== undefined) {
      pending.call.forget();
      this.#say('F', { id: requestId });
    }
  }

  abort(requestId: string, message: string): void {
    this.#settle(requestId, { kind: 'Unknown', message });
  }

  /** Ends the connection. Every call goes on. */
  close(message: string): void {
    this.#closed = true;
    this.#connected?.connection.end();
    this.#lost?.cancel();
    this.#settleAll({ kind: 'Unknown', message });
  }

  #take(connected: Connected, message: InitMessage): boolean {
    if (message.kind !== 'Hello' && connected.hello === undefined) {
      throw new InitBreach('the init did not begin with its name');
    }
    switch (message.kind) {
      case 'Hello':
        this.#takeHello(connected, message);
        return false;
      case 'Phase':
        connected.state = message.state;
        this.#told(connected);
        return false;
      case 'Call':
        this.#takeCall(connected, message.call);
        return false;
      case 'Data':
        return this.#calls.get(message.id)?.call.takeData(message.offset, message.bytes) ?? false;
      case 'Other':
        return false;
    }
  }

  #takeHello(connected: Connected, { session, calls, state }: InitMessage & { readonly kind: 'Hello' }): void {
    if (connected.hello !== undefined || calls > MAX_FOUND) {
      throw new InitBreach('the init said its name twice, or knows too many calls');
    }
    connected.late.cancel();
    this.#lost?.cancel();
    connected.hello = { session, calls };
    connected.state = state;
    this.#left.clear();
    if (this.#session !== session) {
      this.#settleAll({ kind: 'Unknown', message: 'the init was replaced by another' });
    }
    this.#session = session;
    this.#nameUntilWhole(connected);
  }

  #takeCall(connected: Connected, { id, head, end }: CallTold): void {
    const pending = this.#calls.get(id);
    if (pending?.on !== connected && !connected.whole) {
      connected.named.add(id);
    }
    if (pending === undefined) {
      if (end === undefined || !this.#left.delete(id)) {
        this.#find(connected, id, end !== undefined);
      }
    } else {
      if (pending.on !== connected) {
        pending.on = connected;
        this.#say(pending.call.forgotten ? 'F' : 'A', { id, offset: pending.call.acknowledged });
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

  /** Notes a call of an earlier run of the agent, whose answer has no taker. */
  #find(connected: Connected, id: string, ended: boolean): void {
    const known = connected.found.get(id);
    if (known === undefined && connected.whole) {
      return;
    }
    connected.found.set(id, ended);
    if (known === undefined) {
      this.#say('F', { id });
    } else if (known !== ended) {
      this.#told(connected);
    }
  }

  /**
   * An init that has named all calls that it knows has never had the event of any other in whole, but for those that
   * were forgotten: these it need not keep.
   */
  #nameUntilWhole(connected: Connected): void {
    if (connected.whole || connected.hello === undefined || connected.named.size < connected.hello.calls) {
      return;
    }
    connected.whole = true;
    const message = 'the connection to the init of the worker ended';
    for (const [id, { call, on }] of this.#calls) {
      if (on !== connected) {
        this.#settle(id, call.forgotten ? { kind: 'Unknown', message } : { kind: 'NotSent', message, own: true });
      }
    }
    this.#told(connected);
  }

  #told(connected: Connected): void {
    if (connected.whole) {
      this.#options.onNews(this.news);
    }
  }

  #disconnected(connected: Connected, breach: string | undefined): void {
    connected.late.cancel();
    this.#connected = undefined;
    this.#breach = breach;
    this.#failed = connected.state?.phase === 'Failed' ? connected.state : undefined;
    this.#left.clear();
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
    if (!this.#closed && breach === undefined) {
      this.#options.onFree();
    }
  }

  #acknowledgeAll(connected: Connected): void {
    for (const [id, { on }] of this.#calls) {
      if (on === connected) {
        this.#acknowledge(id);
      }
    }
  }

  /** Acknowledges what there is room for, unless the init has yet to read what it was sent before. */
  #acknowledge(id: string): void {
    const pending = this.#calls.get(id);
    if (pending === undefined || pending.on !== this.#connected) {
      return;
    }
    while (!pending.on.connection.full) {
      const offset = pending.call.due(() => this.#acknowledge(id));
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

  /** Ends the wait for a call, and has the init forget it. */
  #settle(id: string, answer: InitAnswer): void {
    const pending = this.#calls.get(id);
    if (pending !== undefined && this.#calls.delete(id)) {
      pending.bound.cancel();
      pending.call.settle(answer);
      if (pending.on === this.#connected) {
        this.#say('F', { id });
        if (answer.kind !== 'Ended') {
          this.#left.add(id);
        }
      }
    }
  }

  #settleAll(answer: InitAnswer): void {
    for (const id of [...this.#calls.keys()]) {
      this.#settle(id, answer);
    }
  }

  #say(kind: 'A' | 'F', fields: Readonly<Record<string, string | number>>): void {
    this.#connected?.connection.send([linesFrame(kind, fields)]);
  }
}

function orderFrame(request: InitRequest, now: number): Buffer {
  const { requestId, payload, timeoutMs, boundMs, functionArn, version, clientContext, traceId } = request;
  return linesFrame('I', {
    id: requestId,
    size: payload.length,
    timeoutMs,
    // A call that reaches its runtime later could not end within the bound.
    deadlineMs: Math.ceil(now + Math.max(LEAST_WAIT_MS, boundMs - timeoutMs - LEAST_WAIT_MS)),
    version,
    functionArn,
    clientContext,
    traceId,
  });
}

/** Why an init would not take a call, and end the connection for it. */
function mistakeIn({ requestId, payload, timeoutMs }: InitRequest, order: Buffer, known: boolean): string | undefined {
  if (!/^[A-Za-z0-9._-]{1,255}$/.test(requestId)) {
    return 'the request id is none that a runtime takes';
  }
  if (known) {
    return 'a call with this request id is under way in the worker';
  }
  if (payload.length > MAX_BUFFERED_BYTES || order.length > MAX_FRAME_BYTES) {
    return 'the event or its context is larger than a runtime takes';
  }
  return Number.isSafeInteger(timeoutMs) && timeoutMs > 0 ? undefined : 'the time limit is no number of milliseconds';
}
