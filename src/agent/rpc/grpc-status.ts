import { Metadata, type StatusObject, status } from '@grpc/grpc-js';
import { errorCodeEntry } from '../../common/error-codes.ts';
import { EsbError } from '../../common/errors.ts';

/** Metadata key under which the CamelCase code of an error is sent along. */
export const errorCodeKey = 'esb-code';

/** An error as a caller over gRPC sees it: a status, `Code: message` as its details, the code alone in the metadata. */
export function toGrpcStatus(error: unknown): StatusObject {
  const known = EsbError.from(error);
  const name = errorCodeEntry(known.code)?.grpc ?? (known.retryable ? 'UNAVAILABLE' : 'INTERNAL');
  const metadata = new Metadata();
  metadata.set(errorCodeKey, known.code);
  return {
    code: status[name],
    details: `${known.code}: ${known.message}`,
    metadata,
  };
}
