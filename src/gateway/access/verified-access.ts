import { hash, timingSafeEqual } from 'node:crypto';
import type { Clock } from '../../common/clock.ts';
import { LambdaError } from '../lambda/lambda-error.ts';
import { type Access, type AccessRequest, type Identity, provedIdentity, refuseForeignPage } from './access.ts';
import type { AccessKey, AccessKeys } from './access-keys.ts';
import type { AccessReviewer } from './access-review.ts';
import type { ClientCertificates } from './client-certificates.ts';
import type { Principal } from './principal.ts';
import { headerSignature, isPresigned, querySignature, type Signature } from './signature.ts';
import { checkClaims, checkPayload, checkSignature, payloadHashOf, statedPayloadHash } from './sigv4.ts';
import type { TokenReviewer } from './token-review.ts';

export interface VerifiedAccessOptions {
  readonly keys: Pick<AccessKeys, 'get'>;
  /** Why the keys cannot be relied on at the moment; undefined when they can. */
  readonly keysNotReady: () => LambdaError | undefined;
  readonly tokens: Pick<TokenReviewer, 'identify'>;
  readonly certificates: Pick<ClientCertificates, 'identify'>;
  readonly isOnLoopback: () => boolean;
  readonly reviewer: Pick<AccessReviewer, 'authorize'>;
  readonly clock: Clock;
}

const BEARER = /^bearer +/i;

/**
 * Authentication is on. A signature or a token in the request proves its sender; the certificate of the connection
 * counts only without them: a proxy with a certificate of its own does not lend it to its callers.
 */
export function createVerifiedAccess(options: VerifiedAccessOptions): Access {
  const { tokens, reviewer } = options;
  return {
    identify(request) {
      const { authorization } = request.headers;
      const presigned = isPresigned(request.url);
      if (authorization !== undefined && presigned) {
        throw new LambdaError(
          'IncompleteSignatureException',
          'Only one way to authenticate may be used: the Authorization header or the query of a presigned URL.',
        );
      }
      if (presigned) {
        return signer(request, querySignature(request), options);
      }
      if (authorization === undefined) {
        return provedIdentity(holder(request, options));
      }
      if (!BEARER.test(authorization)) {
        return signer(request, headerSignature(request), options);
      }
      const principal = tokens.identify(authorization.replace(BEARER, '').trim(), request.remoteAddress);
      return principal instanceof Promise ? principal.then(provedIdentity) : provedIdentity(principal);
    },
    authorize: ({ principal, claimedKey }, action, functionName, address, called) =>
      reviewer.authorize(
        principal,
        action,
        functionName,
        claimedKey === undefined ? undefined : { key: claimedKey, address },
        called,
      ),
  };
}

/** The principal of the connection's certificate. */
function holder(request: AccessRequest, { certificates, clock, isOnLoopback }: VerifiedAccessOptions): Principal {
  const { connection } = request;
  const principal = connection === undefined ? undefined : certificates.identify(connection, clock.now());
  if (principal === undefined) {
    throw new LambdaError('MissingAuthenticationTokenException', 'Missing Authentication Token');
  }
  refuseForeignPage(request, isOnLoopback());
  return principal;
}

/** The principal of a signature's key. Where the request states the hash of its body, the signature is checked. */
function signer(request: AccessRequest, signature: Signature, options: VerifiedAccessOptions): Identity {
  const { clock } = options;
  const key = keyOf(signature, options);
  checkClaims(request, signature, clock.now());
  const stated = statedPayloadHash(request);
  if (stated !== undefined) {
    checkSignature(request, signature, key, stated);
  }
  if (key.expiresAtMs <= clock.now()) {
    throw new LambdaError('ExpiredTokenException', 'The security token included in the request is expired.');
  }
  return {
    principal: key.principal,
    claimedKey: stated === undefined ? key.id : undefined,
    isHashed: true,
    confirm(body, sha256 = payloadHashOf(body)) {
      if (stated === undefined) {
        checkSignature(request, signature, key, sha256);
      } else {
        checkPayload(sha256, stated);
      }
    },
  };
}

function keyOf(signature: Signature, { keys, keysNotReady }: VerifiedAccessOptions): AccessKey {
  const notReady = keysNotReady();
  if (notReady !== undefined) {
    throw notReady;
  }
  const key = keys.get(signature.accessKeyId);
  if (key === undefined || !hasItsToken(key, signature)) {
    throw new LambdaError('UnrecognizedClientException', 'The security token included in the request is invalid.');
  }
  return key;
}

function hasItsToken(key: AccessKey, { sessionToken }: Signature): boolean {
  if (key.sessionToken === undefined || sessionToken === undefined) {
    return key.sessionToken === sessionToken;
  }
  return timingSafeEqual(Buffer.from(hash('sha256', key.sessionToken)), Buffer.from(hash('sha256', sessionToken)));
}
