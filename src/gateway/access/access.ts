import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';
import { refuseForeignPage } from './foreign-page.ts';
import { type Identity, provedIdentity } from './identity.ts';
import { ANONYMOUS } from './principal.ts';

/** What can be wanted of a function. */
export type AccessAction = 'invoke' | 'get' | 'list';

/** The head of one request, with all that it has to prove who makes it. */
export interface AccessRequest {
  readonly method: string;
  /** Path and query as they were sent. */
  readonly url: string;
  /** Without `content-type`, which the server hides from its framework. */
  readonly headers: IncomingHttpHeaders;
  /** Names and values in turn, as they were sent. */
  readonly rawHeaders: readonly string[];
  readonly remoteAddress: string;
  /** The connection that it came by, if that is one of TLS. */
  readonly connection: TLSSocket | undefined;
}

/** Who may do what. Both answer at once where they know the answer already, since they stand in the way of every call. */
export interface Access {
  /**
   * Whom a request is by, as far as its head tells. Nothing of its body has been read.
   *
   * @throws {LambdaError} MissingAuthenticationTokenException, InvalidSignatureException, UnrecognizedClientException, … (403),
   *   IncompleteSignatureException (400), or ServiceException (503) when it cannot be told at the moment
   */
  identify(request: AccessRequest): Promise<Identity> | Identity;
  /**
   * Lets those pass who may.
   *
   * @param functionName the bare name; undefined for what concerns all functions
   * @param address where the request is from
   * @throws {LambdaError} AccessDeniedException (403), TooManyRequestsException (429), or ServiceException (503)
   */
  authorize(
    identity: Pick<Identity, 'principal' | 'claimedKey'>,
    action: AccessAction,
    functionName: string | undefined,
    address: string,
  ): Promise<void> | void;
}

const ANYBODY = provedIdentity(ANONYMOUS);

/**
 * Authentication is off: everybody may do everything, but for web pages of others in a browser that reaches the gateway.
 *
 * @param isOnLoopback whether the gateway listens on the loopback alone
 */
export function createOpenAccess(isOnLoopback: () => boolean): Access {
  return {
    identify(request) {
      refuseForeignPage(request, isOnLoopback());
      return ANYBODY;
    },
    authorize: () => undefined,
  };
}

/** The {@link AccessRequest} of an HTTP request; nothing is read of it before somebody asks. */
export class HttpAccessRequest implements AccessRequest {
  readonly #message: IncomingMessage;

  constructor(message: IncomingMessage) {
    this.#message = message;
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
