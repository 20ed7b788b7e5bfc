import { EsbError } from '../common/errors.ts';

/** What runc says of a memory limit that its own first process does not fit in. */
const TOO_LITTLE_MEMORY = /memory limit too low|OOM-killed|unable to set memory limit/;
const PREFIX =
  /^containerd \w+\.\w+: (?:failed to create shim task: )?(?:OCI runtime \w+ failed: )?(?:runc \w+ failed: )?/;

/** Turns what making or starting a container failed with into the error that a condition shows. */
export function createError(code: 'CreateFailed' | 'StartFailed', error: unknown): EsbError {
  const failure = EsbError.from(error);
  switch (failure.code) {
    case 'Aborted':
    case 'DeadlineExceeded':
    case 'RuntimeUnavailable':
      return failure;
    case 'DiskFull':
      return new EsbError('the disk of the node is full', {
        code: 'DiskFull',
        retryable: true,
        cause: error,
      });
    default:
      break;
  }
  if (TOO_LITTLE_MEMORY.test(failure.message)) {
    return new EsbError(
      'the memory limit is too small for the container to start at all: raise spec.resources.limits.memory',
      { code: 'MemoryTooSmall', cause: error },
    );
  }
  return new EsbError(failure.message.replace(PREFIX, ''), { code, retryable: true, cause: error });
}

/** An error of the network as it is, anything unexpected as `NetworkFailed`. */
export function networkError(error: unknown): EsbError {
  const failure = EsbError.from(error);
  return failure.code === 'Internal'
    ? new EsbError(failure.message, { code: 'NetworkFailed', retryable: true, cause: error })
    : failure;
}
