import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Clock } from '../../common/clock.ts';
import type { Logger } from '../../common/logger.ts';
import type { IpRange } from '../../common/net/ip-range.ts';
import { listenOn } from '../../common/net/listen.ts';
import { completeXRay } from '../../common/tracing/trace-context.ts';
import type { Access } from '../access/access.ts';
import { strangerAt } from '../access/access-cache.ts';
import { overloaded, refusalFor } from '../admission/admission-policy.ts';
import type { RequestRates } from '../admission/request-rates.ts';
import { UnverifiedBodies } from '../admission/unverified-bodies.ts';
import type { FunctionCall, InvokeResult } from '../agents/function-call.ts';
import type { Invoker } from '../dispatch/invoker.ts';
import { refusalReport, resultName, toLambdaError } from '../http/answer.ts';
import { ConnectionDrain, type Door } from '../http/connection-drain.ts';
import { Entrance } from '../http/entrance.ts';
import { type ConnectionLimits, guardedServer, HttpGuard } from '../http/http-guard.ts';
import { announcedBytes, announcesBody, readRequestBody } from '../http/request-body.ts';
import { CallerRates, type RateLimit } from '../lambda/caller-rate.ts';
import { MAX_PAYLOAD_BYTES } from '../lambda/json-payload.ts';
import { LambdaError, unavailable } from '../lambda/lambda-error.ts';
import { type CallReport, NOT_RUN } from '../telemetry/observed-call.ts';
import { clientOf } from './client-address.ts';
import type { FunctionUrls, UrlRoute } from './function-urls.ts';
import { refusalOf } from './url-answer.ts';
import { type Signer, urlEventOf } from './url-event.ts';
import { UrlVisit, type UrlVisitOptions } from './url-visit.ts';

/** Addresses whose rates are remembered. */
const MAX_ADDRESSES = 20_000;
const NO_BODY = Buffer.alloc(0);
const HUNG_UP: CallReport = { ...NOT_RUN, result: 'hung_up', status: 0 };

export interface UrlServiceOptions extends UrlVisitOptions {
  readonly connections: ConnectionLimits;
  readonly access: Access;
  readonly requestRates: RequestRates;
  readonly invoker: Pick<Invoker, 'enter' | 'find' | 'invoke'>;
  /** Of each address. */
  readonly rate: RateLimit;
  readonly look: FunctionUrls['look'];
  /** Proxies whose X-Forwarded-For is believed. */
  readonly proxies: readonly IpRange[];
  /** Why nothing can be said about any function yet; undefined when that is not so. */
  readonly notReady: () => LambdaError | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * The listener of function URLs, over plain HTTP: a proxy in front has TLS. Without the framework of the Lambda API,
 * since every method and path goes to one place, as sent.
 */
export function createUrlDoor(options: UrlServiceOptions): Door {
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

/** Answers requests of function URLs: each is an Invoke of its function. */
class UrlService {
  readonly #options: UrlServiceOptions;
  readonly #entrance: Entrance;
  readonly #rates: CallerRates;
  /** Bodies that are arriving, by address. */
  readonly #bodies: UnverifiedBodies;

  constructor(options: UrlServiceOptions) {
    const { access, clock, rate, requestRates, routes } = options;
    this.#options = options;
    this.#entrance = new Entrance({
      access,
      requestRates,
      unverified: new UnverifiedBodies(clock),
      isOwnHost: (host) => routes.find(host) !== undefined,
    });
    this.#rates = new CallerRates(rate, MAX_ADDRESSES);
    this.#bodies = new UnverifiedBodies(clock);
  }

