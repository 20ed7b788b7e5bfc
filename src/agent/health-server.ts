import { fastify } from 'fastify';
import { EsbError, errnoOf } from '../common/errors.ts';
import type { Health } from '../common/health.ts';
import { formatHostPort, type HostPort } from '../common/host-port.ts';
import type { MetricsPage } from '../common/metrics-page.ts';

export interface HealthServerOptions {
  /** Whether workers can be served; asked at every /readyz. */
  readonly ready: () => Health;
  readonly metricsPage: () => Promise<MetricsPage>;
}

export interface HealthServer {
  readonly address: HostPort;
  close(): Promise<void>;
}

/**
 * Serves /healthz (the process turns), /readyz and /metrics over plain HTTP.
 *
 * @throws {EsbError} `AddressInUse` or `ListenFailed`
 */
export async function startHealthServer(
  address: HostPort,
  options: HealthServerOptions,
): Promise<HealthServer> {
  const server = fastify({ logger: false, forceCloseConnections: true });
  server.get('/healthz', (_request, reply) => reply.type('text/plain').send('ok\n'));
  server.get('/readyz', (_request, reply) => {
    const health = options.ready();
    return health.ok
      ? reply.type('text/plain').send('ok\n')
      : reply.code(503).type('text/plain').send(`${health.reason}: ${health.message}\n`);
  });
  server.get('/metrics', async (_request, reply) => {
    const { contentType, text } = await options.metricsPage();
    return reply.type(contentType).send(text);
  });
  try {
    await server.listen({ port: address.port, host: address.host === '' ? '::' : address.host });
  } catch (error) {
    await server.close();
    throw new EsbError(`cannot serve health on ${formatHostPort(address)}: ${(error as Error).message}`, {
      code: errnoOf(error) === 'EADDRINUSE' ? 'AddressInUse' : 'ListenFailed',
      cause: error,
    });
  }
  const bound = server.server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : address.port;
  return { address: { host: address.host, port }, close: () => server.close() };
}
