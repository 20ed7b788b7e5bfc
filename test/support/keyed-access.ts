import { systemClock } from '../../src/common/clock.ts';
import type { Access } from '../../src/gateway/access/access.ts';
import { parseAccessKey } from '../../src/gateway/access/access-keys.ts';
import { createVerifiedAccess, type VerifiedAccessOptions } from '../../src/gateway/access/verified-access.ts';
import { LambdaError } from '../../src/gateway/lambda/lambda-error.ts';
import type { Signer } from './signed-request.ts';

/** A key that {@link keyedAccess} knows. */
export const ALICE: Signer = {
  accessKeyId: 'AKIDALICE',
  secretAccessKey: 'a-secret-of-forty-characters-0123456789a',
};

/** Authentication is on: one key is known and may do everything; no certificate and no token is known. */
export function keyedAccess(options: Partial<VerifiedAccessOptions> = {}): Access {
  const { accessKeyId, secretAccessKey } = ALICE;
  const key = parseAccessKey(accessKeyId, JSON.stringify({ secretAccessKey, user: 'alice' }));
  return createVerifiedAccess({
    keys: { get: (id) => (id === accessKeyId ? key : undefined) },
    keysNotReady: () => undefined,
    tokens: {
      identify: () => {
        throw new LambdaError('UnrecognizedClientException', 'no token is known');
      },
    },
    certificates: { identify: () => undefined },
    isOnLoopback: () => false,
    reviewer: { authorize: () => undefined },
    clock: systemClock,
    ...options,
  });
}
