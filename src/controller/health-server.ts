import { fastify } from 'fastify';
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

/**
 * Starts the server.
 *
 * @throws {EsbError} `AddressInUse` or `ListenFailed`
 */
export async function startHealthServer(options: HealthServerOptions): Promise<HealthServer> {
  const { address, registry, ready } = options;
  const server = fastify({ logger: false, forceCloseConnections: true });
  server.get('/healthz', () => 'ok\n');
  server.get('/readyz', async (_request, reply) => {
    const health = ready();
    if (health.ok) {
      return 'ok\n';
    }
    return await reply.code(503).send(`${health.reason}: ${health.message}\n`);
  });
  server.get('/metrics', async (_request, reply) => {
    return await reply.type(registry.contentType).send(await registry.metrics());
  });
  try {
    await server.listen({ port: address.port, host: address.host === '' ? '::' : address.host });
  } catch (error) {
    await server.close();
    throw new EsbError(`cannot serve health on ${formatHostPort(address)}: ${messageOf(error)}`, {
      code: errnoOf(error) === 'EADDRINUSE' ? 'AddressInUse' : 'ListenFailed',
      cause: error,
    });
  }
  const bound = server.server.address();
  return {
    port: typeof bound === 'object' && bound !== null ? bound.port : address.port,
    close: () => server.close(),
  };
}
