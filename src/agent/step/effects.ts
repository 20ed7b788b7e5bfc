import type { InvocationResult, RefusalReason } from '../model/invocation.ts';
import type { LeftCall, MarkedCall } from '../model/marked-call.ts';
import type { Action } from '../model/plan.ts';
import type { Call } from './call.ts';
import type { LookPurpose } from './events.ts';

/** Effects that a worker asks for. Each names its container, where it concerns one. */
export type Effect =
  | ({ readonly kind: 'Run'; readonly action: Action } & OfContainer)
  /** Begins to tell the runtime's tools that the container runs. */
  | ({ readonly kind: 'Settle' } & OfContainer)
  | ({ readonly kind: 'Look'; readonly purpose: LookPurpose; readonly delayMs: number } & OfContainer)
  /** Ends the action, or the settling. */
  | ({ readonly kind: 'Abort' } & OfContainer)
  /** Ends the action unless it has begun. */
  | ({ readonly kind: 'Abandon' } & OfContainer)
  /** Whether a call waits for the action has changed. */
  | ({ readonly kind: 'Hurry'; readonly urgent: boolean } & OfContainer)
  /** Sends a call into the container. */
  | ({ readonly kind: 'Send'; readonly call: Call } & OfContainer)
  /** Ends the calls that are in the container. */
  | ({ readonly kind: 'AbortCall'; readonly message: string } & OfContainer)
  /** Hears when the caller of a call that waits hangs up. */
  | { readonly kind: 'Await'; readonly id: number }
  /** Tells a caller how its call ended. */
  | { readonly kind: 'Answer'; readonly id: number; readonly result: InvocationResult }
  /** Makes the container this worker's. */
  | ({ readonly kind: 'Claim' } & OfContainer)
  /**
   * Waits for the end of a call that an earlier run has left in the container: by its last line in the log, or for its
   * time alone, where the init tells the end.
   */
  | ({ readonly kind: 'Watch'; readonly call: LeftCall; readonly by: 'Log' | 'Init' } & OfContainer)
  /** The init has told that end. */
  | ({ readonly kind: 'Unwatch' } & OfContainer)
  /** The container is no longer the worker's: all that was kept for it is given back. */
  | ({ readonly kind: 'Drop' } & OfContainer)
  /** The container is no longer the worker's, cannot be removed, and keeps what it takes. */
  | ({ readonly kind: 'SetAside'; readonly memoryMiB: number; readonly message: string } & OfContainer)
  /** Writes the mark of a call that is in the container already. */
  | ({ readonly kind: 'Mark'; readonly call: MarkedCall } & OfContainer)
  | ({ readonly kind: 'Unmark' } & OfContainer)
  /** Takes the share of the container, whether it fits or not; or gives it back. */
  | ({ readonly kind: 'Hold'; readonly memoryMiB: number } & OfContainer)
  | ({ readonly kind: 'Free' } & OfContainer)
  /** Asks whether the image can be had. */
  | { readonly kind: 'Resolve'; readonly image: string }
  | { readonly kind: 'Turn'; readonly want: 'Take' | 'Wait' | 'Give'; readonly resting: boolean }
  /** Fails those that wait for the worker to be brought somewhere. */
  | { readonly kind: 'Reject'; readonly reason: RefusalReason; readonly message: string }
  | { readonly kind: 'Save'; readonly change: RecordChange }
  | { readonly kind: 'RemoveRecord' }
  | {
      readonly kind: 'Log';
      readonly level: 'info' | 'warn' | 'error';
      readonly fields: Readonly<Record<string, unknown>>;
      readonly message: string;
    }
  /** Nothing is left of a worker that was released. */
  | { readonly kind: 'Forget' };

interface OfContainer {
  readonly containerId: string;
}

/** Difference to the record before: any field, or no more than the resting state and its time. */
export type RecordChange = 'Any' | 'Rest';
