import { EsbError } from '../../common/errors.ts';
import type { EnsureRequest, TaskState, WorkerInfo } from './runtime.ts';

/** A worker whose process runs or is frozen, and that can be called. */
export type LiveWorker = WorkerInfo & {
  readonly address: NonNullable<WorkerInfo['address']>;
  readonly task: Extract<TaskState, { kind: 'Running' | 'Paused' }>;
};

/** Whether a container can be used as it is, at most thawed. */
export function fits(found: WorkerInfo, request: EnsureRequest): found is LiveWorker {
  const alive = found.task.kind === 'Running' || found.task.kind === 'Paused';
  return (
    alive &&
    found.address !== undefined &&
    found.shapeHash === request.shapeHash &&
    found.identity.uid === request.identity.uid
  );
}

/**
 * Refuses to touch what is another worker's. A container without an owner is what a crash left of one half made.
 *
 * @throws {EsbError} `CreateFailed`
 */
export function refuseForeign(uid: string, request: EnsureRequest): void {
  if (uid !== '' && uid !== request.identity.uid) {
    throw new EsbError(`the container ${request.containerId} is that of another worker (uid ${uid})`, {
      code: 'CreateFailed',
    });
  }
}
