import { EsbError } from '../../common/errors.ts';
import type { WorkerRef, WorkerState } from '../../protocol/generated/agent.ts';
import type { WorkerIdentity } from '../../runtime/contract/runtime.ts';
import type { WorkerView } from '../model/worker-state.ts';
import type { ServedFleet } from './served-fleet.ts';

/** The name of a worker as it goes over the wire. */
export function workerRefMessage(identity: WorkerIdentity): WorkerRef {
  return { namespace: identity.namespace, name: identity.name, uid: identity.uid };
}

/** View of a worker for watchers. */
export function workerStateMessage(view: WorkerView): WorkerState {
  return {
    worker: workerRefMessage(view.identity),
    functionName: view.identity.functionName,
    epoch: view.epoch,
    phase: `PHASE_${view.phase.toUpperCase() as Uppercase<typeof view.phase>}`,
    inFlight: view.inFlight,
    containerId: view.containerId ?? '',
    callable: view.callable,
  };
}

/**
 * The uid of the worker that a caller named: by uid, or by namespace and name for people who know no more.
 *
 * @throws {EsbError} `InvalidArgument` when nothing is named, `NotFound` when there is no such worker
 */
export function resolveWorker(fleet: ServedFleet, reference: WorkerRef | null): string {
  if (reference === null || (reference.uid === '' && reference.name === '')) {
    throw new EsbError('no worker was named', { code: 'InvalidArgument' });
  }
  if (reference.uid !== '') {
    return reference.uid;
  }
  const found = fleet
    .views()
    .find(({ identity }) => identity.namespace === reference.namespace && identity.name === reference.name);
  if (found === undefined) {
    throw new EsbError(`no worker ${reference.namespace}/${reference.name} on this node`, {
      code: 'NotFound',
    });
  }
  return found.identity.uid;
}
