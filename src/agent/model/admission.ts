import type { DesiredWorker } from './desired-worker.ts';
import { mayWake } from './goal.ts';
import type { Rest } from './idle-policy.ts';
import type { Closing, Invocation } from './invocation.ts';

/** What decides whether a call is let in. */
export interface AdmissionFacts {
  readonly desired: DesiredWorker;
  readonly rest: Rest;
  /** Why no call can be let in, whatever it is. */
  readonly closing: Closing | undefined;
  /** Why there is nothing that runs, and nothing is started either. */
  readonly putOff: Closing | undefined;
  /** Why the node has no room for it, when it has none and nothing serves. */
  readonly nodeFull: string | undefined;
  readonly queue: { readonly full: boolean; readonly length: number };
}

/** Why a call is refused before it waits for anything; undefined when it is let in. */
export function refusalOf(invocation: Invocation, facts: AdmissionFacts): Closing | undefined {
  const { closing, desired, nodeFull, putOff, queue, rest } = facts;
  if (closing !== undefined) {
    return closing;
  }
  if (invocation.epoch !== desired.epoch) {
    return ['Fenced', `the call has epoch ${invocation.epoch}, the assignment ${desired.epoch}`];
  }
  if (invocation.signal.aborted) {
    return ['CallerGone', 'the caller hung up'];
  }
  if (!mayWake(desired.wakePolicy, rest)) {
    return ['PausedByOwner', 'the worker is paused by its owner'];
  }
  if (putOff !== undefined) {
    return putOff;
  }
  if (nodeFull !== undefined) {
    return ['NodeFull', nodeFull];
  }
  return queue.full ? ['QueueFull', `${queue.length} calls wait for this worker already`] : undefined;
}
