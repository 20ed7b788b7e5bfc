import type { NodePresence } from '../scheduling/node-snapshot.ts';
import type { GuardWish } from './hold-pod.ts';
import type { HoldView } from './hold-view.ts';
import type { PodChange } from './hold-writer.ts';

/**
 * Milliseconds after which an eviction without a cordon is no drain any more: the guard was deleted by hand, or made
 * room for a Pod of higher priority. Workers that fit elsewhere have left by then, and the rest stays.
 */
const CALL_OFF_AFTER_MS = 60_000;
/** Milliseconds after which a Pod without a finalizer is deleted without a grace. */
const END_LEAVING_AFTER_MS = 10_000;

export interface GuardInput extends Omit<NodePresence, 'isOutside'> {
  /** Whether the node was cordoned or about to leave after the eviction of the guard, and is not any more. */
  readonly isBack: boolean;
  /** Whether the guard is that of a LambdaNode that was deleted and made again: Kubernetes deletes it. */
  readonly isOrphaned: boolean;
  /** Whether a taint of the node, other than one of departure, evicts the guard. */
  readonly isTainted: boolean;
  readonly assigned: number;
  /** Workers that have a container on the node, as its agent reports. */
  readonly present: number;
  readonly wanted: GuardWish;
  readonly pod: HoldView | undefined;
  /** Milliseconds since the guard was first seen in its present state. */
  readonly sinceMs: number;
  /** Milliseconds after which an ended Pod is created again; a kubelet that refused one refuses the next. */
  readonly replaceAfterMs: number;
}

export type GuardAction =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'create' }
  | Exclude<PodChange, { readonly kind: 'resize' }>;

export interface GuardDecision {
  readonly action: GuardAction;
  /** Why workers are to leave the node, as a clause; absent while they stay. */
  readonly draining?: string;
  /** Why the kubelet has refused the guard. */
  readonly refusal?: string;
  /** Milliseconds after which the decision changes without an event. */
  readonly againAfterMs?: number;
}

const nothing: GuardAction = { kind: 'nothing' };

/** Whether nothing of ESB is left on the node. */
export function isEmpty({ assigned, present, lost }: Pick<GuardInput, 'assigned' | 'present' | 'lost'>): boolean {
  return assigned === 0 && (lost || present === 0);
}

function decideEvicted(input: GuardInput): GuardDecision {
  if (!input.exists || input.isOrphaned) {
    return { action: { kind: 'release', because: 'gone' } };
  }
  if (isEmpty(input)) {
    return { action: { kind: 'release', because: 'drained' } };
  }
  const draining = 'its guard Pod was evicted';
  if (input.cordoned || input.retired || input.departure !== undefined) {
    return { action: nothing, draining };
  }
  // Workers leave by tolerations of their own.
  if (input.isTainted) {
    return { action: { kind: 'release', because: 'tainted' } };
  }
  const againAfterMs = input.isBack ? 0 : CALL_OFF_AFTER_MS - input.sinceMs;
  return againAfterMs > 0
    ? { action: nothing, draining, againAfterMs }
    : { action: { kind: 'release', because: 'calledOff' } };
}

function isWanted({ exists, lost, retired, assigned }: GuardInput): boolean {
  return exists && !lost && !retired && assigned > 0;
}

function decidePresent(input: GuardInput, pod: HoldView): GuardDecision {
  const { state } = pod;
  if (state.kind === 'evicted') {
    return decideEvicted(input);
  }
  if (state.kind === 'leaving') {
    // Our own deletions end at once. Where only the finalizer could be taken off, the grace runs on.
    const left = END_LEAVING_AFTER_MS - input.sinceMs;
    return left > 0
      ? { action: nothing, againAfterMs: left }
      : { action: { kind: 'remove', because: 'it was let go and is still there' } };
  }
  if (!input.exists) {
    return { action: { kind: 'remove', because: 'its node is gone' } };
  }
  if (isEmpty(input)) {
    return { action: { kind: 'remove', because: 'its node has no workers' } };
  }
  if (!pod.guarded || pod.graceSeconds < input.wanted.graceSeconds) {
    return { action: { kind: 'remove', because: 'finalizer or grace are not as they should be' } };
  }
  if (state.kind === 'ended') {
    const left = input.replaceAfterMs - input.sinceMs;
    const { refusal } = state;
    return left > 0
      ? { action: nothing, refusal, againAfterMs: left }
      : { action: { kind: 'remove', because: refusal }, refusal };
  }
  return { action: pod.image === input.wanted.image ? nothing : { kind: 'renewImage', image: input.wanted.image } };
}

/**
 * The action for the guard Pod of one node, and whether its workers are to leave. The guard exists exactly while the
 * node has workers; in a steady state there is no action.
 */
export function decideGuard(input: GuardInput): GuardDecision {
  const decision: GuardDecision =
    input.pod === undefined
      ? { action: isWanted(input) ? { kind: 'create' } : nothing }
      : decidePresent(input, input.pod);
  const { departure } = input;
  return decision.draining === undefined && departure !== undefined && !isEmpty(input)
    ? { ...decision, draining: `its Node has the taint ${departure}` }
    : decision;
}
