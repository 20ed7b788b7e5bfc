import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';
import type { Caller } from '../call/caller.ts';
import { ANONYMOUS, type Principal } from './principal.ts';

/** What can be wanted of a function. */
export type AccessAction = 'invoke' | 'get' | 'list';

/** One request, with all that proves who makes it. */
export interface AccessRequest {
  readonly method: string;
  /** Path and query as they were sent. */
  readonly url: string;
  /** Without `content-type`, which the server hides from its framework. */
  readonly headers: IncomingHttpHeaders;
  /** Names and values in turn, as they were sent. */
  readonly rawHeaders: readonly string[];
  /** The whole body; empty for none. */
  readonly body: Buffer;
  readonly remoteAddress: string;
  /** The connection that it came by, if that is one of TLS. */
  readonly connection: TLSSocket | undefined;
}

/** Who may do what. Both answer at once where they know the answer already, since they stand in the way of every call. */
export interface Access {
  /**
   * Refuses, before the body of a request has been read, whom its head alone shows to be nobody; who passes still has to be authenticated.
   *
   * @throws {LambdaError} as `authenticate` does
   */
  screen?(request: AccessRequest): Promise<void> | void;
  /**
   * Who makes a request.
   *
   * @param caller its `signal` ends waiting when the client hangs up
   * @throws {LambdaError} MissingAuthenticationTokenException, InvalidSignatureException, UnrecognizedClientException, … (403),
   *   IncompleteSignatureException (400), or ServiceException (503) when it cannot be told at the moment
   */
  authenticate(request: AccessRequest, caller: Caller): Promise<Principal> | Principal;
  /**
   * Lets those pass who may.
   *
   * @param functionName the bare name; undefined for what concerns all functions
   * @throws {LambdaError} AccessDeniedException (403), or ServiceException (503)
   */
  authorize(
    principal: Principal,
    action: AccessAction,
    functionName: string | undefined,
    caller: Caller,
  ): Promise<void> | void;
}

/** Authentication is off: everybody may do everything. */
export const openAccess: Access = {
  authenticate: () => ANONYMOUS,
  authorize: () => undefined,
};

const NO_BODY = Buffer.alloc(0);

/** The {@link AccessRequest} of an HTTP request; nothing is read of it before somebody asks. */
export class HttpAccessRequest implements AccessRequest {
  readonly #message: IncomingMessage;
  readonly body: Buffer;

  constructor(message: IncomingMessage, body: Buffer | undefined) {
    this.#message = message;
    this.body = body ?? NO_BODY;
  }

  get method(): string {
    return this.#message.method ?? '';
  }

  get url(): string {
    return this.#message.url ?? '';
  }

  get headers(): IncomingHttpHeaders {
    return this.#message.headers;
  }

  get rawHeaders(): readonly string[] {
    return this.#message.rawHeaders;
  }

  get remoteAddress(): string {
    return this.#message.socket.remoteAddress ?? '';
  }

  get connection(): TLSSocket | undefined {
    const { socket } = this.#message;
    return socket instanceof TLSSocket ? socket : undefined;
  }
}
