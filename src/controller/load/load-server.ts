import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { decodeReport, LOAD_PATH, LOAD_SILENCE_MS, MAX_LOAD_BYTES } from '../../api/load-report.ts';
import type { Clock, Timer } from '../../common/clock.ts';
import { messageOf } from '../../common/errors.ts';
import type { HostPort } from '../../common/host-port.ts';
import type { Logger } from '../../common/logger.ts';
import { listenOn } from '../../common/net/listen.ts';
import { Tally } from '../../common/tally.ts';
import type { CertifiedKey } from '../../common/x509.ts';
import { ClientGate, gatewaysAlone } from '../../peers/client-gate.ts';
import type { LoadBook, LoadStream } from './load-book.ts';

/**
 * Connections at most: two gateways and a role of events for each of 1,300 namespaces, and 150 to 200 MiB. Milliseconds
 * for the head of a request.
 */
const MAX_CONNECTIONS = 4_096;
const HEAD_MS = 10_000;
/** Streams of one namespace at most: no tenant takes those of others. */
const MAX_STREAMS = 128;
/** Bytes of a stream that are read in a second. Gateways send less; more is left waiting. */
const BYTES_PER_SECOND = 512 * 1024;
const SECOND_MS = 1_000;
const TOLD_EVERY_MS = 60_000;
/** Lines of a stream in a second, above which it is that of no gateway: 10 are usual, and more come after a delay. */
const LINES_PER_SECOND = 500;
/** Milliseconds after which a stream ends: the certificate of the next one is looked at again. */
const STREAM_MS = 3_600_000;
const GATEWAY_ID = /^[0-9a-zA-Z-]{1,64}$/;

export interface LoadServerOptions {
  readonly book: Pick<LoadBook, 'open'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics?: LoadMetrics;
  /** Default {@link MAX_CONNECTIONS}. */
  readonly maxConnections?: number;
}

export interface LoadMetrics {
  loadStreams(count: number): void;
  /** A connection or a stream was refused for the number of those that are there. */
  loadDropped(): void;
}

/**
 * Takes the load of gateways: one long request of each, whose body is lines of {@link decodeReport}. A gateway is let
 * in for the namespaces that its certificate names. Until the server has an identity, every handshake fails.
 */
export class LoadServer {
  readonly #options: LoadServerOptions;
  readonly #server: Server;
  readonly #gate = new ClientGate();
  /** Streams, by namespace. */
  readonly #streams = new Tally();
  /** Streams of all namespaces. */
  #open = 0;
  /** Monotonic milliseconds of the last word about a gateway that was refused. */
  #droppedAt = Number.NEGATIVE_INFINITY;
  /** Connections, those included that are still in the handshake. */
  readonly #sockets = new Set<Socket>();

