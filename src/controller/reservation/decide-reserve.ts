import type { NodePresence } from '../scheduling/node-snapshot.ts';
import type { PodAmounts } from './hold-pod.ts';
import type { ReserveView } from './hold-view.ts';
import type { PodChange } from './hold-writer.ts';

/** Milliseconds for which a smaller reservation has to do before the memory goes back: workers come and go. */
const SHRINK_AFTER_MS = 60_000;
/** Milliseconds within which an agent tells what it was told. Until then its last word may be older than that. */
const HEARD_WITHIN_MS = 15_000;
/**
 * Milliseconds for which no more is asked for after the scheduler has taken a reservation for a Pod of higher priority:
 * that Pod is bound once the memory is free, and a reservation that asks no scheduler would be there before.
 */
export const YIELD_MS = 30_000;
/**
 * Milliseconds after the end of a Pod in which the kubelet looks at each further one before the next is made: it may
 * refuse them all.
 */
const ONE_BY_ONE_MS = 60_000;
/** Most Pods of one node, where the kubelet resizes none. */
const MAX_RESERVE_PODS = 32;

export interface ReserveInput extends Pick<NodePresence, 'exists' | 'lost' | 'retired' | 'resizesNoPod'> {
  /** Whether nothing of ESB is left on the node. */
  readonly isEmpty: boolean;
  /** Whether workers are to leave the node. */
  readonly isDraining: boolean;
  readonly image: string;
  /** MiB that the node is to have. */
  readonly wantedMiB: number;
  /** MiB of one step: the size of each Pod where the kubelet resizes none. */
  readonly stepMiB: number;
  /** Thousandths of a core that the node is to have. */
  readonly wantedMilliCPU: number;
  /** MiB that the agent lets workers have. */
  readonly promisedMiB: number;
  /** The Pods of the reservation. */
  readonly pods: readonly ReserveView[];
  /** Milliseconds since a Pod was last found to have ended, also where that was removed; infinite for never. */
  readonly endedForMs: number;
  /** Milliseconds after which a Pod that has ended is made again. */
  readonly replaceAfterMs: number;
  /** Milliseconds for which less was wanted than the Pods ask for. */
  readonly lowerForMs: number;
  /** Milliseconds for which less CPU was wanted than the Pods ask for. */
  readonly lowerCPUForMs: number;
  /** Milliseconds since the agent was told that its workers may have more. */
  readonly raisedForMs: number;
  /** Milliseconds for which the memory is left to a Pod of higher priority; 0 and less for none. */
  readonly yieldsForMs: number;
}

export type ReserveAction =
  | { readonly kind: 'nothing' }
  | ({ readonly kind: 'create'; readonly index: number } & PodAmounts)
  | (Exclude<PodChange, { readonly kind: 'release' }> & { readonly name: string });

export interface ReserveDecision {
  readonly action: ReserveAction;
  /** MiB that the agent may let workers have: never more than the kubelet has allocated, now and after the action. */
  readonly promiseMiB: number;
  /** Why the kubelet gives less than is wanted. */
  readonly refusal?: string | undefined;
  /** Milliseconds after which the decision changes without an event. */
  readonly againAfterMs?: number;
}

const nothing: ReserveAction = { kind: 'nothing' };

function sum(pods: readonly ReserveView[], what: (pod: ReserveView) => number): number {
  return pods.reduce((total, pod) => total + what(pod), 0);
}

/** MiB that Pods ask for, without their own. */
export const requestedMiB = (pods: readonly ReserveView[]): number => sum(pods, ({ memoryMiB }) => memoryMiB);
/** MiB that the kubelet has allocated to a Pod and will not take back: a Pod may have been asked to become smaller. */
const lastingMiB = ({ allocatedMiB, memoryMiB }: ReserveView): number => Math.min(allocatedMiB, memoryMiB);
export const allocated = (pods: readonly ReserveView[]): number => sum(pods, lastingMiB);
export const requestedMilliCPU = (pods: readonly ReserveView[]): number => sum(pods, ({ milliCPU }) => milliCPU);
/** Thousandths of a core that the kubelet has allocated to Pods and will not take back. */
export const allocatedMilliCPU = (pods: readonly ReserveView[]): number =>
  sum(pods, ({ allocatedMilliCPU: now, milliCPU }) => Math.min(now, milliCPU));

/** Whether the reservation is made of Pods of a step each: one that cannot be resized can only go as a whole. */
function isInSteps({ pods, resizesNoPod }: ReserveInput): boolean {
  return resizesNoPod === true || pods.some(({ canResize }) => canResize === false);
}