  /** Rejects only for a fault of the gateway. */
  async serve(raw: IncomingMessage, response: ServerResponse): Promise<void> {
    const { logger, proxies, room } = this.#options;
    const startedAt = performance.now();
    const forwarded = [raw.headers['x-forwarded-for'] ?? ''].flat().join(',');
    const overload = room.overload();
    const client = clientOf(raw.socket.remoteAddress ?? '', forwarded, proxies);
    const visit = new UrlVisit(raw, response, client, this.#options);
    // A client that has left reads no more.
    response.on('error', () => undefined);
    response.once('close', () => {
      this.#entrance.leave(visit);
      visit.hold.close();
      visit.caller.hangUp();
      visit.report(HUNG_UP);
    });
    try {
      this.#admit(visit, overload !== undefined);
      const result = await this.#answer(visit);
      visit.report({
        result: result === undefined ? 'ok' : result.result,
        status: response.statusCode,
        durationMs: performance.now() - startedAt,
        start: result?.answer.timings?.start ?? '',
        timings: result?.answer.timings,
        answerBytes: visit.reply.bytes,
      });
    } catch (error) {
      const known = toLambdaError(error, logger, visit.id);
      const refusal = refusalOf(known);
      if (refusal.status === 403) {
        // A closed URL waits as long as a host without a function: the time of an answer tells no names.
        await this.#look(visit);
      }
      visit.report({ ...refusalReport(known), status: refusal.status });
      if (response.headersSent) {
        response.destroy();
      } else {
        visit.reply.send(refusal);
      }
    }
  }

  /**
   * Counts a request against its address, before anything of it is looked at that takes time.
   *
   * @throws {LambdaError} TooManyRequestsException
   */
  #admit({ client, hold }: UrlVisit, isOverloaded: boolean): void {
    const sender = strangerAt(client.address).name;
    const waitMs = this.#rates.take(sender, this.#options.clock.monotonic());
    if (waitMs > 0) {
      throw refusalFor('CallerRateLimitExceeded', '', Math.ceil(waitMs / 1000));
    }
    if (isOverloaded || !hold.takeStranger(sender)) {
      throw overloaded();
    }
  }

