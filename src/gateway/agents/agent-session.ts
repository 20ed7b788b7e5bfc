import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { certificatesIn } from '../../common/certificates.ts';
import type { Clock, Timer } from '../../common/clock.ts';
import { EsbError, hasCode, messageOf } from '../../common/errors.ts';
import type { HostPort } from '../../common/host-port.ts';
import type { Caller } from '../lambda/caller.ts';
import { type AgentAnswer, AgentCall } from './agent-call.ts';
import type { InvokeRequest, WatchEvent, WorkerReference, WorkerState } from './agent-messages.ts';
import type { AgentProtocol } from './agent-protocol.ts';
import { SharedCallStream, sendAlone } from './call-streams.ts';
import { GrpcStream } from './grpc-stream.ts';

/** Milliseconds from the first packet to the snapshot, after which an agent counts as not reachable. */
const OPEN_TIMEOUT_MS = 10_000;
/** Milliseconds between two pings. */
const PING_INTERVAL_MS = 5_000;
/** Pings without an answer, after which an agent counts as frozen or gone. */
const MAX_UNANSWERED_PINGS = 3;
/** Bytes of one answer, and of all answers together, that an agent may send ahead of us. */
const STREAM_WINDOW_BYTES = 8 * 1024 * 1024;
const SESSION_WINDOW_BYTES = 64 * 1024 * 1024;

/** What requests name as their host. An endpoint need not be one that a URL could hold, and no agent looks at it. */
const AUTHORITY = 'https://esb-agent';

/**
 * MB that Node.js may hold for one agent. The default of 10 makes it refuse streams while two large payloads are on their way;
 * what a gateway holds in all by default, and what an agent may send ahead, are below this one.
 */
const SESSION_MEMORY_MB = 1_024;

/** Bytes of a payload up to which a call shares a stream: a larger one would hold up those behind it. */
const SHARED_PAYLOAD_BYTES = 32 * 1024;

/** Key and certificate (PEM) by which agents know a gateway. */
export interface ClientCertificate {
  readonly certificate: string;
  readonly privateKey: string;
}

/** Told what becomes of a session, in this order: open, changes, retired. */
export interface AgentSessionListener {
  /** The agent has said what it holds; from now on the session takes calls. */
  opened(workers: readonly WorkerState[]): void;
  changed(worker: WorkerState): void;
  removed(worker: WorkerReference): void;
  /** Once: the session takes no more calls. Those under way go on as long as the agent is there. */
  retired(reason: EsbError): void;
}

export interface AgentSessionOptions {
  readonly endpoint: HostPort;
  /** PEM of the certificates that stand in the LambdaNode: exactly these are trusted. */
  readonly trusted: string;
  readonly identity: ClientCertificate;
  readonly protocol: AgentProtocol;
  readonly clock: Clock;
  readonly listener: AgentSessionListener;
}

/**
 * One connection to one agent: TLS, HTTP/2, a Watch, and the calls.
 *
 * gRPC is spoken on plain HTTP/2 streams, because two things must be known for sure that a gRPC channel hides behind its
 * reconnects: whether a call has left this process before the connection broke, which decides whether it may be sent
 * again, and that a call goes to the same process that told of its workers. So a session never reconnects; it is open
 * after its Watch gave a snapshot, and retired with the end of that Watch.
 */
export class AgentSession {
  readonly #options: AgentSessionOptions;
  readonly #http2: ClientHttp2Session;
  readonly #calls = new Set<AgentCall>();
  readonly #idleListeners: (() => void)[] = [];
  #timer: Timer;
  #shared: SharedCallStream | undefined;
  #unanswered = 0;
  #connected = false;
  #opened = false;
  #retired = false;
  #fault: EsbError | undefined;

