import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { Registry } from 'prom-client';
import { EsbError, errnoOf, messageOf } from '../common/errors.ts';
import type { Health } from '../common/health.ts';
import { formatHostPort, type HostPort } from '../common/host-port.ts';

export interface HealthServerOptions {
  readonly address: HostPort;
  readonly registry: Registry;
  /** Whether the role can do its work, or what it waits for. */
  readonly ready: () => Health;
}

/** Serves `/healthz`, `/readyz` and `/metrics`. */
export interface HealthServer {
  readonly port: number;
  close(): Promise<void>;
}

function answer(response: ServerResponse, status: number, text: string, contentType = 'text/plain'): void {
  response.writeHead(status, { 'content-type': contentType });
  response.end(text);
}

function answerReadiness(response: ServerResponse, health: Health): void {
  if (health.ok) {
    answer(response, 200, 'ok\n');
  } else {
    answer(response, 503, `${health.reason}: ${health.message}\n`);
  }
}

/**
 * Starts the server. Node's own: a web framework would take 20 MB for three paths.
 *
 * @throws {EsbError} `AddressInUse` or `ListenFailed`
 */
export async function startHealthServer(options: HealthServerOptions): Promise<HealthServer> {
  const { address, registry, ready } = options;
  const server = createServer((request, response) => {
    const [path = ''] = (request.url ?? '').split('?');
    switch (path) {
      case '/healthz':
        answer(response, 200, 'ok\n');
        break;
      case '/readyz':
        answerReadiness(response, ready());
        break;
      case '/metrics':
        registry.metrics().then(
          (text) => answer(response, 200, text, registry.contentType),
          (error: unknown) => answer(response, 500, `${messageOf(error)}\n`),
        );
        break;
      default:
        answer(response, 404, 'there are /healthz, /readyz and /metrics\n');
    }
  });
  try {
    server.listen({ port: address.port, ...(address.host === '' ? {} : { host: address.host }) });
    await once(server, 'listening');
  } catch (error) {
    throw new EsbError(`cannot serve health on ${formatHostPort(address)}: ${messageOf(error)}`, {
      code: errnoOf(error) === 'EADDRINUSE' ? 'AddressInUse' : 'ListenFailed',
      cause: error,
    });
  }
  const bound = server.address();
  return {
    port: typeof bound === 'object' && bound !== null ? bound.port : address.port,
    async close() {
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      server.closeAllConnections();
      await closed.promise;
    },
  };
}
