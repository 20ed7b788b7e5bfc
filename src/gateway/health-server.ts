import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { EsbError, errnoOf, messageOf } from '../common/errors.ts';
import type { Health } from '../common/health.ts';
import { formatHostPort, type HostPort } from '../common/host-port.ts';

export interface HealthServerOptions {
  readonly ready: () => Health;
  readonly metricsPage: () => Promise<{ readonly contentType: string; readonly text: string }>;
}

/** Serves /healthz, /readyz and /metrics over plain HTTP. */
export class HealthServer {
  readonly #server: Server;

  constructor(options: HealthServerOptions) {
    this.#server = createServer((request, response) => {
      const [path = ''] = (request.url ?? '').split('?');
      switch (path) {
        case '/healthz':
          answer(response, 200, 'ok\n');
          break;
        case '/readyz': {
          const health = options.ready();
          if (health.ok) {
            answer(response, 200, 'ok\n');
          } else {
            answer(response, 503, `${health.reason}: ${health.message}\n`);
          }
          break;
        }
        case '/metrics':
          options.metricsPage().then(
            (page) => answer(response, 200, page.text, page.contentType),
            (error: unknown) => answer(response, 500, `${messageOf(error)}\n`),
          );
          break;
        default:
          answer(response, 404, 'there are /healthz, /readyz and /metrics\n');
      }
    });
  }

  /**
   * Takes the port and returns the real one.
   *
   * @throws {EsbError} `AddressInUse` when another program has it, `ListenFailed` for anything else
   */
  async listen(address: HostPort): Promise<number> {
    const listening = once(this.#server, 'listening');
    this.#server.listen({ port: address.port, ...(address.host === '' ? {} : { host: address.host }) });
    try {
      await listening;
    } catch (error) {
      throw listenError(address, error);
    }
    const bound = this.#server.address();
    return typeof bound === 'object' && bound !== null ? bound.port : address.port;
  }

  async close(): Promise<void> {
    const closed = Promise.withResolvers<void>();
    this.#server.close(() => closed.resolve());
    this.#server.closeAllConnections();
    await closed.promise;
  }
}

/** What to say when a port cannot be had. */
export function listenError(address: HostPort, error: unknown): EsbError {
  const where = formatHostPort(address);
  return errnoOf(error) === 'EADDRINUSE'
    ? new EsbError(`${where} is taken by another program`, { code: 'AddressInUse', cause: error })
    : new EsbError(`cannot listen on ${where}: ${messageOf(error)}`, { code: 'ListenFailed', cause: error });
}

function answer(response: ServerResponse, status: number, text: string, contentType = 'text/plain'): void {
  response.writeHead(status, { 'content-type': contentType });
  response.end(text);
}
