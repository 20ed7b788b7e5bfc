import { createServer } from 'node:http';
import type { Clock } from '../../common/clock.ts';
import { listenOn } from '../../common/net/listen.ts';
import { refusalOf } from '../url/url-refusal.ts';
import { ConnectionDrain, type Door } from './connection-drain.ts';
import { type ConnectionLimits, guardedServer, HttpGuard } from './http-guard.ts';
import { UrlService, type UrlServiceOptions } from './url-service.ts';

export interface UrlDoorOptions extends UrlServiceOptions {
  readonly connections: ConnectionLimits;
  readonly clock: Clock;
}

/**
 * The listener of function URLs, over plain HTTP: a proxy in front has TLS. Without the framework of the Lambda API,
 * since every method and path goes to one place, as sent.
 */
export function createUrlDoor(options: UrlDoorOptions): Door {
  const service = new UrlService(options);
  const server = createServer(guardedServer(options.connections.patience), (request, response) => {
    service.serve(request, response).catch((error: unknown) => {
      // Anybody may send a request: none ends the process.
      options.logger.error({ err: error }, 'request of a function URL failed for a fault of the gateway');
      response.destroy();
    });
  });
  const guard = new HttpGuard(server, options.connections, (error, requestId) => {
    const { body, headers, status } = refusalOf(error);
    return {
      status,
      headers: { ...Object.fromEntries(headers), 'x-amzn-requestid': requestId },
      body: body.toString(),
    };
  });
  server.on('clientError', (error, socket) => guard.refuse(error, socket as Parameters<HttpGuard['refuse']>[1]));
  const drain = new ConnectionDrain(server, options.clock);
  return { listen: (address) => listenOn(server, address), close: (how) => drain.run(how) };
}