  constructor(options: LoadServerOptions) {
    this.#options = options;
    this.#server = createServer(
      {
        ...gatewaysAlone,
        ALPNProtocols: ['http/1.1'],
        handshakeTimeout: HEAD_MS,
        headersTimeout: HEAD_MS,
        // The request of a gateway lasts.
        requestTimeout: 0,
      },
      (request, response) => this.#serve(request, response),
    );
    this.#server.maxConnections = options.maxConnections ?? MAX_CONNECTIONS;
    this.#server.on('drop', (from) => {
      this.#drop({ remote: from?.remoteAddress }, 'too many connections: functions of that gateway are not scaled');
    });
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    // A connection that cannot be accepted ends no leader. A port that cannot be had is an error of listen().
    this.#server.on('error', (error) => options.logger.debug({ error: error.message }, 'listener failed'));
    this.#server.on('tlsClientError', (error, socket) => {
      options.logger.debug({ remote: socket.remoteAddress, reason: error.message.trim() }, 'TLS handshake failed');
    });
  }

  /** Connections from now on see this certificate and are asked for one of this authority. */
  configure({ certificate, privateKey }: CertifiedKey, authority: string): void {
    this.#gate.trust(authority);
    this.#server.setSecureContext({ cert: certificate, key: privateKey, ca: authority, minVersion: 'TLSv1.3' });
  }

  /** Takes the port, and returns the real one. Errors are those of `listenOn`. */
  listen(address: HostPort): Promise<number> {
    return listenOn(this.#server, address);
  }

  /** Ends all streams, and gives the port back. */
  async close(): Promise<void> {
    const closed = Promise.withResolvers<void>();
    this.#server.close(() => closed.resolve());
    for (const socket of this.#sockets) {
      socket.destroy();
    }
    await closed.promise;
  }

  #count(namespace: string, more: number): void {
    this.#streams.add(namespace, more);
    this.#open += more;
    this.#options.metrics?.loadStreams(this.#open);
  }

  /** Logs that once in a while: gateways try again at once. */
  #drop(fields: object, message: string): void {
    const { clock, logger, metrics } = this.#options;
    metrics?.loadDropped();
    const now = clock.monotonic();
    if (now - this.#droppedAt >= TOLD_EVERY_MS) {
      this.#droppedAt = now;
      logger.warn(fields, message);
    }
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const { book, clock, logger } = this.#options;
    const [path, query] = (request.url ?? '').split('?');
    const asked = new URLSearchParams(query);
    const [namespace, gateway] = [asked.get('namespace') ?? '', asked.get('gateway') ?? ''];
    if (request.method !== 'POST' || path !== LOAD_PATH || !GATEWAY_ID.test(gateway)) {
      refuse(response, 404, `gateways send POST ${LOAD_PATH}?namespace=NAMESPACE&gateway=ID`);
      return;
    }
    const why = this.#gate.refusal(request.socket as TLSSocket, clock.now(), namespace);
    if (why !== undefined) {
      logger.warn(
        { remote: request.socket.remoteAddress, namespace, reason: why },
        'refused a client that is no gateway',
      );
      refuse(response, 403, `the client is no gateway of ${namespace}: ${why}`);
      return;
    }
    if (this.#streams.get(namespace) >= MAX_STREAMS) {
      this.#drop({ namespace, gateway }, 'too many streams: functions of that gateway are not scaled');
      refuse(response, 429, `${namespace} has ${MAX_STREAMS} streams already`);
      return;
    }
    this.#count(namespace, 1);
    response.once('close', () => this.#count(namespace, -1));
    logger.info({ namespace, gateway, remote: request.socket.remoteAddress }, 'a gateway tells its load');
    response.writeHead(200, { 'content-type': 'text/plain' }).flushHeaders();
    this.#follow(request, response, book.open(namespace, gateway));
  }

  /** Takes reports until the stream ends, is silent or breaks a rule. */
  #follow(request: IncomingMessage, response: ServerResponse, stream: LoadStream): void {
    const { clock, logger } = this.#options;
    const cut = (): void => {
      request.destroy();
    };
    const over = clock.setTimer(cut, STREAM_MS);
    let silence: Timer = clock.setTimer(cut, LOAD_SILENCE_MS);
    let rest = '';
    let second = { since: clock.monotonic(), bytes: 0, lines: 0 };
    request.setEncoding('utf8');
    request.on('data', (text: string) => {
      silence.cancel();
      silence = clock.setTimer(cut, LOAD_SILENCE_MS);
      // A line of many small parts is put together once, at its end.
      const lines = text.includes('\n') ? (rest + text).split('\n') : [rest + text];
      rest = lines.pop() ?? '';
      const now = clock.monotonic();
      second = now - second.since < SECOND_MS ? second : { since: now, bytes: 0, lines: 0 };
      second.bytes += text.length;
      second.lines += lines.length;
      if (second.lines > LINES_PER_SECOND) {
        logger.warn({ remote: request.socket.remoteAddress }, 'load comes in more lines than a gateway sends');
        cut();
        return;
      }
      try {
        for (const line of lines) {
          const report = decodeReport(line);
          stream.take(report);
          // The sign of life by which the gateway knows that this leader is there.
          if (report.kind === 'all' && !response.writableNeedDrain) {
            response.write('\n');
          }
        }
      } catch (error) {
        logger.warn({ remote: request.socket.remoteAddress, error: messageOf(error) }, 'load cannot be read');
        cut();
      }
      if (rest.length > MAX_LOAD_BYTES) {
        cut();
      }
      if (second.bytes > BYTES_PER_SECOND) {
        request.pause();
        clock.setTimer(() => request.resume(), SECOND_MS);
      }
    });
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    request.once('end', () => response.end());
    response.once('close', () => {
      over.cancel();
      silence.cancel();
      stream.end();
    });
  }
}

function refuse(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain', connection: 'close' }).end(`${text}\n`);
}
