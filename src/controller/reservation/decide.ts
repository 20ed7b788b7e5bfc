import type { NodePresence } from '../scheduling/node-snapshot.ts';
import type { Closure } from '../scheduling/place.ts';
import type { HoldView } from './hold-pod.ts';

/** Milliseconds for which the scheduler may look for room before the node gets no more workers. */
export const UNHELD_AFTER_MS = 30_000;
/**
 * Milliseconds after which an eviction without a cordon is no drain any more: the Pod was deleted by hand, or made room
 * for one of higher priority. Workers that fit elsewhere have left by then, and the rest stays.
 */
const CALL_OFF_AFTER_MS = 60_000;
/** Milliseconds after which an ended Pod is created again; a kubelet that refused one refuses the next. */
const REPLACE_ENDED_AFTER_MS = 10_000;
/** The part by which a Pod may hold too much: a machine's memory differs a little between kernels. */
const EXCESS_SHARE = 0.02;

export interface HoldInput extends NodePresence {
  /** Whether the node was cordoned after the eviction of the Pod, and is not any more. */
  readonly uncordoned: boolean;
  readonly assigned: number;
  /** Workers that have a container on the node, as its agent reports. */
  readonly present: number;
  readonly wanted: { readonly image: string; readonly memoryMiB: number };
  readonly pod: HoldView | undefined;
  /** Milliseconds since the Pod was first seen in its present state. */
  readonly sinceMs: number;
  /** Milliseconds since the first refusal of a Pod of the node; undefined where none was since the last hold. */
  readonly unheldForMs: number | undefined;
}

export type HoldAction =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'create' }
  | { readonly kind: 'remove'; readonly because: string }
  /** Releases a Pod that another party has deleted. */
  | { readonly kind: 'release'; readonly because: 'drained' | 'calledOff' | 'gone' }
  | { readonly kind: 'renewImage' };

export interface HoldDecision {
  readonly action: HoldAction;
  /** The consequence for new workers. */
  readonly closure?: Extract<Closure, 'draining' | 'unheld'>;
  /** Reason for which the scheduler or the kubelet refuses the Pod. */
  readonly refusal?: string | undefined;
  /** Milliseconds after which the decision changes without an event. */
  readonly againAfterMs?: number;
}

const nothing: HoldAction = { kind: 'nothing' };

function decideEvicted(input: HoldInput): HoldDecision {
  if (!input.exists) {
    return { action: { kind: 'release', because: 'gone' } };
  }
  if (isEmpty(input)) {
    return { action: { kind: 'release', because: 'drained' } };
  }
  if (input.cordoned || input.retired) {
    return { action: nothing, closure: 'draining' };
  }
  const againAfterMs = input.uncordoned ? 0 : CALL_OFF_AFTER_MS - input.sinceMs;
  return againAfterMs > 0
    ? { action: nothing, closure: 'draining', againAfterMs }
    : { action: { kind: 'release', because: 'calledOff' } };
}

function isEmpty({ assigned, present, lost }: HoldInput): boolean {
  return assigned === 0 && (lost || present === 0);
}

/** There is no Pod, or scheduler or kubelet have refused it, or have not answered yet. */
function decideUnheld(input: HoldInput, action: HoldAction, refusal?: string): HoldDecision {
  const { unheldForMs } = input;
  if (unheldForMs === undefined) {
    return { action };
  }
  const left = UNHELD_AFTER_MS - unheldForMs;
  return { action, refusal, ...(left > 0 ? { againAfterMs: left } : { closure: 'unheld' }) };
}

function decidePresent(input: HoldInput, pod: HoldView): HoldDecision {
  const { state } = pod;
  if (state.kind === 'evicted') {
    return decideEvicted(input);
  }
  if (state.kind === 'leaving') {
    return { action: nothing };
  }
  if (!input.exists) {
    return { action: { kind: 'remove', because: 'its node is gone' } };
  }
  if (isEmpty(input)) {
    return { action: { kind: 'remove', because: 'its node has no workers' } };
  }
  if (!pod.guarded || !holdsEnough(pod.memoryMiB, input.wanted.memoryMiB)) {
    return { action: { kind: 'remove', because: 'finalizer or memory are not as they should be' } };
  }
  if (state.kind === 'ended') {
    const left = REPLACE_ENDED_AFTER_MS - input.sinceMs;
    return left > 0
      ? { ...decideUnheld(input, nothing, state.refusal), againAfterMs: left }
      : decideUnheld(input, { kind: 'remove', because: state.refusal }, state.refusal);
  }
  const action: HoldAction = pod.image === input.wanted.image ? nothing : { kind: 'renewImage' };
  return state.kind === 'held' ? { action } : decideUnheld(input, action, state.refusal);
}

/** Whether the Pod holds every MiB that the node promises, and not many more. */
function holdsEnough(heldMiB: number, wantedMiB: number): boolean {
  return heldMiB >= wantedMiB && heldMiB <= wantedMiB * (1 + EXCESS_SHARE);
}

/**
 * The action for the hold Pod of one node, and the consequence of its state for the node. The Pod exists exactly while
 * the node has workers; in a steady state there is no action.
 */
export function decideHold(input: HoldInput): HoldDecision {
  if (input.pod !== undefined) {
    return decidePresent(input, input.pod);
  }
  const isWanted = input.exists && !input.lost && !input.retired && input.assigned > 0 && input.wanted.memoryMiB > 0;
  return decideUnheld(input, isWanted ? { kind: 'create' } : nothing);
}
