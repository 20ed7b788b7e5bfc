import { AbortedError } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';

/** runc's words for a memory limit that its own first process exceeds. */
const TOO_LITTLE_MEMORY = /memory limit too low|OOM-killed|unable to set memory limit|Minimum memory limit allowed/;
const PREFIX =
  /^(?:containerd \w+\.\w+|docker container \w+ \S+): (?:failed to create shim task: )?(?:OCI runtime \w+ failed: )?(?:runc \w+ failed: )?/;

export type CreationFault = 'CreateFailed' | 'StartFailed';

/** The error for a condition, from the failure of a creation or start. */
export function createError(code: CreationFault, error: unknown): EsbError {
  const failure = EsbError.from(error);
  if (['Aborted', 'DeadlineExceeded', 'NodeFull', 'RuntimeUnavailable'].includes(failure.code)) {
    return failure;
  }
  if (failure.code === 'DiskFull') {
    return new EsbError('the disk of the node is full', { code: 'DiskFull', cause: error });
  }
  if (TOO_LITTLE_MEMORY.test(failure.message)) {
    return memoryTooSmall(error);
  }
  return new EsbError(failure.message.replace(PREFIX, ''), { code, retryable: true, cause: error });
}

/**
 * One step of a creation or start, which does not begin for a caller that has given up.
 *
 * @throws {EsbError} `Aborted`, or the failure by {@link createError}
 */
export async function creationStep<T>(code: CreationFault, signal: AbortSignal, call: () => Promise<T>): Promise<T> {
  if (signal.aborted) {
    throw new AbortedError('making a worker', signal.reason);
  }
  try {
    return await call();
  } catch (error) {
    throw createError(code, error);
  }
}

/** An error of the network unchanged, any unexpected one as `NetworkFailed`. */
export function networkError(error: unknown): EsbError {
  const failure = EsbError.from(error);
  return failure.code === 'Internal' ? new EsbError(failure.message, { code: 'NetworkFailed', cause: error }) : failure;
}

/** The error for a first process that exceeds the memory limit. */
export function memoryTooSmall(cause: unknown): EsbError {
  return new EsbError(
    'the memory limit is too small for the container to start at all: raise spec.resources.limits.memory',
    { code: 'MemoryTooSmall', cause },
  );
}
