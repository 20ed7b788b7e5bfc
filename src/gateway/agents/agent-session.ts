import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import type { Clock, Timer } from '../../common/clock.ts';
import { EsbError, messageOf } from '../../common/errors.ts';
import type { HostPort } from '../../common/host-port.ts';
import { type CertifiedKey, certificatesIn } from '../../common/x509.ts';
import type { WatchEvent } from '../../protocol/generated/agent.ts';
import type { Caller } from '../lambda/caller.ts';
import { type AgentAnswer, AgentCall, type AnswerSink, type AnswerSoFar, type NewCall } from './agent-call.ts';
import type { AgentProtocol } from './agent-protocol.ts';
import { askAgain, type LostCall, SharedCallStream, sendStreamed } from './call-streams.ts';
import { GrpcStream } from './grpc-stream.ts';

/** Milliseconds from the first packet to the snapshot; an agent that takes longer counts as unreachable. */
const OPEN_TIMEOUT_MS = 10_000;
/** Milliseconds between two pings. */
const PING_INTERVAL_MS = 5_000;
/** Pings without an answer, after which an agent counts as frozen or gone. */
const MAX_UNANSWERED_PINGS = 3;
/** Bytes of one answer, and of all answers together, that an agent may send ahead of us. */
const STREAM_WINDOW_BYTES = 8 * 1024 * 1024;
const SESSION_WINDOW_BYTES = 64 * 1024 * 1024;

/**
 * MB that Node.js may hold for one agent. With the default of 10, two large payloads on their way make Node.js refuse
 * streams. The bytes that a gateway holds in all by default, and those that an agent may send ahead, are below this
 * bound.
 */
const SESSION_MEMORY_MB = 1_024;

/** Largest payload, in bytes, of a call on the shared stream: a larger one would hold up the calls behind it. */
const SHARED_PAYLOAD_BYTES = 32 * 1024;

export interface AgentSessionOptions {
  readonly endpoint: HostPort;
  /** PEM of the certificates in the LambdaNode: no others are trusted. */
  readonly trusted: string;
  /** Key and certificate with which a gateway authenticates to agents. */
  readonly identity: CertifiedKey;
  readonly protocol: AgentProtocol;
  /** Name of the gateway, as a host: an agent tells of calls that come by other names. */
  readonly caller: string;
  readonly clock: Clock;
  /** Called with each event of the Watch, the snapshot first, until the session is retired. */
  readonly onWatch: (event: WatchEvent) => void;
  /** Called once, when the session takes no more calls. Calls under way go on while the agent is there. */
  readonly onRetired: (reason: EsbError) => void;
}

/** A call that waits at the agent of a worker without a free place. */
export interface WaitingCall {
  /** Asks the agent to refuse the call, unless it has begun. Set as the call is sent. */
  withdraw?: () => void;
}

type SessionState =
  /** TCP and TLS are being set up. */
  | { readonly kind: 'Connecting' }
  /** The handshake is done and the Watch has sent no snapshot. The agent may still refuse our certificate. */
  | { readonly kind: 'Watching' }
  /** Calls are taken; small ones share a stream. */
  | { readonly kind: 'Open'; readonly shared: SharedCallStream }
  /** No more calls are taken. `loss` is the reason of the calls under way if the connection ends before them. */
  | { readonly kind: 'Draining'; readonly loss: string }
  | { readonly kind: 'Closed' };

/**
 * One connection to one agent: TLS, HTTP/2, a Watch, and the calls.
 *
 * The gateway speaks gRPC on plain HTTP/2 streams, because a gRPC channel hides two facts behind its reconnects:
 * whether a call left this process before the connection broke, which decides whether the call may be sent again, and
 * whether a call goes to the process that reported its workers. So a session never reconnects: it opens with the
 * snapshot of its Watch and retires with the end of that Watch.
 */
export class AgentSession {
  readonly #options: AgentSessionOptions;
  readonly #http2: ClientHttp2Session;
  readonly #calls = new Set<AgentCall>();
  readonly #idleListeners: (() => void)[] = [];
  #state: SessionState = { kind: 'Connecting' };
  /** The end of the wait for the snapshot, then the next ping. */
  #timer: Timer;
  #unanswered = 0;
  #run = '';

