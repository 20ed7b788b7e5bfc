import type { RequestListener } from 'node:http';
import { createServer, type Server } from 'node:https';
import { errnoOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { guardedServer } from './http-guard.ts';
import { secureContextOptions, type TlsMaterial } from './tls-files.ts';

/** An HTTPS server whose certificates can be replaced. */
export interface TlsServer {
  readonly server: Server;
  /** Connections from now on get these; those that there are go on. */
  renew(material: TlsMaterial): void;
}

/**
 * Makes the server. With an authority for clients, a client is asked for its certificate, and let in without one or
 * with a wrong one: other proofs may follow, and the client can read the reason of a refusal.
 */
export function createTlsServer(material: TlsMaterial, listener: RequestListener, logger: Logger): TlsServer {
  const server = createServer(
    {
      ...guardedServer(),
      ...secureContextOptions(material),
      requestCert: material.clientAuthority !== undefined,
      rejectUnauthorized: false,
      ALPNProtocols: ['http/1.1'],
    },
    listener,
  );
  server.on('tlsClientError', (error, socket) => {
    const remote = socket.remoteAddress;
    if (errnoOf(error) === 'ECONNRESET') {
      // Probes of the port do this all the time.
      logger.debug({ remote }, 'connection ended before its TLS handshake');
    } else {
      logger.info({ remote, reason: error.message.trim() }, 'TLS handshake failed');
    }
  });
  return {
    server,
    renew: (renewed) => server.setSecureContext(secureContextOptions(renewed)),
  };
}
