import { X509Certificate } from 'node:crypto';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
  constants,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import type { Clock, Timer } from '../common/clock.ts';
import { EsbError, hasCode, messageOf, unreachable } from '../common/errors.ts';
import type { HostPort } from '../common/host-port.ts';
import type {
  AgentProtocol,
  InvokeRequest,
  InvokeTrailer,
  WatchEvent,
  WorkerReference,
  WorkerState,
} from './agent-protocol.ts';
import type { Caller } from './caller.ts';
import { MAX_RESPONSE_BYTES } from './emulator-translation.ts';
import { GrpcFrameReader, grpcFrame } from './grpc-frame.ts';

/** Milliseconds from the first packet to the snapshot, after which an agent counts as not reachable. */
const OPEN_TIMEOUT_MS = 10_000;
/** Milliseconds between two pings. */
const PING_INTERVAL_MS = 5_000;
/** Pings without an answer, after which an agent counts as frozen or gone. */
const MAX_UNANSWERED_PINGS = 3;
/** Bytes of one answer, and of all answers together, that an agent may send ahead of us. */
const STREAM_WINDOW_BYTES = 8 * 1024 * 1024;
const SESSION_WINDOW_BYTES = 64 * 1024 * 1024;

/** gRPC status codes that are looked at. */
const GRPC_OK = '0';
const GRPC_UNIMPLEMENTED = '12';
/** Metadata key under which agents send the CamelCase code of an error along. */
const ERROR_CODE_KEY = 'esb-code';

/** Codes with which an agent ends a call that it has not begun. */
const NOT_STARTED_CODES: ReadonlySet<string> = new Set([
  'Unavailable',
  'NotFound',
  'Fenced',
  'InvalidArgument',
  'FailedPrecondition',
  'PausedByOwner',
  'QueueFull',
  'NodeFull',
]);

/** Key and certificate (PEM) by which agents know a gateway. */
export interface ClientCertificate {
  readonly certificate: string;
  readonly privateKey: string;
}

