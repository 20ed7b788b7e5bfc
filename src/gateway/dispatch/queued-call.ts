import type { CountedCall } from '../admission/load-meter.ts';
import type { Room } from '../admission/room.ts';
import type { FunctionEntry } from '../agents/fleet-view.ts';
import type { Refusals } from '../agents/refusals.ts';
import type { Route } from '../agents/routing.ts';
import type { Caller } from '../lambda/caller.ts';
import type { FunctionReference } from '../lambda/function-name.ts';

/** The room that a call is in, and the bytes of its payload. */
export interface Held {
  readonly room: Pick<Room, 'freeBytes'>;
  readonly bytes: number;
}

/** A worker that takes a call. Its place is kept for the call until the call is sent. */
export interface FoundWorker {
  readonly route: Route;
  /** To be called once, as soon as the call is on its way. */
  readonly letGo: () => void;
}

/** The end of a wait in the queue of a function. */
export interface Turn<T> {
  readonly go: (found: T) => void;
  readonly refuse: (error: unknown) => void;
}

export type CallState =
  /** The call has had no place yet, and counts against the depth of the queue. */
  | { readonly kind: 'Queued'; readonly turn: Turn<void> }
  /** The call has a place: it is prepared, or is at a worker. */
  | { readonly kind: 'Placed' }
  /** The call had a place, and waits for a worker that takes it. Such calls count against no depth. */
  | { readonly kind: 'Seeking'; readonly turn: Turn<FoundWorker> }
  /** The call has no place, and waits for nothing in this gateway. */
  | { readonly kind: 'Away' };

/** The state of a call that waits. */
export type Waits = Exclude<CallState, { readonly kind: 'Placed' | 'Away' }>;

/** A call from its arrival to its end, as the queue of its function has it. */
export interface QueuedCall {
  readonly reference: FunctionReference;
  readonly caller: Caller;
  readonly held: Held;
  /** The number, drawn once, that decides for the call between the versions of an alias. */
  readonly draw: () => number;
  readonly counted: CountedCall | undefined;
  /** Its number among all calls of the gateway. */
  readonly arrival: number;
  /** Monotonic milliseconds at which the call came, later by the time that it lost with agents that ended. */
  since: number;
  target: FunctionEntry;
  /** Undefined for $LATEST. */
  version: number | undefined;
  state: CallState;
  /** Refusals by workers of this version, since its last wait. */
  refusals: Refusals | undefined;
  /** The worker that the call was taken back from. */
  left: Route | undefined;
  /** Monotonic milliseconds at which its wait for a worker ends; undefined before the first such wait. */
  workerUntil: number | undefined;
  /** Monotonic milliseconds up to which {@link QueuedCall.workerUntil} is right, while the version has no place free. */
  closedSince: number | undefined;
  /** Whether the version has had no place free in this wait. */
  lackedPlace: boolean;
}

/** A call that waits at the agent of a worker without a free place. */
export interface AheadCall {
  readonly call: QueuedCall;
  readonly route: Route;
  /** Monotonic milliseconds at which the call is taken back in any case. */
  readonly until: number;
}
