import { EsbError } from '../../common/errors.ts';
import type { EnsureRequest, TaskState, WorkerInfo } from './runtime.ts';

/** A callable worker: its process runs or is frozen. */
export type LiveWorker = WorkerInfo & {
  readonly task: Extract<TaskState, { kind: 'Running' | 'Paused' }>;
};

/** Whether there is a way of calls into a container. */
export function isReachable({ address, runtimeInterface }: Pick<WorkerInfo, 'address' | 'runtimeInterface'>): boolean {
  return runtimeInterface === 'Lambda' || address !== undefined;
}

/** Whether a container serves a request as it is, or thawed. */
export function fits(found: WorkerInfo, request: EnsureRequest): found is LiveWorker {
  const alive = found.task.kind === 'Running' || found.task.kind === 'Paused';
  return (
    alive && isReachable(found) && found.shapeHash === request.shapeHash && found.identity.uid === request.identity.uid
  );
}

/**
 * Refuses the container of another worker. A container without an owner is the rest of a creation that a crash cut off.
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
