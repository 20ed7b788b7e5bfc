import type { Principal } from './principal.ts';

/** Whom a request is by, as its head shows, and what it takes to prove the rest. */
export interface Identity {
  readonly principal: Principal;
  /**
   * The access key that the request names, while only its whole body can prove that its holder has signed; undefined where the head has
   * proved who it is.
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
   * Takes a call for the first and only time. For a request that was proved, and that is about to run something.
   *
   * @throws {LambdaError} InvalidSignatureException for a call that was taken before
   */
  spend(): void;
}

const nothing = (): void => undefined;

/** An identity that a head has proved, and that has nothing to do with the body. */
export function provedIdentity(principal: Principal): Identity {
  return { principal, claimedKey: undefined, confirm: nothing, spend: nothing };
}
