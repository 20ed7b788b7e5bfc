import { AbortedError } from '../common/deadline.ts';
import { EsbError, errnoOf, messageOf } from '../common/errors.ts';

/** What the engine answered, or that it did not. */
export type DockerErrorCode =
  | 'NotFound'
  /** In the way of what is there: a name that is taken, a container that is in another state. */
  | 'FailedPrecondition'
  | 'InvalidArgument'
  | 'DiskFull'
  /** No connection, or one that broke under the call: its outcome is not known. */
  | 'RuntimeUnavailable'
  | 'DockerFailed';

/** An error of a call to the Docker engine. */
export class DockerError extends EsbError {
  constructor(message: string, code: DockerErrorCode, cause?: unknown) {
    super(message, { code, cause });
  }
}

/** As the Docker Engine API has them ("Errors": every answer of 400 or above carries a message). */
const CODES: ReadonlyMap<number, DockerErrorCode> = new Map([
  [304, 'FailedPrecondition'],
  [400, 'InvalidArgument'],
  [404, 'NotFound'],
  [409, 'FailedPrecondition'],
]);

/**
 * Turns what a call to the engine failed with into an error of ours.
 *
 * @param what names the call
 * @param signal the one it was made with
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
    // An answer that ends in the middle has no errno.
    const broken = errnoOf(error) !== undefined || (error instanceof Error && error.message === 'aborted');
    return new DockerError(
      `${what}: ${messageOf(error)}`,
      broken ? 'RuntimeUnavailable' : 'DockerFailed',
      error,
    );
  }
  const text = answerOf(error);
  return new DockerError(`${what}: ${text}`, codeOf(status, text), error);
}

/** The code of a fault that the engine tells with `text`, under an HTTP status or in the middle of an answer. */
export function codeOf(status: number, text: string): DockerErrorCode {
  // The one fault that has no status of its own and that a person has to be told apart.
  return /no space left on device|disk quota exceeded/.test(text)
    ? 'DiskFull'
    : (CODES.get(status) ?? 'DockerFailed');
}

function statusOf(error: unknown): number | undefined {
  return error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number'
    ? error.statusCode
    : undefined;
}

/** The engine's own words, without what the client puts around them. */
function answerOf(error: unknown): string {
  const json: unknown = error instanceof Error && 'json' in error ? error.json : undefined;
  if (typeof json === 'object' && json !== null && 'message' in json && typeof json.message === 'string') {
    return json.message;
  }
  return messageOf(error)
    .replace(/^\(HTTP code \d+\) .*? - /, '')
    .trim();
}
