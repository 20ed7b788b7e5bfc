import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Clock } from '../../common/clock.ts';
import { GrowingBuffer } from '../../common/growing-buffer.ts';
import { overloaded } from '../admission/admission-policy.ts';
import type { Hold } from '../admission/room.ts';
import { CODE_ADVICE } from '../control/function-settings.ts';
import type { OperationName } from '../lambda/generated/operations.ts';
import { MAX_PAYLOAD_BYTES } from '../lambda/json-payload.ts';
import { LambdaError } from '../lambda/lambda-error.ts';

/** Largest body, in bytes, of an operation that runs no function: its members are parsed in one piece. */
export const MAX_OPERATION_BYTES = 64 * 1024;

/**
 * Bytes of a too large body that are read and dropped, so that the client reads the refusal: most send all before they
 * look. Beyond these the connection is cut.
 */
const MAX_DROPPED_BYTES = 64 * 1024 * 1024;
/** Operations whose body has the code of a function in Lambda. */
const TAKE_CODE: ReadonlySet<string> = new Set<OperationName>(['CreateFunction', 'UpdateFunctionCode']);
/** Milliseconds that every body may take, and bytes a second that one has to come with which takes longer. */
const FREE_MS = 10_000;
const LEAST_BYTES_PER_SECOND = 8 * 1024;
/**
 * Milliseconds between two checks after that. A late check may be the gateway's fault: a body has to fail two in a row.
 */
const LOOK_MS = 1_000;

/** A request, as far as its body is read. */
export type BodySource = Pick<IncomingMessage, 'headers' | 'on' | 'off' | 'destroy' | 'resume'>;

/** Whether a request says that it has a body. */
export function announcesBody({ headers }: Pick<IncomingMessage, 'headers'>): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

/** Bytes that a body may have, by its announcement; the most that one may have without an announcement. */
export function announcedBytes({ headers }: Pick<IncomingMessage, 'headers'>, maxBytes = MAX_PAYLOAD_BYTES): number {
  const bytes = Number(headers['content-length'] ?? maxBytes);
  return Math.min(maxBytes, bytes);
}

export interface ReadOptions {
  readonly clock: Clock;
  /** Bytes that a body may have; the most of a call when absent. */
  readonly maxBytes?: number;
  /** Operation for the refusal of a larger one. */
  readonly operation?: string;
  /** Whether a large body is hashed while it arrives, in the pieces in which it does. */
  readonly isHashed?: boolean;
}

/**
 * Gives the whole body to `done`, with its SHA-256 in hexadecimal where that was asked for and the body could be large,
 * or the reason for dropping it: RequestTooLargeException above `maxBytes`, of which nothing is kept where the head
 * announces them; TooManyRequestsException without room in the gateway; RequestTimeoutException for a slow body. Room is
 * taken for the bytes that have arrived, not for the announcement, which costs a client nothing.
 */
export function readRequestBody(
  request: BodySource,
  hold: Pick<Hold, 'take' | 'drop'>,
  { clock, isHashed = false, maxBytes = MAX_PAYLOAD_BYTES, operation = 'InvokeFunction' }: ReadOptions,
  done: (error: Error | null, body?: Buffer, sha256?: string) => void,
): void {
  const announced = announcedBytes(request, maxBytes);
  const isAnnouncedTooLarge = Number(request.headers['content-length'] ?? 0) > maxBytes;
  if (isAnnouncedTooLarge && request.headers.expect !== undefined) {
    // The client waits for a word, and sends no body after the refusal.
    done(tooLarge(operation, maxBytes));
    return;
  }
  const bytes = new GrowingBuffer(announced);
  const digest = isHashed && announced > MAX_OPERATION_BYTES ? createHash('sha256') : undefined;
  const startedAt = clock.monotonic();
  let size = 0;
  let late = 0;
  let refusal: LambdaError | undefined = isAnnouncedTooLarge ? tooLarge(operation, maxBytes) : undefined;
  const end = (error: Error | null, body?: Buffer): void => {
    timer.cancel();
    request.off('data', onData).off('end', onEnd).off('error', onError).off('close', onClose);
    done(error, body, error === null ? digest?.digest('hex') : undefined);
  };
  const onData = (chunk: Buffer): void => {
    size += chunk.length;
    if (refusal === undefined && size <= maxBytes && hold.take(chunk.length)) {
      bytes.append(chunk);
      digest?.update(chunk);
      return;
    }
    refusal ??= size > maxBytes ? tooLarge(operation, maxBytes) : overloaded();
    bytes.clear();
    hold.drop();
    if (size > MAX_DROPPED_BYTES) {
      request.destroy();
    }
  };
  const onEnd = (): void => (refusal === undefined ? end(null, bytes.whole()) : end(refusal));
  const onError = (cause: unknown): void =>
    end(new LambdaError('InvalidRequestContentException', 'The request was cut off.', { cause }));
  const onClose = (): void => timer.cancel();
  const look = (): void => {
    const isLate = size < ((clock.monotonic() - startedAt) / 1000) * LEAST_BYTES_PER_SECOND;
    late = isLate ? late + 1 : 0;
    if (late < 2) {
      timer = clock.setTimer(look, LOOK_MS);
      return;
    }
    bytes.clear();
    hold.drop();
    end(new LambdaError('RequestTimeoutException', 'The body of the request did not arrive in time.'));
    // The rest is dropped until the answer has ended the connection.
    request.resume();
  };
  let timer = clock.setTimer(look, FREE_MS);
  request.on('data', onData).on('end', onEnd).on('error', onError).on('close', onClose);
}

function tooLarge(operation: string, maxBytes: number): LambdaError {
  const instead = TAKE_CODE.has(operation) ? `. ${CODE_ADVICE}` : '';
  return new LambdaError(
    'RequestTooLargeException',
    `Request must be smaller than ${maxBytes} bytes for the ${operation} operation${instead}`,
  );
}
