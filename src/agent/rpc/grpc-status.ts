import { Metadata, type StatusObject, status } from '@grpc/grpc-js';
import { EsbError } from '../../common/errors.ts';

/** Metadata key under which the CamelCase code of an error is sent along. */
export const errorCodeKey = 'esb-code';

const statusOfCode: Readonly<Record<string, status>> = {
  InvalidArgument: status.INVALID_ARGUMENT,
  NotFound: status.NOT_FOUND,
  Fenced: status.FAILED_PRECONDITION,
  FailedPrecondition: status.FAILED_PRECONDITION,
  PausedByOwner: status.FAILED_PRECONDITION,
  NodeFull: status.RESOURCE_EXHAUSTED,
  QueueFull: status.RESOURCE_EXHAUSTED,
  DiskFull: status.RESOURCE_EXHAUSTED,
  AddressesExhausted: status.RESOURCE_EXHAUSTED,
  ResponseTooSlow: status.RESOURCE_EXHAUSTED,
  Aborted: status.CANCELLED,
  DeadlineExceeded: status.DEADLINE_EXCEEDED,
  Unavailable: status.UNAVAILABLE,
  RuntimeUnavailable: status.UNAVAILABLE,
};

/** An error as a caller over gRPC sees it: a status, `Code: message` as its details, the code alone in the metadata. */
export function toGrpcStatus(error: unknown): StatusObject {
  const known = EsbError.from(error);
  const metadata = new Metadata();
  metadata.set(errorCodeKey, known.code);
  return {
    code: statusOfCode[known.code] ?? (known.retryable ? status.UNAVAILABLE : status.INTERNAL),
    details: `${known.code}: ${known.message}`,
    metadata,
  };
}
