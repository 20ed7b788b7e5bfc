import { AbortedError } from '../common/deadline.ts';
import { EsbError, errnoOf, messageOf } from '../common/errors.ts';

/** Failure of a call to the engine. */
export type DockerErrorCode =
  | 'NotFound'
  /** Conflict with the present state: a taken name, a container in another state. */
  | 'FailedPrecondition'
  | 'InvalidArgument'
  | 'DiskFull'
  /** No connection, or one that broke under the call, whose outcome is unknown. */
  | 'RuntimeUnavailable'
  | 'DockerFailed';

export class DockerError extends EsbError {
  constructor(message: string, code: DockerErrorCode, cause?: unknown) {
    super(message, { code, cause });
  }
}

/** Codes by the Docker Engine API ("Errors": every answer of 400 or above carries a message). */
const CODES: ReadonlyMap<number, DockerErrorCode> = new Map([
  [304, 'FailedPrecondition'],
  [400, 'InvalidArgument'],
  [404, 'NotFound'],
  [409, 'FailedPrecondition'],
]);

/**
 * Converts the failure of a call to the engine.
 *
 * @param what names the call
 * @param signal of the call
 */
export function dockerError(what: string, error: unknown, signal?: AbortSignal): EsbError {
  if (error instanceof EsbError) {
    return error;
  }
  if (signal?.aborted === true) {
    return signal.reason instanceof EsbError ? signal.reason : new AbortedError(what, error);
  }
  const status = statusOf(error);
  if (status === undefined) {
    // An answer that breaks off has no errno.
    const broken = errnoOf(error) !== undefined || (error instanceof Error && error.message === 'aborted');
    return new DockerError(`${what}: ${messageOf(error)}`, broken ? 'RuntimeUnavailable' : 'DockerFailed', error);
  }
  const text = answerOf(error);
  return new DockerError(`${what}: ${text}`, codeOf(status, text), error);
}

/** The code of a fault with the engine's `text`, under an HTTP status or within an answer. */
export function codeOf(status: number, text: string): DockerErrorCode {
  // A full disk, which people have to recognise and HTTP has no status for.
  return /no space left on device|disk quota exceeded/.test(text) ? 'DiskFull' : (CODES.get(status) ?? 'DockerFailed');
}

function statusOf(error: unknown): number | undefined {
  return error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number'
    ? error.statusCode
    : undefined;
}

/** The engine's own words, without the client's prefix. */
function answerOf(error: unknown): string {
  const json: unknown = error instanceof Error && 'json' in error ? error.json : undefined;
  if (typeof json === 'object' && json !== null && 'message' in json && typeof json.message === 'string') {
    return json.message;
  }
  return messageOf(error)
    .replace(/^\(HTTP code \d+\) .*? - /, '')
    .trim();
}
