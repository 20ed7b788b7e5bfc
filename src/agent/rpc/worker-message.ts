import type { WorkerRef, WorkerState } from '../../protocol/generated/agent.ts';
import type { WorkerIdentity } from '../../runtime/contract/runtime.ts';
import type { WorkerUsage } from '../../runtime/contract/usage.ts';
import type { WorkerView } from '../model/worker-state.ts';

/** The name of a worker as it goes over the wire. */
export function workerRefMessage(identity: WorkerIdentity): WorkerRef {
  return { namespace: identity.namespace, name: identity.name, uid: identity.uid };
}

/** Calls of others than that caller, and how many of them have a place. */
export function othersIn(
  { callers, inFlight, places = 1 }: Pick<WorkerView, 'callers' | 'inFlight' | 'places'>,
  caller: string | undefined,
): Pick<WorkerState, 'others' | 'othersPlaced'> {
  const own = caller === undefined ? undefined : callers?.get(caller);
  return {
    others: inFlight - (own?.inFlight ?? 0),
    othersPlaced: Math.max(0, Math.min(inFlight, places) - (own?.placed ?? 0)),
  };
}

/**
 * View of a worker for watchers.
 *
 * @param caller the one who is told; undefined for one that has no name
 */
export function workerStateMessage(view: WorkerView, caller?: string): WorkerState {
  return {
    worker: workerRefMessage(view.identity),
    functionName: view.identity.functionName,
    epoch: view.epoch,
    phase: `PHASE_${view.phase.toUpperCase() as Uppercase<typeof view.phase>}`,
    inFlight: view.inFlight,
    containerId: view.containerId ?? '',
    callable: view.callable,
    places: view.places ?? 1,
    usage: null,
    ...othersIn(view, caller),
  };
}

/** Message of a worker's state with its usage. */
export function usedStateMessage(view: WorkerView, usage: WorkerUsage | undefined): WorkerState {
  const { cpuUs = 0, memoryBytes = 0, takenAt = 0 } = usage ?? {};
  const message = { cpuUs: Math.round(cpuUs), memoryBytes, takenAtMs: takenAt };
  return { ...workerStateMessage(view), usage: usage === undefined ? null : message };
}
