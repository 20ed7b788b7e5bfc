import { hash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { Tally } from '../../common/tally.ts';
import { LambdaError, throttled } from '../lambda/lambda-error.ts';
import type { Signature } from './signature.ts';
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

/** Milliseconds of signing times that share a table. */
const SPAN_MS = 60_000;
/** Most marks at a time: about 56 bytes of heap each, 112 MiB in all. */
const MAX_MARKS = 2_097_152;
/**
 * No access key may have more marks than this many times the free ones: one key alone has at most seven eighths, and
 * the next key always finds room.
 */
const SHARE_OF_FREE = 7;

/** The answer to a signature that comes in. */
export type Sighting =
  | { readonly kind: 'new' }
  /** An earlier arrival, at this time; milliseconds since the epoch. */
  | { readonly kind: 'seen'; readonly firstAtMs: number }
  /** There is no room to remember one more of its key. */
  | { readonly kind: 'full' };

/** The signatures of one minute of signing times. */
interface Table {
  /**
   * Milliseconds from the begin of the minute to the first arrival, by mark: a small integer takes no memory of its
   * own.
   */
  readonly arrivals: Map<number, number>;
  readonly sizes: Map<string, number>;
}

/**
 * Remembers signatures while they are valid, with the time of their first arrival. 52 bits of each are kept as its
 * mark: they are the output of a keyed hash, and only signatures that were found right are kept, so no caller can aim
 * at the mark of another. With a million marks, one new signature in four thousand million collides.
 */
export class SignatureMemory {
  readonly #windowMs: number;
  readonly #maxMarks: number;
  /** By the minute of signing: expired marks go with their table. */
  readonly #tables = new Map<number, Table>();
  readonly #sizes = new Tally();
  size = 0;

  /** @param windowMs milliseconds after its time of signing in which a signature is valid */
  constructor(windowMs: number, maxMarks = MAX_MARKS) {
    this.#windowMs = windowMs;
    this.#maxMarks = maxMarks;
  }

  /**
   * Tells whether a signature was seen, and remembers it.
   *
   * @param key the access key of the signature
   * @param signature at least 13 hexadecimal digits, as good as random
   * @param signedAtMs the time of signing in the signature; milliseconds since the epoch
   * @param now milliseconds since the epoch
   */
  sight(key: string, signature: string, signedAtMs: number, now: number): Sighting {
    const span = Math.floor(signedAtMs / SPAN_MS);
    let table = this.#tables.get(span);
    if (table === undefined) {
      this.#forget(now);
      table = { arrivals: new Map(), sizes: new Map() };
      this.#tables.set(span, table);
    }
    const mark = Number.parseInt(signature.slice(0, 13), 16);
    const arrival = table.arrivals.get(mark);
    if (arrival !== undefined) {
      return { kind: 'seen', firstAtMs: span * SPAN_MS + arrival };
    }
    if (this.#sizes.get(key) >= (this.#maxMarks - this.size) * SHARE_OF_FREE) {
      return { kind: 'full' };
    }
    table.arrivals.set(mark, now - span * SPAN_MS);
    table.sizes.set(key, (table.sizes.get(key) ?? 0) + 1);
    this.#sizes.add(key, 1);
    this.size += 1;
    return { kind: 'new' };
  }

  #forget(now: number): void {
    for (const [span, table] of this.#tables) {
      if ((span + 1) * SPAN_MS + this.#windowMs < now) {
        this.#tables.delete(span);
        this.size -= table.arrivals.size;
        for (const [key, size] of table.sizes) {
          this.#sizes.add(key, -size);
        }
      }
    }
  }
}
