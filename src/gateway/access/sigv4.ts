import { createHmac, hash, timingSafeEqual } from 'node:crypto';
import { LambdaError } from '../lambda/lambda-error.ts';
import type { AccessRequest } from './access.ts';
import type { AccessKey } from './access-keys.ts';
import { canonicalRequest } from './canonical-request.ts';
import { longDate, SIGNATURE_ALGORITHM, type Signature } from './signature.ts';

/** Milliseconds by which the clocks of a client and of the gateway may differ: AWS's own "5 min." */
export const MAX_SKEW_MS = 5 * 60_000;

const SERVICE = 'lambda';
const HEX_SHA256 = /^[0-9a-f]{64}$/;

/**
 * Checks a signature against the secret of its key.
 *
 * @param payloadHash of the body, or as stated in the request
 * @throws {LambdaError} InvalidSignatureException, with AWS's reason
 */
export function checkSignature(
  request: AccessRequest,
  signature: Signature,
  key: Pick<AccessKey, 'signingKey'>,
  payloadHash: string,
): void {
  const expected = sign(
    key.signingKey(signature.date, signature.region, signature.service),
    signature,
    canonicalRequest(request, signature.signedHeaders, payloadHash),
  );
  if (!timingSafeEqual(Buffer.from(expected), Buffer.from(signature.value))) {
    throw mismatch();
  }
}

/**
 * Checks everything of a signature that needs neither the secret nor the body.
 *
 * @throws {LambdaError} InvalidSignatureException
 */
export function checkClaims(request: AccessRequest, signature: Signature, now: number): void {
  checkScope(signature);
  checkAge(signature, now);
  checkSignedHeaders(request, signature);
}

/** The signature of a canonical request, in hexadecimal. */
export function sign(signingKey: Buffer, signature: Pick<Signature, 'signedAt' | 'scope'>, canonical: string): string {
  const text = `${SIGNATURE_ALGORITHM}\n${signature.signedAt}\n${signature.scope}\n${hash('sha256', canonical)}`;
  return createHmac('sha256', signingKey).update(text).digest('hex');
}

function checkScope(signature: Signature): void {
  const day = signature.signedAt.slice(0, 8);
  if (signature.date !== day) {
    throw invalid(
      `Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '${signature.date}' != '${day}', from '${signature.signedAt}'.`,
    );
  }
  if (signature.service !== SERVICE) {
    throw invalid(`Credential should be scoped to correct service: '${SERVICE}'.`);
  }
}

function checkAge(signature: Signature, now: number): void {
  const { signedAtMs, expiresSeconds } = signature;
  if (signedAtMs > now + MAX_SKEW_MS) {
    throw invalid(
      `Signature not yet current: ${signature.signedAt} is still later than ${longDate(now + MAX_SKEW_MS)} (${longDate(now)} + 5 min.)`,
    );
  }
  if (expiresSeconds !== undefined) {
    const endsAt = signedAtMs + expiresSeconds * 1000;
    if (endsAt <= now) {
      throw invalid(`Signature expired: ${longDate(endsAt)} is now earlier than ${longDate(now)}.`);
    }
  } else if (signedAtMs < now - MAX_SKEW_MS) {
    throw invalid(
      `Signature expired: ${signature.signedAt} is now earlier than ${longDate(now - MAX_SKEW_MS)} (${longDate(now)} - 5 min.)`,
    );
  }
}

/** The host, and every header that changes a call, have to be signed. */
function checkSignedHeaders({ headers }: AccessRequest, { signedHeaders }: Signature): void {
  if (!signedHeaders.includes('host')) {
    throw invalid("'Host' must be a 'SignedHeader' in the AWS Authorization.");
  }
  for (const name in headers) {
    if (name.startsWith('x-amz-') && !signedHeaders.includes(name)) {
      throw invalid(`'${name}' must be a 'SignedHeader' in the AWS Authorization.`);
    }
  }
}

/**
 * The hash of the body that a request states, signed with everything else, even if its header is not; undefined for
 * none.
 *
 * @throws {LambdaError} InvalidSignatureException for a text that is the hash of no body, such as `UNSIGNED-PAYLOAD`
 */
export function statedPayloadHash({ headers }: AccessRequest): string | undefined {
  const value = headers['x-amz-content-sha256'];
  if (typeof value === 'string' && !HEX_SHA256.test(value)) {
    throw mismatch();
  }
  return typeof value === 'string' ? value : undefined;
}

export function payloadHashOf(body: Buffer): string {
  return hash('sha256', body);
}

/**
 * Checks that a body with this hash is the one whose hash was signed.
 *
 * @throws {LambdaError} InvalidSignatureException
 */
export function checkPayload(sha256: string, stated: string): void {
  if (sha256 !== stated) {
    throw mismatch();
  }
}

function mismatch(): LambdaError {
  return invalid(
    'The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.',
  );
}

function invalid(message: string): LambdaError {
  return new LambdaError('InvalidSignatureException', message);
}
