import type { AccessRequest } from './access-request.ts';
import { refuseForeignPage } from './foreign-page.ts';
import { type Identity, provedIdentity } from './identity.ts';
import { ANONYMOUS } from './principal.ts';

/** What can be wanted of a function. */
export type AccessAction = 'invoke' | 'get' | 'list';

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
