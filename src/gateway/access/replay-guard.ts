import { hash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { LambdaError, throttled } from '../lambda/lambda-error.ts';
import type { Signature } from './signature.ts';
import { SignatureMemory } from './signature-memory.ts';
import { MAX_SKEW_MS } from './sigv4.ts';

/**
 * SDKs tell calls, and tries of one call, apart by these headers. The SDK for JavaScript signs them; boto3 does not.
 */
const INVOCATION_ID = 'amz-sdk-invocation-id';
const ATTEMPT = 'amz-sdk-request';

/**
 * Milliseconds after the first arrival of a signature in which equal ones may arrive that were signed in the same
 * second, by clients that do not sign the headers above: two equal calls of such a client have one signature. The two
 * may differ by this much in the time between signing and arrival.
 */
const SAME_SECOND_MS = 15_000;

/**
 * Refuses calls that were recorded on their way and sent again. AWS takes a signature any number of times within five
 * minutes; docs/adr/0022 says what is refused here beyond that. Presigned URLs are made to be used more than once and
 * do not come here.
 */
export class ReplayGuard {
  readonly #memory: SignatureMemory;

  constructor(memory = new SignatureMemory(MAX_SKEW_MS)) {
    this.#memory = memory;
  }

  /**
   * Lets a signature pass that was found to be right, and remembers it.
   *
   * @param now milliseconds since the epoch
   * @throws {LambdaError} InvalidSignatureException for a call that was sent before
   */
  admit(signature: Signature, headers: IncomingHttpHeaders, now: number): void {
    const { accessKeyId, signedHeaders, value, signedAtMs } = signature;
    const isUnique = signedHeaders.includes(INVOCATION_ID) && signedHeaders.includes(ATTEMPT);
    const earlier = this.#sight(accessKeyId, value, signedAtMs, now);
    if (earlier !== undefined && (isUnique || now - earlier > SAME_SECOND_MS)) {
      throw replayed();
    }
    const id = headers[INVOCATION_ID];
    if (!isUnique && typeof id === 'string') {
      const mark = hash('sha256', `${value}\n${id}\n${String(headers[ATTEMPT])}`);
      if (this.#sight(accessKeyId, mark, signedAtMs, now) !== undefined) {
        throw replayed();
      }
    }
  }

  #sight(key: string, mark: string, signedAtMs: number, now: number): number | undefined {
    const sighting = this.#memory.sight(key, mark, signedAtMs, now);
    if (sighting.kind === 'full') {
      throw throttled(
        'Rate Exceeded. The access key has as many signatures as the gateway can remember of it.',
        'CallerRateLimitExceeded',
      );
    }
    return sighting.kind === 'seen' ? sighting.firstAtMs : undefined;
  }
}

function replayed(): LambdaError {
  return new LambdaError(
    'InvalidSignatureException',
    'The signature was used before. Each call has to be signed anew.',
  );
}