  /** Errors of an address or a certificate that the TLS library does not take are thrown as they are. */
  constructor(options: AgentSessionOptions) {
    this.#options = options;
    const socket = openSocket(options);
    this.#http2 = connectHttp2(AUTHORITY, {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW_BYTES },
      maxSessionMemory: SESSION_MEMORY_MB,
    });
    this.#http2.on('error', (error) => this.#fail(error));
    this.#http2.on('goaway', () => this.#retire('the agent asked to go away'));
    this.#http2.on('close', () => this.#closed());
    this.#http2.once('connect', () => {
      try {
        this.#begin(socket);
      } catch (error) {
        this.#fail(error);
      }
    });
    this.#timer = options.clock.setTimer(() => {
      this.#fail(
        new EsbError(`no answer within ${OPEN_TIMEOUT_MS} ms`, { code: 'DeadlineExceeded', retryable: true }),
      );
    }, OPEN_TIMEOUT_MS);
  }

  /** Whether calls may be sent. */
  get isOpen(): boolean {
    return this.#opened && !this.#retired;
  }

  /** Pings that wait for their answer. */
  get unansweredPings(): number {
    return this.#unanswered;
  }

  /** Calls under way. */
  get calls(): number {
    return this.#calls.size;
  }

  /**
   * Sends one call. When the caller hangs up, the agent is told so, and the answer is not waited for.
   *
   * @param limitMs milliseconds after which the agent is no longer believed to be at work on it, checked now and then
   */
  invoke(request: InvokeRequest, caller: Caller, limitMs: number): Promise<AgentAnswer> {
    const { protocol, clock } = this.#options;
    const call = new AgentCall(clock.monotonic() + limitMs, () => {
      this.#calls.delete(call);
      caller.onGone = undefined;
      if (this.#calls.size === 0 && this.#idleListeners.length > 0) {
        for (const listener of this.#idleListeners.splice(0)) {
          listener();
        }
      }
    });
    this.#calls.add(call);
    caller.onGone = () => call.abandon();
    if (this.#shared?.isOpen === true && request.payload.length <= SHARED_PAYLOAD_BYTES) {
      this.#shared.send(request, call);
    } else {
      sendAlone(this.#http2, protocol, request, call);
    }
    return call.answer;
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
    this.#retire('the gateway has another connection');
  }

  /** Closes at once. Calls under way end as unknown. */
  destroy(): void {
    this.#fail(new EsbError('the gateway closed the connection', { code: 'ConnectionLost' }));
  }

  #begin(socket: TLSSocket): void {
    if (!isTrusted(socket, this.#options.trusted)) {
      throw new EsbError('the agent shows a certificate that does not stand in its LambdaNode', {
        code: 'UntrustedAgent',
        retryable: true,
      });
    }
    this.#connected = true;
    this.#http2.setLocalWindowSize(SESSION_WINDOW_BYTES);
    this.#watch();
  }

  #watch(): void {
    const { protocol, listener } = this.#options;
    const stream = new GrpcStream(this.#http2, protocol.watchPath, {
      message: (bytes) => this.#take(protocol.decodeWatch(bytes), listener),
      ended: ({ kind, message }) => {
        if (this.#opened || kind !== 'Lost') {
          this.#retire(kind === 'Error' ? `the agent refused to be watched: ${message}` : message);
        } else {
          // Nothing was said: it is the connection that is over, whose end tells more.
          this.#http2.destroy();
        }
      },
    });
    stream.end(protocol.encodeWatch());
  }

  #take(event: WatchEvent, listener: AgentSessionListener): void {
    if (this.#retired) {
      return;
    }
    if (event.snapshot !== undefined) {
      if (!this.#opened) {
        this.#opened = true;
        this.#timer.cancel();
        this.#schedulePing();
        this.#shared = new SharedCallStream(this.#http2, this.#options.protocol);
      }
      listener.opened(event.snapshot.workers);
    } else if (event.changed !== undefined) {
      listener.changed(event.changed);
    } else if (event.removed !== undefined) {
      listener.removed(event.removed);
    }
  }

  /**
   * A frozen process keeps its connections: only the missing answer to a ping gives it away. Ticks are counted and not
   * time, so that a gateway which was frozen itself does not blame its agents.
   */
  #schedulePing(): void {
    this.#timer = this.#options.clock.setTimer(() => {
      if (this.#http2.destroyed) {
        return;
      }
      if (this.#unanswered === MAX_UNANSWERED_PINGS) {
        this.#fail(
          new EsbError(`the agent answered no ping for ${MAX_UNANSWERED_PINGS * PING_INTERVAL_MS} ms`, {
            code: 'ConnectionLost',
            retryable: true,
          }),
        );
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

  #retire(why: string): void {
    if (this.#retired) {
      return;
    }
    this.#retired = true;
    if (!this.#opened) {
      this.#timer.cancel();
    }
    this.#options.listener.retired(
      this.#fault ?? new EsbError(why, { code: 'ConnectionLost', retryable: true }),
    );
    this.onIdle(() => this.#http2.destroy());
  }

  #fail(error: unknown): void {
    this.#fault ??=
      error instanceof EsbError
        ? error
        : new EsbError(messageOf(error), { code: 'ConnectionLost', retryable: true, cause: error });
    if (!this.#http2.destroyed) {
      for (const call of this.#calls) {
        call.lose(this.#fault.message);
      }
      this.#http2.destroy();
    }
  }

  #closed(): void {
    this.#timer.cancel();
    if (this.#connected && !this.#opened && !this.#retired && !hasCode(this.#fault, 'DeadlineExceeded')) {
      // With TLS 1.3 a client is done before the server has looked at its certificate.
      this.#fault = new EsbError('the agent hung up after the handshake: it may not accept our certificate', {
        code: 'ClientRefused',
        retryable: true,
        cause: this.#fault,
      });
    }
    const why = this.#fault?.message ?? 'the connection was closed';
    for (const call of this.#calls) {
      call.lose(why);
    }
    this.#retire(why);
  }
}

function openSocket(options: AgentSessionOptions): TLSSocket {
  const socket = connectTls({
    host: options.endpoint.host,
    port: options.endpoint.port,
    ca: options.trusted,
    cert: options.identity.certificate,
    key: options.identity.privateKey,
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.3',
    // The certificate itself is compared, which says more than a name in it.
    checkServerIdentity: () => undefined,
  });
  socket.setNoDelay(true);
  return socket;
}

/** @throws {EsbError} `InvalidCertificate` for one that is to be trusted and cannot be read */
function isTrusted(socket: TLSSocket, trusted: string): boolean {
  const shown = socket.getPeerX509Certificate();
  return (
    shown !== undefined &&
    socket.authorized &&
    certificatesIn(trusted).some((certificate) => certificate.raw.equals(shown.raw))
  );
}
