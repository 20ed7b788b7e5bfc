import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isPresigned, SIGNATURE_ALGORITHM } from '../access/signature.ts';
import type { Hold, Room } from '../admission/room.ts';
import type { FunctionCall } from '../agents/function-call.ts';
import type { Arrival, Visitor } from '../http/entrance.ts';
import { Caller } from '../lambda/caller.ts';
import type { CallObservation, CallObserver, CallReport } from '../telemetry/observed-call.ts';
import type { Client } from './client-address.ts';
import type { CorsRequest } from './cors.ts';
import type { UrlRoute, UrlRoutes } from './function-urls.ts';
import { type RepliedRequest, UrlReply } from './url-reply.ts';

/** Name of the operation, for metrics, access log and spans. */
const OPERATION = 'InvokeFunctionUrl';
/** Methods that a URL takes; as in Lambda. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);
const NO_BODY = Buffer.alloc(0);

export interface UrlVisitOptions {
  readonly routes: Pick<UrlRoutes, 'find'>;
  /** The room for requests of URLs alone. */
  readonly room: Room;
  readonly observer: CallObserver;
  /** Whether clients are to be sent elsewhere: answers then end their connection. */
  readonly isDraining: () => boolean;
}

/** One request, from its head to the last byte of its answer. */
export class UrlVisit implements Arrival, RepliedRequest {
  readonly id = randomUUID();
  readonly raw: IncomingMessage;
  readonly response: ServerResponse;
  readonly client: Client;
  readonly caller: Caller;
  readonly hold: Hold;
  /** Undefined where there is no function that may be called. */
  route: UrlRoute | undefined;
  /** Whether the request has had the label of the namespace looked at. */
  hasLooked = false;
  readonly observation: CallObservation;
  visitor: Visitor | undefined;
  body: Buffer = NO_BODY;
  /** Undefined until the call was accepted. */
  call: FunctionCall | undefined;
  readonly reply: UrlReply;
  #report: CallReport | undefined;

  constructor(raw: IncomingMessage, response: ServerResponse, client: Client, options: UrlVisitOptions) {
    this.raw = raw;
    this.response = response;
    this.client = client;
    this.caller = new Caller(client.address);
    this.route = options.routes.find(raw.headers.host ?? '');
    if (this.route?.url.authType !== 'AWS_IAM') {
      // A stranger does not decide which traces are kept.
      delete raw.headers.traceparent;
      delete raw.headers['x-amzn-trace-id'];
    }
    this.observation = options.observer({
      requestId: this.id,
      operation: OPERATION,
      message: raw,
      address: client.address,
    });
    // Last: a fault above keeps no place.
    this.hold = options.room.open();
    this.caller.hold = this.hold;
    this.reply = new UrlReply(this, options.isDraining);
  }

  get cors(): CorsRequest {
    const { headers, method = '' } = this.raw;
    return {
      method,
      origin: headers.origin ?? '',
      wantedMethod: headers['access-control-request-method'] ?? '',
      wantedHeaders: headers['access-control-request-headers'] ?? '',
    };
  }

  /**
   * Whether nothing in the request can be read in two ways, its method, target, host and the coding of its body, and a
   * URL takes it.
   */
  get isPlain(): boolean {
    const { headersDistinct, method = '', url = '' } = this.raw;
    const { host: hosts = [], 'transfer-encoding': codings = [] } = headersDistinct;
    // The parser takes other codings before the last one, and a function would not learn of them.
    const isDecoded = codings.every((coding) => coding.toLowerCase() === 'chunked');
    return METHODS.has(method) && url.startsWith('/') && hosts.length <= 1 && isDecoded;
  }

  /** Whether the request has a signature, right or not, over a target that a signature can cover. */
  get isSigned(): boolean {
    const { headers, url = '' } = this.raw;
    try {
      return isPresigned(url) || headers.authorization?.startsWith(SIGNATURE_ALGORITHM) === true;
    } catch {
      return false;
    }
  }

  /** Tells how the request ended; the first report counts. */
  report(report: CallReport): void {
    if (this.#report === undefined) {
      this.#report = report;
      this.observation.end(report);
    }
  }
}