/** Milliseconds for which a step that the kubelet has not looked at holds up the next one; 0 for not at all. */
function oneByOneMs({ endedForMs, pods }: ReserveInput): number {
  return pods.some(({ state }) => state.kind === 'waiting') ? Math.max(0, ONE_BY_ONE_MS - endedForMs) : 0;
}

/** The action that asks for more, by as many MiB. */
function grow(input: ReserveInput, pods: readonly ReserveView[], byMiB: number): ReserveAction {
  const resizable = pods.find(({ canResize }) => canResize === true);
  if (resizable !== undefined) {
    return { kind: 'resize', name: resizable.name, memoryMiB: resizable.memoryMiB + byMiB };
  }
  const inSteps = isInSteps(input);
  // Whether its kubelet resizes Pods is known once the Pod runs.
  const isUnknown = inSteps ? oneByOneMs(input) > 0 : pods.some(({ canResize }) => canResize === undefined);
  const index = Array.from({ length: MAX_RESERVE_PODS }, (_, each) => each).find(
    (each) => !input.pods.some((pod) => pod.index === each),
  );
  return isUnknown || index === undefined
    ? nothing
    : { kind: 'create', index, memoryMiB: inSteps ? Math.min(byMiB, input.stepMiB) : byMiB };
}

/**
 * Whole Pods of as many MiB together at most, the largest first; of these, Pods that nothing is allocated to, those whose
 * CPU is not wanted, and then those with the least of it.
 */
function findSpare(pods: readonly ReserveView[], byMiB: number, wantedMilliCPU: number): readonly ReserveView[] {
  const spare: ReserveView[] = [];
  let leftMiB = byMiB;
  let leftMilliCPU = requestedMilliCPU(pods) - wantedMilliCPU;
  const take = (may: (pod: ReserveView) => boolean, first: (a: ReserveView, b: ReserveView) => number): void => {
    for (const pod of pods.toSorted((a, b) => b.memoryMiB - a.memoryMiB || first(a, b))) {
      const fits = pod.memoryMiB <= leftMiB && may(pod);
      if (fits && !spare.includes(pod)) {
        spare.push(pod);
        leftMiB -= pod.memoryMiB;
        leftMilliCPU -= pod.milliCPU;
      }
    }
  };
  const leastFirst = (a: ReserveView, b: ReserveView): number => a.milliCPU - b.milliCPU;
  take(({ state }) => state.kind === 'waiting', leastFirst);
  take(
    ({ milliCPU }) => milliCPU <= leftMilliCPU,
    (a, b) => leastFirst(b, a),
  );
  take(() => true, leastFirst);
  return spare;
}

/** The next action where as many MiB less are wanted, and the MiB that stay allocated after all of them. */
function shrink(
  pods: readonly ReserveView[],
  byMiB: number,
  wantedMilliCPU: number,
): { readonly action: ReserveAction; readonly leftMiB: number } {
  const gone = findSpare(pods, byMiB, wantedMilliCPU);
  const kept = pods.filter((pod) => !gone.includes(pod));
  const [first] = gone;
  if (first !== undefined) {
    return { action: { kind: 'remove', name: first.name, because: 'less is wanted' }, leftMiB: allocated(kept) };
  }
  const resizable = kept.find(({ canResize }) => canResize === true);
  if (resizable === undefined) {
    return { action: nothing, leftMiB: allocated(kept) };
  }
  const { name } = resizable;
  const memoryMiB = resizable.memoryMiB - byMiB;
  const resized = kept.map((pod) => (pod.name === name ? { ...pod, memoryMiB } : pod));
  return { action: { kind: 'resize', name, memoryMiB }, leftMiB: allocated(resized) };
}

/** Less is wanted: the promise leads, and the reservation follows once the agent has taken it in. */
function decideLess(input: ReserveInput, pods: readonly ReserveView[], byMiB: number): ReserveDecision {
  const againAfterMs = Math.max(SHRINK_AFTER_MS - input.lowerForMs, HEARD_WITHIN_MS - input.raisedForMs);
  if (againAfterMs > 0) {
    return { action: nothing, promiseMiB: allocated(pods), againAfterMs };
  }
  const { action, leftMiB: promiseMiB } = shrink(pods, byMiB, input.wantedMilliCPU);
  const isTakenIn = input.promisedMiB <= promiseMiB || input.lost;
  return { action: isTakenIn ? action : nothing, promiseMiB };
}

