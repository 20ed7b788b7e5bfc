import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';
import { refuseForeignPage } from './foreign-page.ts';
import { ANONYMOUS, type Principal } from './principal.ts';

/** The head of one request, with everything that may prove its sender. */
export interface AccessRequest {
  readonly method: string;
  /** Path and query as sent. */
  readonly url: string;
  /** Without `content-type`, which the server hides from its framework. */
  readonly headers: IncomingHttpHeaders;
  /** Names and values in turn, as sent. */
  readonly rawHeaders: readonly string[];
  readonly remoteAddress: string;
  /** The connection of the request, if it is a TLS connection. */
  readonly connection: TLSSocket | undefined;
}

/** The {@link AccessRequest} of an HTTP request; each member is read on demand. */
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

/** The sender of a request, as its head shows, and the proofs that remain. */
export interface Identity {
  readonly principal: Principal;
  /**
   * The access key that the request names, while only its whole body can prove the signature; undefined once the head
   * has proved the sender.
   */
  readonly claimedKey: string | undefined;
  /**
   * Proves the rest.
   *
   * @param body the whole body; empty for none
   * @throws {LambdaError} InvalidSignatureException
   */
  confirm(body: Buffer): void;
  /**
   * Takes a call for the first and only time. For a proved request that is about to run a function.
   *
   * @throws {LambdaError} InvalidSignatureException for a call that was taken before
   */
  spend(): void;
}

const nothing = (): void => undefined;

/** An identity that the head of a request has proved; its body is of no matter. */
export function provedIdentity(principal: Principal): Identity {
  return { principal, claimedKey: undefined, confirm: nothing, spend: nothing };
}

/** The right that a request needs. */
export type AccessAction = 'invoke' | 'get' | 'list';

/**
 * Authentication and authorization. Both answer at once when they know the answer: they are on the path of every call.
 */
export interface Access {
  /**
   * The sender of a request, as far as its head proves. Nothing of its body has been read.
   *
   * @throws {LambdaError} MissingAuthenticationTokenException, InvalidSignatureException, UnrecognizedClientException,
   *   … (403), IncompleteSignatureException (400), or ServiceException (503) when the answer is not available now
   */
  identify(request: AccessRequest): Promise<Identity> | Identity;
  /**
   * Returns for callers with the right; throws for all others.
   *
   * @param functionName the bare name; undefined for an action on all functions
   * @param address the address of the caller
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
 * Authentication is off: every caller has every right, except web pages of other origins in a browser that reaches the
 * gateway.
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
