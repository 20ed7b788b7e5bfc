import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { messageOf } from '../errors.ts';
import type { Health } from '../health.ts';
import type { HostPort } from '../host-port.ts';
import { listenOn } from './listen.ts';

/** Text and type of the metrics page. */
export interface MetricsPage {
  readonly contentType: string;
  readonly text: string;
}

export interface HealthServerOptions {
  /** Whether the role can do its work, or what it waits for; asked at every `/readyz`. */
  readonly ready: () => Health;
  readonly metricsPage: () => Promise<MetricsPage>;
  /** Further pages by their paths. */
  readonly pages?: Readonly<Record<string, () => Promise<MetricsPage>>>;
}

export interface HealthServer {
  readonly address: HostPort;
  /** Cuts every connection, and gives the port back. */
  close(): Promise<void>;
}

/**
 * Serves `/healthz` (the process runs), `/readyz` and `/metrics` of a role over plain HTTP. The server is Node's own: a
 * web framework would take 20 MB for three paths.
 *
 * @throws {EsbError} `AddressInUse` or `ListenFailed`
 */
export async function startHealthServer(
  address: HostPort,
  { ready, metricsPage, pages = {} }: HealthServerOptions,
): Promise<HealthServer> {
  const metricsPages = new Map(Object.entries({ '/metrics': metricsPage, ...pages }));
  const paths = ['/healthz', '/readyz', ...metricsPages.keys()].join(', ');
  const server = createServer((request, response) => {
    const [path = ''] = (request.url ?? '').split('?');
    switch (path) {
      case '/healthz':
        answer(response, 200, 'ok\n');
        break;
      case '/readyz':
        answerReadiness(response, ready());
        break;
      default:
        answerPage(response, metricsPages.get(path), paths);
    }
  });
  const port = await listenOn(server, address);
  return {
    address: { host: address.host, port },
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function answer(response: ServerResponse, status: number, text: string, contentType = 'text/plain'): void {
  response.writeHead(status, { 'content-type': contentType });
  response.end(text);
}

function answerPage(response: ServerResponse, page: (() => Promise<MetricsPage>) | undefined, paths: string): void {
  if (page === undefined) {
    answer(response, 404, `there are ${paths}\n`);
    return;
  }
  page().then(
    ({ text, contentType }) => answer(response, 200, text, contentType),
    (error: unknown) => answer(response, 500, `${messageOf(error)}\n`),
  );
}

function answerReadiness(response: ServerResponse, health: Health): void {
  answer(response, health.ok ? 200 : 503, health.ok ? 'ok\n' : `${health.reason}: ${health.message}\n`);
}
