import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { TLSSocket } from 'node:tls';
import { LambdaError } from '../lambda/lambda-error.ts';
import { ANONYMOUS, type Principal } from './principal.ts';

/**
 * Domains without public name servers (RFC 6761, RFC 6762, RFC 8375, and ICANN's `internal`); `svc` is Kubernetes' own.
 */
const PRIVATE_DOMAIN = /\.(?:localhost|local|internal|test|example|invalid|home\.arpa|svc)\.?$/i;

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
  readonly connection: TLSSocket | undefined;
}

export function accessRequestOf({
  method = '',
  url = '',
  headers,
  rawHeaders,
  socket,
}: IncomingMessage): AccessRequest {
  const connection = socket instanceof TLSSocket ? socket : undefined;
  return { method, url, headers, rawHeaders, remoteAddress: socket.remoteAddress ?? '', connection };
}

/** The sender of a request, as its head shows, and the proofs that remain. */
export interface Identity {
  readonly principal: Principal;
  /**
   * The access key that the request names, while only its whole body can prove the signature; undefined once the head
   * has proved the sender.
   */
  readonly claimedKey: string | undefined;
  /** Whether the hash of the whole body is part of the proof. */
  readonly isHashed: boolean;
  /**
   * Proves the rest.
   *
   * @param body the whole body; empty for none
   * @param sha256 hash of the body in hexadecimal, where the server made one while it arrived
   * @throws {LambdaError} InvalidSignatureException
   */
  confirm(body: Buffer, sha256?: string): void;
}

/** An identity that the head of a request has proved; its body is of no matter. */
export function provedIdentity(principal: Principal): Identity {
  return { principal, claimedKey: undefined, isHashed: false, confirm: () => undefined };
}

/** Rights to write functions, as the Lambda API does for its callers. */
export type ControlAction = 'create' | 'change' | 'delete' | 'delete-version';

export type AccessAction = 'invoke' | 'get' | 'list' | ControlAction;

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
   * @param functionName the bare name, and of a {@link ControlAction} the name of the resource; undefined for an action
   *   on all functions
   * @param address the address of the caller
   * @param called the function as the caller has named it, in place of `functionName` in the error
   * @throws {LambdaError} AccessDeniedException (403), TooManyRequestsException (429), or ServiceException (503)
   */
  authorize(
    identity: Pick<Identity, 'principal' | 'claimedKey'>,
    action: AccessAction,
    functionName: string | undefined,
    address: string,
    called?: string,
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

/**
 * Refuses requests that a web page of another origin makes a browser send. Such a page has no proof of its own: it uses
 * the browser's client certificate, or the browser's place in a network without authentication.
 *
 * @param onLoopback whether the gateway listens on the loopback alone. A public name that leads there is refused then:
 *   a page of that name would count as the gateway's own, and read its answers (DNS rebinding)
 * @throws {LambdaError} AccessDeniedException
 */
export function refuseForeignPage({ headers }: { readonly headers: IncomingHttpHeaders }, onLoopback: boolean): void {
  const { host = '', origin } = headers;
  const site = headers['sec-fetch-site'];
  const isOwnSite = site === undefined || site === 'same-origin' || site === 'none';
  if (!isOwnSite || (origin !== undefined && !isOriginOf(origin, host))) {
    throw new LambdaError(
      'AccessDeniedException',
      'Web pages of other origins may not call without a signature or a token.',
    );
  }
  if (onLoopback && !isPrivateHost(host)) {
    throw new LambdaError(
      'AccessDeniedException',
      `The gateway is not known as ${host.slice(0, 256)}: call it by its address or as localhost.`,
    );
  }
}

function isOriginOf(origin: string, host: string): boolean {
  return URL.canParse(origin) && new URL(origin).host.toLowerCase() === host.toLowerCase();
}

/** Whether a host is an address, or a name that no public name server can answer for. */
function isPrivateHost(host: string): boolean {
  const name = host.replace(/:\d*$/, '');
  return isAddress(name) || !name.includes('.') || PRIVATE_DOMAIN.test(name);
}

/** The name in a Host header: in small letters, without a port and without a dot at its end. */
export function nameOfHost(host: string): string {
  return host.toLowerCase().replace(/:\d*$/, '').replace(/\.$/, '');
}

/** Whether the name in a Host header is an address. */
function isAddress(name: string): boolean {
  return isIP(name) !== 0 || (name.startsWith('[') && name.endsWith(']'));
}

/**
 * Whether a signature for a host is one for a gateway of these names. `localhost` and addresses are taken by every
 * gateway: forwarded ports and tests need them, and they name no gateway.
 */
export function isHostOf(names: ReadonlySet<string>, host: string): boolean {
  const name = nameOfHost(host);
  return names.has(name) || name === 'localhost' || isAddress(name);
}
