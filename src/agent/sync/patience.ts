import type { LambdaWorkerStatus, WorkerPhase } from '../../api/lambda-worker.ts';
import type { WorkerView } from '../model/worker-state.ts';

/** Milliseconds for which a transient phase must last to be published, by the number of workers that are in one. */
const leastMs = 1_000;
const eachMs = 200;
const mostMs = 10_000;
/** Phases of workers that have not been made yet, as far as has been told. */
const unmade: ReadonlySet<WorkerPhase | undefined> = new Set([
  undefined,
  'Pending',
  'Absent',
  'Pulling',
  'Creating',
] as const);

/**
 * Milliseconds for which a worker must have been in its phase before that is published; 0 for at once. A transient phase
 * has to last, the longer the more workers of the node are in one: of many that start at once, few are told to. Beside
 * others in one, a worker without a status is not told to rest Absent at once: a call that it was made for starts it.
 * One that such a call has started is told to run later as well: the calls that other workers are started for go before.
 * A worker with a share does not wait for the sake of others, since the controller waits for its word.
 *
 * @param present status as the API server has it
 * @param passing number of workers of the node in a transient phase
 */
export function patienceMs(
  view: Pick<WorkerView, 'conditions' | 'inFlight' | 'phase' | 'share' | 'transient'>,
  present: LambdaWorkerStatus | undefined,
  passing: number,
): number {
  const crowdMs = view.share === undefined ? Math.min(eachMs * passing, mostMs) : 0;
  if (view.transient) {
    return Math.max(leastMs, crowdMs);
  }
  if (view.phase === 'Running' && view.inFlight > 0 && unmade.has(present?.phase)) {
    return crowdMs;
  }
  const isReady = view.conditions.Ready.status === 'True';
  return view.phase === 'Absent' && isReady && present?.phase === undefined ? crowdMs : 0;
}
