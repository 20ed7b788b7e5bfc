import { createServer, type Server, type TLSSocket } from 'node:tls';
import type { Clock, Timer } from '../../common/clock.ts';
import { EsbError, errnoOf, hasCode } from '../../common/errors.ts';
import { formatHostPort, type HostPort } from '../../common/host-port.ts';
import type { Logger } from '../../common/logger.ts';
import { AddressConnections } from '../../common/net/address-connections.ts';
import { listenOn } from '../../common/net/listen.ts';
import { ClientGate, gatewaysAlone } from '../../peers/client-gate.ts';

/**
 * Connections that the agent holds in all: gateways keep one each, and each takes a descriptor. Others that reach the
 * port hold theirs for the time of a handshake.
 */
const MAX_CONNECTIONS = 1_024;
/**
 * Connections of one IPv4 address, or of the first 64 bits of one of IPv6: gateways may share the address of their
 * node.
 */
const MAX_CONNECTIONS_PER_ADDRESS = 256;
/** Milliseconds that a client may take to its certificate. */
const HANDSHAKE_MS = 10_000;
/**
 * Longest time that a timer of Node.js runs, in milliseconds: no certificate of a gateway is valid for longer than 30
 * days.
 */
const MAX_TIMER_MS = 2 ** 31 - 1;

export interface TlsListenerOptions {
  readonly logger: Logger;
  readonly clock: Clock;
  /** Default 1,024. */
  readonly maxConnections?: number | undefined;
  /** Default 256. */
  readonly maxConnectionsPerAddress?: number | undefined;
  /** Milliseconds. Default 10,000. */
  readonly handshakeMs?: number | undefined;
  /** Given each connection of a client that proved to be a gateway. */
  readonly onConnection: (socket: TLSSocket) => void;
}

/** Identity of the listener, and its demands on clients. */
export interface TlsIdentity {
  readonly certificate: string;
  readonly privateKey: string;
  /** PEM of the authorities whose clients are let in; without it no client is. */
  readonly clientAuthority: string | undefined;
}

/**
 * The agent's door: a TLS port that only gateways get through. The port is bound before anything else, as the mutex of
 * the node. Its certificate and the clients' authority may come and change later.
 */
export class TlsListener {
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #server: Server;
  readonly #sockets = new Set<TLSSocket>();
  readonly #gate = new ClientGate();
  #refusing = false;

  constructor(options: TlsListenerOptions) {
    this.#logger = options.logger;
    this.#clock = options.clock;
    this.#server = createServer({
      ...gatewaysAlone,
      ALPNProtocols: ['h2'],
      handshakeTimeout: options.handshakeMs ?? HANDSHAKE_MS,
    });
    this.#server.maxConnections = options.maxConnections ?? MAX_CONNECTIONS;
    const connections = new AddressConnections(options.maxConnectionsPerAddress ?? MAX_CONNECTIONS_PER_ADDRESS);
    this.#server.prependListener('connection', (socket) => {
      if (this.#refusing) {
        socket.destroy();
      } else if (!connections.admit(socket)) {
        this.#logger.debug({ remote: socket.remoteAddress }, 'too many connections of one address');
      }
    });
    this.#server.on('drop', (dropped) => {
      this.#logger.warn({ remote: dropped?.remoteAddress }, 'too many connections: one was closed');
    });
    this.#server.on('secureConnection', (socket) => {
      socket.on('error', (error) => this.#logger.debug({ err: error }, 'connection broke'));
      if (!this.#admits(socket)) {
        socket.destroy();
        return;
      }
      this.#sockets.add(socket);
      const expiry = this.#cutAtExpiry(socket);
      socket.once('close', () => {
        this.#sockets.delete(socket);
        expiry.cancel();
      });
      options.onConnection(socket);
    });
    this.#server.on('tlsClientError', (error, socket) => {
      const remote = socket.remoteAddress;
      // Node.js only reports a handshake that takes too long, and leaves it open.
      socket.destroy();
      if (errnoOf(error) === 'ECONNRESET') {
        // Probes of the port do this all the time.
        this.#logger.debug({ remote }, 'connection ended before its TLS handshake');
      } else {
        this.#logger.info({ remote, reason: error.message.trim() }, 'refused a TLS handshake');
      }
    });
  }

  /**
   * Takes the port.
   *
   * @throws {EsbError} `AddressInUse` when another process has it, `ListenFailed` for anything else
   */
  async bind(address: HostPort): Promise<HostPort> {
    let port: number;
    try {
      port = await listenOn(this.#server, address);
    } catch (error) {
      throw hasCode(error, 'AddressInUse')
        ? new EsbError(
            `${formatHostPort(address)} is taken: another agent runs on this node, or another program has the port`,
            { code: 'AddressInUse', cause: error },
          )
        : error;
    }
    this.#server.on('error', (error) => this.#logger.error({ err: error }, 'listener failed'));
    return { host: address.host, port };
  }

  /** From now on this certificate is shown and this authority asked for; connections that it does not cover are cut. */
  configure(identity: TlsIdentity): void {
    this.#gate.trust(identity.clientAuthority);
    this.#server.setSecureContext({
      key: identity.privateKey,
      cert: identity.certificate,
      // Without an authority of its own a server trusts every public one. No client has a certificate signed by ours.
      ca: identity.clientAuthority ?? identity.certificate,
      minVersion: 'TLSv1.3',
    });
    for (const socket of this.#sockets) {
      if (this.#gate.refusal(socket, this.#clock.now()) !== undefined) {
        socket.destroy();
      }
    }
  }

  /**
   * Takes no new client, and keeps the port. Connections end before their handshake: a client that has shown its
   * certificate would take the end for a refusal of that, and ask for another one.
   */
  refuse(): void {
    this.#refusing = true;
  }

  /** Resolves once no client is connected. */
  async idle(): Promise<void> {
    while (this.#sockets.size > 0) {
      // The helper of node:events would reject where a client resets its connection.
      await Promise.all([...this.#sockets].map((socket) => new Promise((resolve) => socket.once('close', resolve))));
    }
  }

  /** Gives the port back and cuts what is still connected. */
  async close(): Promise<void> {
    const closed = Promise.withResolvers<void>();
    this.#server.close(() => closed.resolve());
    for (const socket of this.#sockets) {
      socket.destroy();
    }
    await closed.promise;
  }

  /** A gateway has another connection long before its certificate ends. */
  #cutAtExpiry(socket: TLSSocket): Timer {
    const validTo = socket.getPeerX509Certificate()?.validToDate.getTime() ?? 0;
    const leftMs = Math.min(MAX_TIMER_MS, Math.max(0, validTo - this.#clock.now()));
    return this.#clock.setTimer(() => {
      this.#logger.info({ remote: socket.remoteAddress }, 'certificate of a client has run out');
      socket.destroy();
    }, leftMs);
  }

  #admits(socket: TLSSocket): boolean {
    const refusal =
      this.#gate.refusal(socket, this.#clock.now()) ??
      (socket.alpnProtocol === 'h2' ? undefined : 'it does not speak HTTP/2');
    if (refusal !== undefined) {
      this.#logger.warn({ remote: socket.remoteAddress, reason: refusal }, 'refused a connection');
    }
    return refusal === undefined;
  }
}
