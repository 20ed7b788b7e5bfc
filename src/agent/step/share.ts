import type { Closing } from '../model/invocation.ts';
import type { WorkerView } from '../model/worker-state.ts';
import { type Container, heldIn, interfaceOf, leftIn } from './container.ts';
import { containersOf, type Draft, type WorkerState } from './state.ts';

/** The refusal where the node has not been heard for so long that another node may have its shares. */
export const SHARE_LAPSED: Closing = [
  'Unavailable',
  "the API server has not heard this node for so long that the share of the worker may be another one's",
];

/** Calls that run in its containers, with those of an earlier run of the agent and those whose time is over. */
export function runningOf(state: WorkerState): number {
  let running = state.places.length;
  for (const container of containersOf(state)) {
    running += leftIn(container) + heldIn(container);
  }
  return running;
}

/**
 * Calls that may run by the share of the worker: a call that runs keeps its place when the share is lowered, and where
 * it is not known yet which calls an earlier run of the agent has left, there may be as many as the worker takes.
 * Undefined where it has no share.
 */
export function shareInForce(state: WorkerState): WorkerView['share'] {
  const { epoch, perWorker = 1, share } = state.desired;
  if (share === undefined) {
    return undefined;
  }
  return { epoch, calls: Math.max(share, isCounted(state) ? runningOf(state) : perWorker) };
}

/** Whether all calls in its containers are known. No call is in a frozen one. */
function isCounted(state: WorkerState): boolean {
  const isHeard = (container: Container): boolean =>
    container.init.kind === 'Connected' ||
    interfaceOf(container) === 'Emulator' ||
    container.sight.info?.task.kind !== 'Running';
  return state.listing.kind === 'Complete' && state.adopting === undefined && containersOf(state).every(isHeard);
}

/** Whether the share of a worker that has one has room for another call. */
export function hasFreeShare(state: WorkerState): boolean {
  return runningOf(state) < (state.desired.share ?? 0);
}

/** Why the share of the worker does not let a call in; undefined when it does, or when the call waits for that. */
export function whyUnshared({ at, state }: Pick<Draft, 'at' | 'state'>): Closing | undefined {
  const { desired } = state;
  if (desired.share === 0) {
    return ['ShareInUse', 'the worker has no share of the reserved concurrency of its function'];
  }
  return at.node.holdsShare(desired.identity.uid, desired.epoch) ? undefined : SHARE_LAPSED;
}