/** How a call ended, as far as its agent or the loss of it tells. */
export type AgentAnswer =
  | {
      readonly kind: 'Answered';
      readonly status: number;
      /** Cut off beyond {@link MAX_RESPONSE_BYTES}. */
      readonly body: Buffer;
      /** Bytes that the worker sent. */
      readonly size: number;
      readonly trailer: InvokeTrailer;
    }
  | { readonly kind: 'TimedOut'; readonly trailer: InvokeTrailer }
  /** Nothing reached the worker: anyone may try again. `ConnectionLost` is the reason when the agent never had it. */
  | { readonly kind: 'Refused'; readonly reason: string; readonly message: string }
  | {
      readonly kind: 'Unknown';
      readonly reason: string;
      readonly message: string;
      readonly stamp: string;
    };

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
  readonly #invokeHeaders: OutgoingHttpHeaders;
  readonly #calls = new Set<AgentCall>();
  readonly #idleListeners: (() => void)[] = [];
  #timer: Timer;
  #unanswered = 0;
  #connected = false;
  #opened = false;
  #retired = false;
  #fault: EsbError | undefined;

  constructor(options: AgentSessionOptions) {
    this.#options = options;
    this.#invokeHeaders = grpcHeaders(options.protocol.invokePath);
    const socket = openSocket(options);
    this.#http2 = connectHttp2(`https://${options.endpoint.host}`, {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW_BYTES },
      // In MB. The default of 10 makes Node.js refuse streams of its own while two large payloads are on their way.
      maxSessionMemory: 65_536,
    });
    this.#http2.on('error', (error) => this.#fail(error));
    this.#http2.on('goaway', () => this.#retire('the agent asked to go away'));
    this.#http2.on('close', () => this.#closed());
    this.#http2.once('connect', () => {
      if (!isTrusted(socket, options.trusted)) {
        this.#fail(
          new EsbError('the agent shows a certificate that does not stand in its LambdaNode', {
            code: 'UntrustedAgent',
            retryable: true,
          }),
        );
        return;
      }
      this.#connected = true;
      this.#http2.setLocalWindowSize(SESSION_WINDOW_BYTES);
      this.#watch();
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
    let stream: ClientHttp2Stream;
    try {
      stream = this.#http2.request(this.#invokeHeaders);
    } catch (error) {
      return Promise.resolve({ kind: 'Refused', reason: 'ConnectionLost', message: messageOf(error) });
    }
    const call = new AgentCall(stream, protocol, clock.monotonic() + limitMs, () => {
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
    call.send(request);
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

  #watch(): void {
    const { protocol, listener } = this.#options;
    const stream = this.#http2.request(grpcHeaders(protocol.watchPath));
    let ending = 'the agent ended its Watch';
    let sawStatus = false;
    const reader = new GrpcFrameReader((bytes) => this.#take(protocol.decodeWatch(bytes), listener));
    const noteStatus = (headers: Readonly<Record<string, unknown>>): void => {
      const status = headers['grpc-status'];
      sawStatus ||= status !== undefined;
      if (status !== undefined && status !== GRPC_OK) {
        ending = `the agent refused to be watched: ${grpcMessage(headers)}`;
      }
    };
    stream.on('response', noteStatus);
    stream.on('trailers', noteStatus);
    stream.on('data', (bytes: Buffer) => {
      try {
        reader.push(bytes);
      } catch (error) {
        this.#fail(error);
      }
    });
    stream.on('error', (error) => {
      ending = messageOf(error);
    });
    stream.on('close', () => {
      if (this.#opened || sawStatus) {
        this.#retire(ending);
      } else {
        // Nothing was said: it is the connection that is over, whose end tells more.
        this.#http2.destroy();
      }
    });
    stream.end(grpcFrame(protocol.encodeWatch()));
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

/** One call on its stream. */
class AgentCall {
  readonly #stream: ClientHttp2Stream;
  readonly #protocol: AgentProtocol;
  readonly #limit: number;
  readonly #onSettled: () => void;
  readonly #answered = Promise.withResolvers<AgentAnswer>();
  #status = 0;
  #chunks: Buffer[] = [];
  #size = 0;
  #settled = false;
  #fault: string | undefined;
  #grpcStatus: string | undefined;
  #errorCode: string | undefined;

  constructor(stream: ClientHttp2Stream, protocol: AgentProtocol, limit: number, onSettled: () => void) {
    this.#stream = stream;
    this.#protocol = protocol;
    this.#limit = limit;
    this.#onSettled = onSettled;
    const reader = new GrpcFrameReader((bytes) => this.#take(bytes));
    stream.on('response', (headers) => this.#noteStatus(headers));
    stream.on('trailers', (headers) => this.#noteStatus(headers));
    stream.on('data', (bytes: Buffer) => {
      try {
        reader.push(bytes);
      } catch (error) {
        this.#fault = messageOf(error);
        stream.close(constants.NGHTTP2_CANCEL);
      }
    });
    stream.on('error', (error) => {
      this.#fault ??= error.message;
    });
    stream.on('close', () => this.#closed());
  }

  get answer(): Promise<AgentAnswer> {
    return this.#answered.promise;
  }

  send(request: InvokeRequest): void {
    this.#stream.end(grpcFrame(this.#protocol.encodeInvoke(request)));
  }

  /** The caller is gone. The agent takes the call out of its queue, or lets it run to its end. */
  abandon(): void {
    this.#settle({
      kind: 'Unknown',
      reason: 'CallerGone',
      message: 'the caller hung up',
      stamp: '',
    });
    this.#stream.close(constants.NGHTTP2_CANCEL);
  }

  checkLimit(now: number): void {
    if (now > this.#limit) {
      this.#settle({
        kind: 'Unknown',
        reason: 'ConnectionLost',
        message: 'the agent has not told the end of the call long after its time was over',
        stamp: '',
      });
      this.#stream.close(constants.NGHTTP2_CANCEL);
    }
  }

  /** The connection is gone. */
  lose(why: string): void {
    this.#fault ??= why;
    this.#closed();
  }

  #take(bytes: Buffer): void {
    const { head, chunk, trailer } = this.#protocol.decodeInvoke(bytes);
    if (head !== undefined) {
      this.#status = head.status;
    } else if (chunk !== undefined) {
      this.#size += chunk.length;
      if (this.#size <= MAX_RESPONSE_BYTES) {
        this.#chunks.push(chunk);
      }
    } else if (trailer !== undefined) {
      this.#settle(this.#answerOf(trailer));
    }
  }

  #answerOf(trailer: InvokeTrailer): AgentAnswer {
    switch (trailer.outcome) {
      case 'OUTCOME_ANSWERED': {
        const [first] = this.#chunks;
        return {
          kind: 'Answered',
          status: this.#status,
          body: this.#chunks.length === 1 && first !== undefined ? first : Buffer.concat(this.#chunks),
          size: this.#size,
          trailer,
        };
      }
      case 'OUTCOME_TIMED_OUT':
        return { kind: 'TimedOut', trailer };
      case 'OUTCOME_REFUSED':
        return { kind: 'Refused', reason: trailer.reason, message: trailer.message };
      case 'OUTCOME_UNKNOWN':
      case 'OUTCOME_UNSPECIFIED':
        return {
          kind: 'Unknown',
          reason: trailer.reason === '' ? 'ConnectionLost' : trailer.reason,
          message: trailer.message,
          stamp: trailer.stamp,
        };
      default:
        return unreachable(trailer.outcome);
    }
  }

  #noteStatus(headers: Readonly<Record<string, unknown>>): void {
    const status = headers['grpc-status'];
    if (typeof status === 'string') {
      this.#grpcStatus = status;
      if (status !== GRPC_OK) {
        const code = headers[ERROR_CODE_KEY];
        this.#errorCode = typeof code === 'string' ? code : undefined;
        this.#fault ??= grpcMessage(headers);
      }
    }
  }

  /** The stream is over without a trailer of ours: by an error of the agent's, or because the connection is gone. */
  #closed(): void {
    if (this.#settled) {
      return;
    }
    const message = this.#fault ?? 'the connection to the agent was lost';
    if (this.#grpcStatus === GRPC_UNIMPLEMENTED) {
      this.#settle({ kind: 'Refused', reason: 'Unavailable', message });
      return;
    }
    if (this.#errorCode !== undefined) {
      this.#settle(
        NOT_STARTED_CODES.has(this.#errorCode)
          ? { kind: 'Refused', reason: this.#errorCode, message }
          : { kind: 'Unknown', reason: this.#errorCode, message, stamp: '' },
      );
      return;
    }
    // Without an id it never left this process, and a refused stream was not looked at by the other side (RFC 9113, 8.7).
    const neverSeen =
      this.#stream.id === undefined || this.#stream.rstCode === constants.NGHTTP2_REFUSED_STREAM;
    this.#settle(
      neverSeen
        ? { kind: 'Refused', reason: 'ConnectionLost', message }
        : { kind: 'Unknown', reason: 'ConnectionLost', message, stamp: '' },
    );
  }

  #settle(answer: AgentAnswer): void {
    if (!this.#settled) {
      this.#settled = true;
      this.#chunks = [];
      this.#onSettled();
      this.#answered.resolve(answer);
    }
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

function isTrusted(socket: TLSSocket, trusted: string): boolean {
  const shown = socket.getPeerX509Certificate();
  const blocks = trusted.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
  return (
    shown !== undefined &&
    socket.authorized &&
    blocks.some((block) => new X509Certificate(block).raw.equals(shown.raw))
  );
}

function grpcHeaders(path: string): OutgoingHttpHeaders {
  return {
    ':method': 'POST',
    ':path': path,
    ':scheme': 'https',
    'content-type': 'application/grpc',
    te: 'trailers',
    'user-agent': 'esb-gateway',
  };
}

/** The text of a gRPC status, which is percent-encoded on the wire. */
function grpcMessage(headers: Readonly<Record<string, unknown>>): string {
  const message = headers['grpc-message'];
  const text = typeof message === 'string' ? message : `status ${String(headers['grpc-status'])}`;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
