import type { TerminationReason } from '../../api/condition.ts';
import type { EsbError } from '../../common/errors.ts';
import type { InitFault } from '../../init/contract.ts';
import type { EnsureStep, WorkerInfo } from '../../runtime/contract/runtime.ts';
import type { DesiredWorker } from './desired-worker.ts';
import type { Goal } from './goal.ts';
import type { Action, Observed } from './plan.ts';
import type { WorkerView } from './worker-state.ts';

/** The reason why a worker has not reached its goal. */
export interface Failure {
  /** The code of the error, or of the way in which the process ended. */
  readonly code: EsbError['code'] | TerminationReason;
  readonly message: string;
  /** Whether the process of the worker ended, as opposed to a failed start. */
  readonly exited: boolean;
  /** Seconds until the next attempt; 0 for an attempt at once. */
  readonly delaySeconds: number;
  /** Of a failed initialization, as its init told it: what calls are answered with meanwhile. */
  readonly fault?: InitFault | undefined;
}

/** Progress of the replacement of a container that serves. */
export interface Replacement {
  /** Progress of the new container. */
  readonly step: EnsureStep | undefined;
  /** Progress in words, for people. */
  readonly detail: string | undefined;
  readonly failure: Failure | undefined;
  /** Reason why the node has no room for the new container; undefined while there is room. */
  readonly nodeFull: string | undefined;
}

export interface StatusInput {
  readonly desired: DesiredWorker;
  readonly goal: Goal;
  readonly observed: Observed['kind'];
  /** Whether the state of the container has been unknown for too long to show the last known one. */
  readonly shownUnknown: boolean;
  /** Whether an earlier container may have left something. */
  readonly traces: boolean;
  readonly info: WorkerInfo | undefined;
  readonly acting: Action['kind'] | undefined;
  /** Progress of an `Ensure`. */
  readonly step: EnsureStep | undefined;
  /** Progress in words, for people. */
  readonly detail: string | undefined;
  readonly failure: Failure | undefined;
  /** Wall-clock milliseconds by which the calls in the worker have ended; undefined without calls. */
  readonly callUntil: number | undefined;
  /** Reason why the node has no room for the worker; undefined while there is room. */
  readonly nodeFull: string | undefined;
  /** Whether a call lets the worker leave the state that it rests in. */
  readonly wakes: boolean;
  /** Whether the registry has the image for the next start, of a worker that rests Absent; why not, where it was asked. */
  readonly resolution: 'Known' | 'Asking' | Failure;
  /** Whether the warm-up call is still to come. */
  readonly cold: boolean;
  /** Whether the container that calls go to is of another shape than the resource asks for. */
  readonly outdated: boolean;
  /** Present while the container that serves is of an earlier shape. */
  readonly replacement: Replacement | undefined;
  /** Words on what the worker sent, where it was ended for that of late. */
  readonly abuse: string | undefined;
  /** Whether the last call timed out before the function was loaded. */
  readonly loadTimedOut: boolean;
  readonly previous: WorkerView | undefined;
}
