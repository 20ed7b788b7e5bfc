import type { Closing } from './closure.ts';
import { StateAge } from './state-age.ts';

/** The memory of one node between two looks. */
export interface NodeTrack {
  readonly guard: StateAge;
  /** Which Pods of the reservation have ended. */
  readonly ended: StateAge;
  /** Whether less is wanted than the reservation asks for. */
  readonly lower: StateAge;
  /** The same, of CPU. */
  readonly lowerCPU: StateAge;
  /** Until when (monotonic milliseconds) no more CPU is asked for than the kubelet has given. */
  lacksCPUUntil: number;
  /** Until when (monotonic milliseconds) the node is about to have more for its workers than now. */
  growsUntil: number | undefined;
  /** MiB that the node could promise at the last look; before the first one no amount is more. */
  promiseMiB: number;
  /** When (monotonic milliseconds) the agent was last told that its workers may have more. */
  raisedAt: number;
  /** Until when (monotonic milliseconds) the memory is left to a Pod of higher priority. */
  yieldsUntil: number;
  /** Since when the kubelet has given less than is wanted, and no more than before. */
  unheldSince: number | undefined;
  /** Whether the node was cordoned, or about to leave, at some time while the guard was in its state. */
  wasClosed: boolean;
  closing: Closing | undefined;
}

/**
 * @param closure found by the controller that led before
 * @param unheldSince since when the node is unheld, if so
 * @param now monotonic milliseconds
 */
export function newTrack(
  closure: Closing['closure'] | undefined,
  unheldSince: number | undefined,
  now: number,
): NodeTrack {
  return {
    guard: new StateAge(),
    ended: new StateAge(),
    lower: new StateAge(),
    lowerCPU: new StateAge(),
    lacksCPUUntil: now,
    growsUntil: undefined,
    promiseMiB: Number.POSITIVE_INFINITY,
    raisedAt: now,
    yieldsUntil: now,
    unheldSince,
    wasClosed: false,
    closing: closure === undefined ? undefined : { closure, because: 'found by the controller that led before' },
  };
}
