import { randomUUID } from 'node:crypto';
import { createServer, type RequestListener, type Server } from 'node:http';
import Fastify, { type FastifyRequest } from 'fastify';
import type { Clock } from '../../common/clock.ts';
import { messageOf } from '../../common/errors.ts';
import { type Access, isHostOf, nameOfHost } from '../access/access.ts';
import { overloaded } from '../admission/admission-policy.ts';
import type { RequestRates } from '../admission/request-rates.ts';
import type { Room } from '../admission/room.ts';
import { UnverifiedBodies } from '../admission/unverified-bodies.ts';
import { Caller } from '../lambda/caller.ts';
import { LambdaError, shown } from '../lambda/lambda-error.ts';
import { queryRecord, splitTarget } from '../lambda/request-target.ts';
import { type CallReport, NOT_RUN } from '../telemetry/observed-call.ts';
import { refusalReport, sendError, takeObservation, toLambdaError } from './answer.ts';
import { ConnectionDrain, type Door } from './connection-drain.ts';
import { Entrance } from './entrance.ts';
import { addFunctionRoutes, type FunctionRoutesOptions } from './function-routes.ts';
import { type ConnectionLimits, guardedServer, HttpGuard } from './http-guard.ts';
import { addInvokeRoutes, type InvokeRouteOptions } from './invoke-route.ts';
import { MAX_OPERATION_BYTES, readRequestBody } from './request-body.ts';

/** Characters of one part of a path: more than the server takes as a whole. */
const MAX_PATH_PART = 64 * 1024;

/** The report of a request whose client left before all of it had arrived. */
const HUNG_UP: CallReport = { ...NOT_RUN, result: 'hung_up', status: 0 };

export interface LambdaApiOptions extends Omit<InvokeRouteOptions & FunctionRoutesOptions, 'entrance'> {
  readonly access: Access;
  readonly requestRates: RequestRates;
  /** Names of the gateway, in small letters, for which requests may be signed. */
  readonly hosts: ReadonlySet<string>;
  /** Domain of function URLs, whose hosts are none of the Lambda API; undefined where none are served. */
  readonly urlDomain: string | undefined;
  readonly clock: Clock;
  /** The room for all requests. */
  readonly room: Room;
  readonly connections: ConnectionLimits;
  /** Makes the server that requests come in by, in place of one for plain HTTP. */
  readonly createServer?: (listener: RequestListener) => Server;
}

/** The Lambda API: Invoke, the operations that read, and its errors for everything else. */
export function createLambdaApi(options: LambdaApiOptions): Door {
  const { access, clock, hosts, observer, logger, requestRates, room, urlDomain } = options;
  const entrance = new Entrance({
    access,
    requestRates,
    unverified: new UnverifiedBodies(clock),
    isOwnHost: (host) => isHostOf(hosts, host),
  });
  let guard: HttpGuard | undefined;
  const api = Fastify({
    logger: false,
    genReqId: () => randomUUID(),
    serverFactory: (listener) => {
      const server =
        options.createServer?.(listener) ?? createServer(guardedServer(options.connections.patience), listener);
      guard = new HttpGuard(server, options.connections);
      return server;
    },
    clientErrorHandler: (error, socket) => guard?.refuse(error, socket),
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    // A name that is far too long is refused as a name, and not as a path.
    routerOptions: { maxParamLength: MAX_PATH_PART, ignoreTrailingSlash: true, querystringParser: queryRecord },
    frameworkErrors: (error, request, reply) => {
      const known = new LambdaError('InvalidParameterValueException', messageOf(error), { cause: error });
      observer({ requestId: request.id, operation: 'Unknown', message: request.raw }).end(refusalReport(known));
      sendError(reply, known, request.id);
    },
  });
  // A body is a part of what was signed, also where the operation takes none.
  api.addHttpMethod('GET', { hasBody: true, overrideExisting: true });
  // Clients send any type or none; the body is JSON in any case.
  api.removeAllContentTypeParsers();
  api.addContentTypeParser('*', (request, _stream, done) => {
    const { maxBodyBytes: maxBytes = MAX_OPERATION_BYTES, operation = 'Unknown' } = request.routeOptions.config;
    const { visitor } = request;
    const how = { clock, maxBytes, operation, isHashed: visitor?.identity.isHashed ?? false };
    const read = (): void =>
      readRequestBody(request.raw, request.hold, how, (error, body, sha256) => {
        if (visitor !== undefined) {
          visitor.bodyHash = sha256;
        }
        done(error, body);
      });
    try {
      const room = entrance.awaitBody(request, maxBytes);
      if (room === undefined) {
        read();
      } else {
        room.then(read, done);
      }
    } catch (error) {
      done(error as Error);
    }
  });
  api.addHook('onSend', (_request, reply, _payload, done) => {
    if (options.isDraining()) {
      reply.header('connection', 'close');
    }
    done();
  });
  api.decorateRequest('caller');
  api.decorateRequest('observation');
  api.decorateRequest('hold');
  api.decorateRequest('visitor');
  api.addHook('onRequest', (request, reply, done) => {
    const caller = new Caller(request.raw.socket.remoteAddress);
    request.caller = caller;
    const overload = room.overload();
    const hold = room.open();
    request.hold = hold;
    caller.hold = hold;
    reply.raw.once('close', () => {
      entrance.leave(request);
      hold.close();
      caller.hangUp();
      // Only of requests that ended before they were whole.
      takeObservation(request).end(HUNG_UP);
    });
    // The framework would refuse a malformed type before a parser sees it.
    delete request.raw.headers['content-type'];
    done(overload === undefined ? refusalOf(request, urlDomain) : overloaded());
  });
  api.setErrorHandler((error, request, reply) => {
    const known = toLambdaError(error, logger, request.id);
    // A request that is refused first of all has no observation yet.
    request.observation ??= observer({
      requestId: request.id,
      operation: request.routeOptions.config.operation ?? 'Unknown',
      message: request.raw,
    });
    takeObservation(request).end(refusalReport(known));
    if (request.visitor === undefined) {
      // An answer that a stranger does not read keeps no place from others.
      request.hold.close();
    }
    sendError(reply, known, request.id);
  });
  // Never comes to it: such a request is refused by its head.
  api.setNotFoundHandler(() => undefined);
  const drain = new ConnectionDrain(api.server, clock);
  addInvokeRoutes(api, { ...options, entrance });
  addFunctionRoutes(api, { ...options, entrance });
  return {
    async listen({ host, port }) {
      await api.listen({ port, host: host === '' ? '::' : host });
      const bound = api.server.address();
      return typeof bound === 'object' && bound !== null ? bound.port : port;
    },
    async close(how) {
      await drain.run(how);
      await api.close();
    },
  };
}

/** The refusal of a host or a target for any caller; undefined for the target of an operation. */
function refusalOf(
  { headers, is404, method, url }: FastifyRequest,
  urlDomain: string | undefined,
): LambdaError | undefined {
  const host = nameOfHost(headers.host ?? '');
  if (urlDomain !== undefined && host.endsWith(`.${urlDomain}`)) {
    // A request that its sender has signed for the path of an application is no call of another function.
    return new LambdaError('AccessDeniedException', `The Lambda API is not served at ${host}: function URLs are.`);
  }
  try {
    const { path } = splitTarget(url);
    return is404
      ? new LambdaError('UnknownOperationException', `${method} ${shown(path)} is no operation of this service`)
      : undefined;
  } catch (error) {
    return error as LambdaError;
  }
}
