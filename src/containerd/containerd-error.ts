import { type ServiceError, status } from '@grpc/grpc-js';
import { AbortedError } from '../common/deadline.ts';
import { EsbError, messageOf } from '../common/errors.ts';

/** Failure of a call to containerd. */
export type ContainerdErrorCode =
  | 'NotFound'
  | 'AlreadyExists'
  /** Also containerd's conflict and not-modified. */
  | 'FailedPrecondition'
  | 'InvalidArgument'
  | 'DiskFull'
  | 'DeadlineExceeded'
  /** No connection, or one that broke under the call, whose outcome is unknown. */
  | 'RuntimeUnavailable'
  | 'ContainerdFailed';

export class ContainerdError extends EsbError {
  constructor(message: string, code: ContainerdErrorCode, cause?: unknown) {
    super(message, { code, cause });
  }
}

/**
 * Converts the failure of a gRPC call. `what` names the call; `signal` is the call's own: a cancellation is the
 * caller's only when the signal has fired, since a broken connection cancels as well, and so does the server, whose own
 * timer of the deadline may fire first. `isLate` says that the deadline of the call is over, or nearly.
 */
export function containerdError(what: string, error: unknown, signal?: AbortSignal, isLate = false): EsbError {
  if (error instanceof EsbError) {
    return error;
  }
  if (signal?.aborted === true) {
    return signal.reason instanceof EsbError ? signal.reason : new AbortedError(what, error);
  }
  if (!isServiceError(error)) {
    return new ContainerdError(`${what}: ${messageOf(error)}`, 'ContainerdFailed', error);
  }
  const code = isLate && error.code === status.CANCELLED ? 'DeadlineExceeded' : codeOf(error);
  return new ContainerdError(`${what}: ${error.details || error.message}`, code, error);
}

const CODES: ReadonlyMap<status, ContainerdErrorCode> = new Map([
  [status.NOT_FOUND, 'NotFound'],
  [status.ALREADY_EXISTS, 'AlreadyExists'],
  [status.FAILED_PRECONDITION, 'FailedPrecondition'],
  [status.INVALID_ARGUMENT, 'InvalidArgument'],
  [status.DEADLINE_EXCEEDED, 'DeadlineExceeded'],
  [status.UNAVAILABLE, 'RuntimeUnavailable'],
  [status.CANCELLED, 'RuntimeUnavailable'],
]);

function codeOf(error: ServiceError): ContainerdErrorCode {
  const code = CODES.get(error.code);
  if (code !== undefined) {
    return code;
  }
  // A full disk, which people have to recognise and gRPC has no code for.
  return /no space left on device|disk quota exceeded/.test(error.details) ? 'DiskFull' : 'ContainerdFailed';
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'details' in error;
}