/** The removal of a Pod that is to go in any case. */
function findUnwanted({ pods, exists, isEmpty, endedForMs, replaceAfterMs }: ReserveInput): ReserveAction | undefined {
  const pod = pods.find(({ state }) => state.kind !== 'leaving');
  if (pod !== undefined && (!exists || isEmpty)) {
    return { kind: 'remove', name: pod.name, because: 'its node has no workers' };
  }
  const ended = pods.find(({ state }) => state.kind === 'ended');
  return ended !== undefined && endedForMs >= replaceAfterMs
    ? { kind: 'remove', name: ended.name, because: refusalOf(ended) ?? 'it has ended' }
    : undefined;
}

function refusalOf({ state, deferral }: ReserveView): string | undefined {
  return state.kind === 'ended' ? state.refusal : deferral;
}

function mayGrow({ exists, isDraining, lost, retired, yieldsForMs }: ReserveInput): boolean {
  return exists && !lost && !retired && !isDraining && yieldsForMs <= 0;
}

/**
 * Decision with the change of CPU that is due. No worker waits for CPU, so that no promise leads or follows: CPU goes
 * along with a change of memory, or changes alone in a Pod that can be resized.
 */
function withCPU(decision: ReserveDecision, input: ReserveInput, pods: readonly ReserveView[]): ReserveDecision {
  const { action } = decision;
  const byMilli = input.wantedMilliCPU - requestedMilliCPU(pods);
  const leftMs = byMilli < 0 ? SHRINK_AFTER_MS - input.lowerCPUForMs : 0;
  if (leftMs > 0) {
    return { ...decision, againAfterMs: Math.min(leftMs, decision.againAfterMs ?? leftMs) };
  }
  if (byMilli === 0) {
    return decision;
  }
  const isCreated = action.kind === 'create';
  if (isCreated) {
    // Of several Pods that are to come, each has its part.
    const part = action.memoryMiB / Math.max(action.memoryMiB, input.wantedMiB - requestedMiB(pods));
    return byMilli > 0 ? { ...decision, action: { ...action, milliCPU: Math.ceil(byMilli * part) } } : decision;
  }
  const isAlone = action.kind === 'nothing' && (byMilli < 0 || mayGrow(input));
  const [largest] = pods
    .filter(({ canResize }) => isAlone && canResize === true)
    .toSorted((a, b) => b.milliCPU - a.milliCPU);
  const pod = action.kind === 'resize' ? pods.find(({ name }) => name === action.name) : largest;
  if (pod === undefined) {
    return decision;
  }
  const { name, memoryMiB } = action.kind === 'resize' ? action : pod;
  const milliCPU = Math.max(0, pod.milliCPU + byMilli);
  return { ...decision, action: { kind: 'resize', name, memoryMiB, milliCPU } };
}

/**
 * The action for the reservation of one node, and what may be promised of it. In a steady state there is no action.
 */
export function decideReserve(input: ReserveInput): ReserveDecision {
  const { image, wantedMiB } = input;
  const pods = input.pods.filter(({ state }) => state.kind === 'waiting' || state.kind === 'held');
  const promiseMiB = allocated(pods);
  const refusal = promiseMiB < wantedMiB ? input.pods.map(refusalOf).find((one) => one !== undefined) : undefined;
  const unwanted = findUnwanted(input);
  if (unwanted !== undefined) {
    return { action: unwanted, promiseMiB: input.isEmpty || !input.exists ? 0 : promiseMiB, refusal };
  }
  const earlier = pods.find((pod) => pod.image !== image);
  if (earlier !== undefined) {
    return { action: { kind: 'renewImage', name: earlier.name, image }, promiseMiB, refusal };
  }
  const lessBy = requestedMiB(pods) - wantedMiB;
  if (lessBy > 0) {
    return withCPU(decideLess(input, pods, lessBy), input, pods);
  }
  // The name of one that leaves is not free yet; where there are several, the next Pod has another.
  const isHeldUp = input.pods.some(
    ({ state }) => state.kind === 'ended' || (state.kind === 'leaving' && !isInSteps(input)),
  );
  const action = lessBy === 0 || isHeldUp || !mayGrow(input) ? nothing : grow(input, pods, -lessBy);
  const waits = [
    ...(input.pods.some(({ state }) => state.kind === 'ended') ? [input.replaceAfterMs - input.endedForMs] : []),
    ...(input.yieldsForMs > 0 ? [input.yieldsForMs] : []),
    ...(lessBy < 0 && isInSteps(input) && oneByOneMs(input) > 0 ? [oneByOneMs(input)] : []),
  ];
  const decision = { action, promiseMiB, refusal, ...(waits.length === 0 ? {} : { againAfterMs: Math.min(...waits) }) };
  return withCPU(decision, input, pods);
}
