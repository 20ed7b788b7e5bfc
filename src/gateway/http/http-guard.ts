import { randomUUID } from 'node:crypto';
import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { errnoOf } from '../../common/errors.ts';
import { AddressConnections } from '../../common/net/address-connections.ts';
import { type HttpAnswer, LambdaError, lambdaErrorAnswer } from '../lambda/lambda-error.ts';

/** Milliseconds that a connection may be idle: longer than load balancers keep theirs, so that they close first. */
const KEEP_ALIVE_MS = 75_000;
/** Milliseconds that a whole request may take to arrive. */
const REQUEST_TIMEOUT_MS = 120_000;

/** How long a server waits for slow clients. */
export interface ClientPatience {
  /** Milliseconds for the head of a request to arrive, and from the connection to its first request. */
  readonly headMs: number;
  /**
   * Milliseconds that a client may leave an answer unread. Node.js reports a client that reads slowly after up to twice
   * that.
   */
  readonly unreadMs: number;
  /** Milliseconds between two looks at the heads that are late. */
  readonly checkEveryMs: number;
}

export const CLIENT_PATIENCE: ClientPatience = { headMs: 30_000, unreadMs: 20_000, checkEveryMs: 5_000 };

/**
 * Requests of one connection without an answer at a time. SDKs and proxies send the next one after an answer. Each
 * takes a place of the gateway, and without a bound one connection could take them all.
 */
const MAX_UNANSWERED = 64;

/** The options of a server that keeps the times above to a few seconds; the handshake is that of one with TLS. */
export function guardedServer({ checkEveryMs, headMs }: ClientPatience = CLIENT_PATIENCE): {
  readonly connectionsCheckingInterval: number;
  readonly handshakeTimeout: number;
} {
  return { connectionsCheckingInterval: checkEveryMs, handshakeTimeout: headMs };
}

export interface ConnectionLimits {
  /** In all; further ones are closed at once. */
  readonly maxConnections: number;
  /** Of one IPv4 address, or of the first 64 bits of one of IPv6. */
  readonly maxConnectionsPerAddress: number;
  /** {@link CLIENT_PATIENCE} when absent. */
  readonly patience?: ClientPatience;
}

/** Makes the answer to a request that is refused. */
type AnswerOfError = (error: LambdaError, requestId: string) => HttpAnswer;

/** The requests of a connection that have not been answered: their answers, and the last of them. */
interface UnderWay {
  readonly answers: Set<ServerResponse>;
  last: IncomingMessage;
}

/** Keeps slow clients, and clients that do not speak HTTP, from holding a server or getting a wrong answer. */
export class HttpGuard {
  readonly #underWay = new WeakMap<Socket, UnderWay>();
  readonly #unreadMs: number;
  readonly #answerOf: AnswerOfError;

  /**
   * @param server before it listens
   * @param answerOf form of the answer to bytes that are no request; that of the Lambda API when absent
   */
  constructor(server: Server, limits: ConnectionLimits, answerOf: AnswerOfError = lambdaErrorAnswer) {
    this.#answerOf = answerOf;
    const { maxConnections, maxConnectionsPerAddress, patience = CLIENT_PATIENCE } = limits;
    this.#unreadMs = patience.unreadMs;
    const connections = new AddressConnections(maxConnectionsPerAddress);
    server.keepAliveTimeout = KEEP_ALIVE_MS;
    server.requestTimeout = REQUEST_TIMEOUT_MS;
    server.headersTimeout = patience.headMs;
    server.maxConnections = maxConnections;
    // With TLS too these are the connections below it, before their handshakes.
    server.prependListener('connection', (socket: Socket) => void connections.admit(socket));
    server.prependListener('request', (request, response) => this.#begin(request, response));
    server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
      inviteWhenRead(request, response);
      server.emit('request', request, response);
    });
    // An expectation that is not known is no reason to refuse a call.
    server.on('checkExpectation', (request, response) => server.emit('request', request, response));
  }

  /**
   * Answers bytes that are no request, and closes their connection. Sends nothing while an earlier request of the
   * connection is under way: its client would take the answer for its own, and believe that the call has not run.
   */
  refuse(error: Error, socket: Socket): void {
    const underWay = this.#underWay.get(socket);
    const isOwn = underWay?.answers.size === 1 && !underWay.last.complete;
    const isIdle = underWay === undefined || underWay.answers.size === 0;
    if (socket.writable && errnoOf(error) !== 'ECONNRESET' && (isIdle || isOwn)) {
      socket.write(rawAnswer(this.#answerOf(malformed(error), randomUUID())));
    }
    socket.destroy();
  }

  #begin(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    const underWay = this.#underWay.get(socket) ?? this.#follow(request);
    const { answers } = underWay;
    answers.add(response);
    underWay.last = request;
    response.once('prefinish', () => cutWhenUnread(response, this.#unreadMs));
    response.once('close', () => answers.delete(response));
    if (answers.size > MAX_UNANSWERED) {
      socket.destroy();
    }
  }

  /**
   * Closes every answer of a connection with it, which ends the call of a gone caller and gives back its room. Node.js
   * forgets waiting answers when the client sends a CONNECT behind them.
   */
  #follow(request: IncomingMessage): UnderWay {
    const { socket } = request;
    const answers = new Set<ServerResponse>();
    const underWay: UnderWay = { answers, last: request };
    this.#underWay.set(socket, underWay);
    socket.once('close', () => {
      // After Node.js has closed those that it knows of.
      setImmediate(() => {
        for (const response of answers) {
          response.emit('close');
        }
      });
    });
    return underWay;
  }
}

/**
 * Has a client that waits for a word send its body once somebody reads it: a request that is refused by its head never
 * sends one.
 */
function inviteWhenRead(request: IncomingMessage, response: ServerResponse): void {
  request.once('resume', () => {
    // Node.js reads and drops the rest of a request after its answer.
    if (!response.headersSent) {
      response.writeContinue();
    }
  });
}

/**
 * Cuts the connection of a client that does not read its answer. Called when all of it has been written; costs nothing
 * where the system has taken it.
 */
function cutWhenUnread(response: ServerResponse, unreadMs: number): void {
  const { socket } = response;
  if (socket === null || socket.writableLength === 0) {
    return;
  }
  socket.setTimeout(unreadMs);
  // Before the server sets the time for an idle connection.
  response.prependOnceListener('finish', () => socket.setTimeout(0));
}

/** The answer to a client that did not send a whole request. */
function malformed(error: Error): LambdaError {
  switch (errnoOf(error) ?? '') {
    case 'HPE_HEADER_OVERFLOW':
      return new LambdaError('InvalidParameterValueException', 'The headers of the request are too large.', {
        status: 431,
      });
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      // SDKs repeat the request on this name.
      return new LambdaError('RequestTimeoutException', 'The request did not arrive in time.');
    default:
      return new LambdaError('InvalidRequestContentException', 'This is no valid HTTP/1.1 request.');
  }
}

function rawAnswer({ body, headers, status }: HttpAnswer): string {
  const all = { ...headers, 'content-length': Buffer.byteLength(body), connection: 'close' };
  return [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
    ...Object.entries(all).map(([name, value]) => `${name}: ${value}`),
    '',
    body,
  ].join('\r\n');
}