  /** @throws {Error} of the TLS library, for an address or a certificate that it refuses */
  constructor(options: AgentSessionOptions) {
    this.#options = options;
    const socket = openSocket(options);
    this.#http2 = connectHttp2(`https://${options.caller}`, {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW_BYTES },
      maxSessionMemory: SESSION_MEMORY_MB,
    });
    this.#http2.on('error', (error) => this.#fail(error));
    this.#http2.on('goaway', () => this.#leave(connectionLost('the agent sent GOAWAY')));
    this.#http2.on('close', () => this.#closed());
    this.#http2.once('connect', () => {
      try {
        this.#watch(socket);
      } catch (error) {
        this.#fail(error);
      }
    });
    this.#timer = options.clock.setTimer(() => {
      this.#fail(new EsbError(`no answer within ${OPEN_TIMEOUT_MS} ms`, { code: 'DeadlineExceeded' }));
    }, OPEN_TIMEOUT_MS);
  }

  get isOpen(): boolean {
    return this.#state.kind === 'Open';
  }

  /** Name of the process of the agent; empty before it has told. */
  get run(): string {
    return this.#run;
  }

  get unansweredPings(): number {
    return this.#unanswered;
  }

  get calls(): number {
    return this.#calls.size;
  }

  /**
   * Sends one call. When the caller hangs up, the call is cancelled at the agent and ends at once.
   *
   * @param limitMs milliseconds after which the call counts as lost, looked at with each ping
   * @param sink gets an answer that the runtime streams, at the pace of the caller
   * @param waits of a call that waits at the agent: its way back
   */
  invoke(
    request: NewCall,
    caller: Caller,
    limitMs: number,
    sink?: AnswerSink,
    waits?: WaitingCall,
  ): Promise<AgentAnswer> {
    const { protocol } = this.#options;
    const call = this.#begin(caller, limitMs, sink);
    const state = this.#state;
    if (
      sink === undefined &&
      state.kind === 'Open' &&
      state.shared.isOpen &&
      request.payload.length <= SHARED_PAYLOAD_BYTES
    ) {
      state.shared.send(request, call);
    } else {
      // The way back tells what has arrived.
      sendStreamed(this.#http2, protocol, request, call);
    }
    if (waits !== undefined) {
      waits.withdraw = () => call.withdraw();
    }
    return call.answer;
  }

  /** Asks for the rest of the answer of a call that an earlier run of the agent was sent. May be repeated. */
  recover(
    request: LostCall,
    soFar: AnswerSoFar,
    caller: Caller,
    limitMs: number,
    sink?: AnswerSink,
  ): Promise<AgentAnswer> {
    const { protocol } = this.#options;
    const call = this.#begin(caller, limitMs, sink, soFar);
    askAgain(this.#http2, protocol, request, call, soFar);
    return call.answer;
  }

  #begin(caller: Caller, limitMs: number, sink: AnswerSink | undefined, soFar?: AnswerSoFar): AgentCall {
    const onSettled = (): void => {
      this.#calls.delete(call);
      caller.onGone = undefined;
      if (this.#calls.size === 0) {
        for (const listener of this.#idleListeners.splice(0)) {
          listener();
        }
      }
    };
    const call = new AgentCall(this.#options.clock.monotonic() + limitMs, onSettled, sink, soFar, caller.hold);
    this.#calls.add(call);
    caller.onGone = () => call.abandon();
    return call;
  }

  /** Calls `listener` once no call is under way. */
  onIdle(listener: () => void): void {
    if (this.#calls.size === 0) {
      listener();
    } else {
      this.#idleListeners.push(listener);
    }
  }

  /** Takes no more calls; closes once those under way are over. */
  retire(): void {
    this.#leave(connectionLost('the gateway has another connection'));
  }

  /** Closes at once. Calls under way end as unknown. */
  destroy(): void {
    this.#fail(new EsbError('the gateway closed the connection', { code: 'ConnectionLost' }));
  }

  /** @throws {EsbError} `UntrustedAgent` */
  #watch(socket: TLSSocket): void {
    const { protocol, trusted } = this.#options;
    if (!isTrusted(socket, trusted)) {
      throw new EsbError('the certificate of the agent is not in its LambdaNode', { code: 'UntrustedAgent' });
    }
    this.#state = { kind: 'Watching' };
    this.#http2.setLocalWindowSize(SESSION_WINDOW_BYTES);
    const stream = new GrpcStream(this.#http2, protocol.watchPath, {
      message: (bytes) => this.#take(protocol.decodeWatch(bytes)),
      ended: ({ kind, message }) => {
        if (this.#state.kind === 'Watching' && kind === 'Lost') {
          // The connection ended before an answer; the end of the connection itself says more.
          this.#http2.destroy();
        } else {
          this.#leave(connectionLost(kind === 'Error' ? `the agent refused to be watched: ${message}` : message));
        }
      },
    });
    stream.end(protocol.encodeWatch());
  }

  #take(event: WatchEvent): void {
    if (this.#state.kind === 'Watching' && event.snapshot !== undefined) {
      this.#timer.cancel();
      this.#schedulePing();
      this.#run = event.snapshot.run;
      this.#state = {
        kind: 'Open',
        shared: new SharedCallStream(this.#http2, this.#options.protocol, this.#options.clock),
      };
    }
    if (this.isOpen) {
      this.#options.onWatch(event);
    }
  }

  /**
   * A frozen process keeps its connections: only the missing answer to a ping reveals it. Ticks are counted and not
   * time, so that a gateway which was frozen itself does not blame its agents.
   */
  #schedulePing(): void {
    this.#timer = this.#options.clock.setTimer(() => {
      if (this.#http2.destroyed) {
        return;
      }
      if (this.#unanswered === MAX_UNANSWERED_PINGS) {
        this.#fail(connectionLost(`the agent answered no ping for ${MAX_UNANSWERED_PINGS * PING_INTERVAL_MS} ms`));
        return;
      }
      const now = this.#options.clock.monotonic();
      for (const call of this.#calls) {
        call.checkLimit(now);
      }
      this.#unanswered += 1;
      if (!this.#http2.closed || this.#calls.size > 0) {
        this.#http2.ping((error) => {
          if (error === null) {
            this.#unanswered = 0;
          }
        });
      }
      this.#schedulePing();
    }, PING_INTERVAL_MS);
  }

  /** Takes no more calls, and ends the connection once those under way are over. */
  #leave(reason: EsbError, loss = 'the connection was closed'): void {
    const { kind } = this.#state;
    if (kind === 'Draining' || kind === 'Closed') {
      return;
    }
    if (kind !== 'Open') {
      this.#timer.cancel();
    }
    this.#state = { kind: 'Draining', loss };
    this.#options.onRetired(reason);
    this.onIdle(() => this.#http2.destroy());
  }

  #fail(error: unknown): void {
    const reason = error instanceof EsbError ? error : connectionLost(messageOf(error), error);
    if (!this.#http2.destroyed) {
      for (const call of this.#calls) {
        call.lose(reason.message);
      }
      this.#http2.destroy();
    }
    this.#leave(
      this.#state.kind === 'Watching' && reason.code !== 'DeadlineExceeded' ? clientRefused(reason) : reason,
      reason.message,
    );
  }

  #closed(): void {
    this.#timer.cancel();
    this.#leave(this.#state.kind === 'Watching' ? clientRefused() : connectionLost('the connection was closed'));
    const loss = this.#state.kind === 'Draining' ? this.#state.loss : '';
    this.#state = { kind: 'Closed' };
    for (const call of this.#calls) {
      call.lose(loss);
    }
  }
}

function connectionLost(message: string, cause?: unknown): EsbError {
  return new EsbError(message, { code: 'ConnectionLost', retryable: true, cause });
}

/** With TLS 1.3 the handshake of a client is done before the server has checked its certificate. */
function clientRefused(cause?: EsbError): EsbError {
  return new EsbError('the agent hung up after the handshake: it may not accept our certificate', {
    code: 'ClientRefused',
    cause,
  });
}

function openSocket({ endpoint, identity, trusted }: AgentSessionOptions): TLSSocket {
  const socket = connectTls({
    ...endpoint,
    ca: trusted,
    cert: identity.certificate,
    key: identity.privateKey,
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.3',
    // The whole certificate is compared instead of a name in it.
    checkServerIdentity: () => undefined,
  });
  socket.setNoDelay(true);
  return socket;
}

/** @throws {EsbError} `InvalidCertificate` when `trusted` cannot be read */
function isTrusted(socket: TLSSocket, trusted: string): boolean {
  const shown = socket.getPeerX509Certificate();
  return (
    shown !== undefined &&
    socket.authorized &&
    certificatesIn(trusted).some((certificate) => certificate.raw.equals(shown.raw))
  );
}