  /** Answers a request; returns how its call ended, undefined where the gateway answers without one. */
  async #answer(visit: UrlVisit): Promise<{ readonly answer: InvokeResult; readonly result: string } | undefined> {
    // First all that does not depend on the host: strangers learn no names by asking.
    if (!visit.isPlain) {
      throw new LambdaError('InvalidRequestContentException', 'This is no request that a function URL takes.');
    }
    const notReady = this.#options.notReady();
    if (notReady !== undefined) {
      throw notReady;
    }
    const route = await this.#routeOf(visit);
    if (route === undefined) {
      throw forbidden();
    }
    if (route.isUndecided) {
      throw unavailable('The label of the namespace has not been read yet.');
    }
    if (visit.reply.sendPreflight()) {
      return undefined;
    }
    visit.observation.addressed(route.functionName, 'RequestResponse', 0);
    await this.#letIn(visit, route);
    visit.body = await this.#readBody(visit);
    const signer = this.#prove(visit, route);
    return await this.#invoke(visit, route, signer);
  }

  /** The function that is meant. The namespace may have got its label since the last look. */
  async #routeOf(visit: UrlVisit): Promise<UrlRoute | undefined> {
    if (visit.route === undefined) {
      await this.#look(visit);
      visit.route = this.#options.routes.find(visit.raw.headers.host ?? '');
    }
    return visit.route;
  }

  /** Looks at the label of the namespace, once for each request. */
  async #look(visit: UrlVisit): Promise<void> {
    if (!visit.hasLooked) {
      visit.hasLooked = true;
      await this.#options.look();
    }
  }

  /** @throws {LambdaError} for a sender without the right, where the URL asks for one */
  async #letIn(visit: UrlVisit, { functionName, url }: UrlRoute): Promise<void> {
    if (url.authType === 'NONE') {
      return;
    }
    if (!visit.isSigned) {
      throw forbidden();
    }
    await this.#entrance.enter(visit, () => ({ action: 'invoke', functionName }));
    if (visit.visitor?.identity.principal.kind !== 'AccessKey') {
      // Authentication is off: no body is read in vain.
      throw forbidden();
    }
  }

  /** The whole body, within the share that its address has of those that are arriving. */
  async #readBody(visit: UrlVisit): Promise<Buffer> {
    const { caller, client, hold, raw } = visit;
    if (!announcesBody(raw)) {
      return NO_BODY;
    }
    await this.#entrance.awaitBody(visit);
    const leave = await this.#bodies.enter(strangerAt(client.address).name, announcedBytes(raw), caller);
    try {
      return await new Promise<Buffer>((resolve, reject) => {
        raw.once('close', () => reject(new LambdaError('InvalidRequestContentException', 'The client hung up.')));
        const isHashed = visit.visitor?.identity.isHashed ?? false;
        readRequestBody(raw, hold, { clock: this.#options.clock, isHashed }, (error, body, sha256) => {
          if (visit.visitor !== undefined) {
            visit.visitor.bodyHash = sha256;
          }
          if (error === null) {
            resolve(body ?? NO_BODY);
          } else {
            reject(error);
          }
        });
      });
    } finally {
      leave();
    }
  }

  /** @returns the signer, once the whole request is proved; undefined where the URL asks for none */
  #prove(visit: UrlVisit, { url }: UrlRoute): Signer | undefined {
    if (url.authType === 'NONE') {
      return undefined;
    }
    const identity = this.#entrance.prove(visit, visit.observation);
    const { principal } = identity;
    if (principal.kind !== 'AccessKey') {
      throw forbidden();
    }
    return { accessKeyId: principal.accessKeyId, user: principal.user };
  }

  async #invoke(visit: UrlVisit, { functionName, url }: UrlRoute, signer: Signer | undefined) {
    const { invoker } = this.#options;
    const { caller, hold, observation, reply } = visit;
    const traceId = completeXRay(observation.traceId, functionName);
    observation.addressed(functionName, 'RequestResponse', visit.body.length);
    const reference = { name: functionName };
    invoker.find(reference);
    let call: FunctionCall = {
      reference,
      requestId: visit.id,
      // The event is made of it once the function has a place for the call.
      payload: visit.body,
      clientContext: '',
      tailLog: false,
      traceId,
      traceParent: observation.traceParent,
    };
    visit.call = call;
    const sink = url.invokeMode === 'RESPONSE_STREAM' ? reply : undefined;
    const entered = await invoker.enter(call, caller, hold.room);
    let answer: InvokeResult;
    try {
      observation.admitted(entered.queuedMs);
      const payload = this.#eventOf(visit, signer, traceId);
      hold.add(payload.length - visit.body.length);
      visit.body = NO_BODY;
      call = { ...call, payload };
      visit.call = call;
      answer = await invoker.invoke(call, caller, entered, sink);
      entered.answered(answer.body.length, hold);
    } finally {
      entered.release();
    }
    const isWhole = reply.finish(answer);
    const result = resultName(answer);
    return { answer, result: result === 'ok' && !isWhole ? 'function_error' : result };
  }

  #eventOf(visit: UrlVisit, signer: Signer | undefined, traceId: string): Buffer {
    const { body, client, id: requestId, raw } = visit;
    const request = {
      method: raw.method ?? '',
      target: raw.url ?? '',
      httpVersion: raw.httpVersion,
      rawHeaders: raw.rawHeaders,
      body,
      client,
      host: (raw.headers.host ?? '').replace(/:\d*$/, '').toLowerCase(),
      requestId,
      at: this.#options.clock.now(),
      signer,
      traceId,
    };
    const payload = urlEventOf(request, MAX_PAYLOAD_BYTES);
    if (payload === undefined) {
      throw new LambdaError('RequestTooLargeException', `The event of the request is over ${MAX_PAYLOAD_BYTES} bytes.`);
    }
    return payload;
  }
}

function forbidden(): LambdaError {
  return new LambdaError('AccessDeniedException', 'There is no such URL, or the sender may not call it.');
}
