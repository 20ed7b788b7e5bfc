import type { DesiredWorker } from './desired-worker.ts';
import { mayWake } from './goal.ts';
import type { Rest } from './idle-policy.ts';
import type { Closing } from './invocation.ts';

/** What decides whether a call is let in. */
export interface AdmissionFacts {
  readonly desired: DesiredWorker;
  readonly rest: Rest;
  /** Whether the caller has hung up already. */
  readonly gone: boolean;
  /** Why no call can be let in, whichever it is. */
  readonly closing: Closing | undefined;
  /** Why there is nothing that runs, and nothing is started either. */
  readonly putOff: Closing | undefined;
  /** Why the node has no room for it, when it has none and nothing serves. */
  readonly nodeFull: string | undefined;
  readonly queue: { readonly full: boolean; readonly length: number };
}

/** Why a call with that epoch is refused before it waits for anything; undefined when it is let in. */
export function refusalOf(epoch: number, facts: AdmissionFacts): Closing | undefined {
  const { closing, desired, gone, nodeFull, putOff, queue, rest } = facts;
  if (closing !== undefined) {
    return closing;
  }
  if (epoch !== desired.epoch) {
    return ['Fenced', `the call has epoch ${epoch}, the assignment ${desired.epoch}`];
  }
  if (gone) {
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
