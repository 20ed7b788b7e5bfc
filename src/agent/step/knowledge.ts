import type { Backoff } from '../model/backoff.ts';
import type { DesiredWorker } from '../model/desired-worker.ts';
import type { Idle, Rest } from '../model/idle-policy.ts';
import type { FoundMark } from '../model/marked-call.ts';
import type { Failure } from '../model/status-input.ts';
import type { WorkerRecord } from '../model/worker-record.ts';
import type { WorkerView } from '../model/worker-state.ts';
import type { Call } from './call.ts';
import type { Container } from './container.ts';

/** A place that a call has in a container of the worker. */
export type Place =
  | ({ readonly kind: 'Sent' } & Taken)
  /** The connection broke in the middle of it: looks at the container are to tell why. */
  | ({
      readonly kind: 'Broken';
      readonly message: string;
      readonly stamp: string;
      readonly looks: number;
    } & Taken)
  /** Its caller was told that the agent stops. The call itself goes on. */
  | ({ readonly kind: 'Left' } & Taken);

interface Taken {
  readonly call: Call;
  readonly containerId: string;
  /** Monotonic milliseconds at which the worker was ready for it. */
  readonly readyAt: number;
  /** Wall-clock milliseconds at which its time is over. */
  readonly until: number;
}

/** How much may wait for one worker. Once either is reached, no further call may. */
export interface QueueLimits {
  readonly calls: number;
  /** Bytes of payload. */
  readonly bytes: number;
}

/** Knowledge of the worker's containers. */
export type Listing =
  /** None has been looked for yet. `record` is what an earlier run knew. */
  | {
      readonly kind: 'Unlisted';
      readonly record: WorkerRecord | undefined;
      readonly mark: FoundMark | undefined;
    }
  /** Only the one that served, by the record and the kernel. */
  | { readonly kind: 'Partial'; readonly mark: FoundMark | undefined }
  | { readonly kind: 'Complete' };

/** Whether this node has the worker, and whether its actor acts. */
export type Life =
  | 'Serving'
  /** Takes no more calls and begins nothing. */
  | 'Stopping'
  /** Nothing is left of a worker that was released. */
  | 'Gone';

/** Leave to replace a container, of which a node gives out only so much. `resting` is of the request that waits. */
export type Turn =
  | { readonly kind: 'None' }
  | { readonly kind: 'Waiting'; readonly resting: boolean }
  | { readonly kind: 'Held' };

/**
 * The registry's word about an image, and the way to it, of a worker that rests Absent: a misspelt name is to be told
 * before the first call.
 */
export type Resolution = { readonly image: string; readonly backoff: Backoff } & (
  | { readonly kind: 'Known' }
  /** `failure`: that of the last time. */
  | { readonly kind: 'Asking'; readonly failure: Failure | undefined }
  | { readonly kind: 'Failed'; readonly failure: Failure }
);

/** All that is known of one worker. Immutable. Times are monotonic milliseconds where nothing else is said. */
export interface WorkerState {
  readonly desired: DesiredWorker;
  /** The resource, or its assignment to this node, is gone. */
  readonly released: boolean;
  /** Whether the resource came from the API in this run of the agent, as opposed to a record. */
  readonly confirmed: boolean;
  readonly life: Life;
  readonly listing: Listing;
  /** Knowledge of an earlier run, until the first look at the container; `Unrecorded` where it left no record. */
  readonly adopting: WorkerRecord | 'Unrecorded' | undefined;
  /** The container that calls go to. */
  readonly present: Container;
  /** A successor, what was replaced, and what is occupied. */
  readonly others: readonly Container[];
  /** Whether a container of it has gone since this run of the agent began: calls may have been in that one. */
  readonly hasLost: boolean;
  /** Why the node has no room for another container beside the present one, when it has none. */
  readonly noRoomBeside: string | undefined;
  /** Why the node has no room for the worker, when it has none and nothing serves. */
  readonly nodeFull: string | undefined;
  readonly resolution: Resolution | undefined;
  readonly turn: Turn;
  readonly idle: Idle;
  /**
   * Found frozen, with no call and no word of the API since. The record may be a moment older than the freeze, so that
   * it is no reason for a wake.
   */
  readonly foundPaused: boolean;
  /** The last value of `status.lastInvocationTime` that was seen, and acted on where it was not our own. */
  readonly observedStamp: string | undefined;
  /** Stamp of the latest call, or of the latest wake by the resource; undefined for none in this run of the agent. */
  readonly activeStamp: string | undefined;
  /** Calls in the order of their turn. */
  readonly waiting: readonly Call[];
  readonly waitingBytes: number;
  /** The last call whose caller is heard when it hangs up. */
  readonly heardUpTo: number;
  readonly queueLimits: QueueLimits;
  readonly places: readonly Place[];
  /** When the present container became ready last. */
  readonly readySince: number;
  readonly restartCount: number;
  readonly lastTermination: WorkerView['lastTermination'];
  /** Where the record says that the worker rests. */
  readonly savedRest: Rest;
  /** Part of the record that is still to be saved. */
  readonly unsaved: 'None' | 'Rest' | 'Any';
  /** Until when a wake is not shown: an answer that comes meanwhile would lie unread. */
  readonly quietUntil: number;
  /**
   * From when on a worker that is deleted goes even with a call in it. `wall` is the same in wall-clock milliseconds.
   */
  readonly grace: { readonly until: number; readonly wall: number } | undefined;
}
