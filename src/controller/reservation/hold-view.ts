import { DEMAND_ROLE, HOLD_FINALIZER, HOLD_ROLE_LABEL, type LambdaNode, lambdaNodes } from '../../api/lambda-node.ts';
import { parseQuantity, quantityToMiB, quantityToMilli } from '../../api/quantity.ts';
import type { Pod } from '../../kube/api/resource-types.ts';
import { CONTAINER, IMAGE_ANNOTATION, OWN_MIB, RESERVE_PREFIX } from './hold-pod.ts';

const MIB = 2 ** 20;

/** The node of a Pod of ours; undefined for another Pod. */
export function holdNodeOf(pod: Pod): string | undefined {
  return pod.metadata.ownerReferences?.find(({ kind }) => kind === lambdaNodes.kind)?.name ?? pod.spec?.nodeName;
}

/** Whether the Pod was made for this LambdaNode, and not for one of its name that was deleted. */
export function isOwnedBy(pod: Pod, { metadata }: LambdaNode): boolean {
  return pod.metadata.ownerReferences?.find(({ kind }) => kind === lambdaNodes.kind)?.uid === metadata.uid;
}

/**
 * How a Pod of ours is doing:
 * - `waiting`: its kubelet has not looked at it;
 * - `held`: its node counts it;
 * - `ended`: it has ended for good, as the kubelet does when it evicts or refuses a Pod;
 * - `evicted`: somebody has deleted it, and waits until the node has no workers;
 * - `leaving`: it has no finalizer, and is being deleted.
 */
export type HoldState =
  | { readonly kind: 'waiting'; readonly refusal?: string }
  | { readonly kind: 'held' }
  | { readonly kind: 'ended'; readonly refusal: string }
  | { readonly kind: 'evicted' }
  | { readonly kind: 'leaving' };

/** The parts of a Pod of ours that decisions depend on. */
export interface HoldView {
  readonly state: HoldState;
  /** Whether the finalizer delays the deletion of the Pod. */
  readonly guarded: boolean;
  /** The requested image. */
  readonly image: string;
  readonly graceSeconds: number;
  /** MiB that it asks for, without its own. */
  readonly memoryMiB: number;
  /** Thousandths of a core that it asks for. */
  readonly milliCPU: number;
}

export function isGuarded(pod: Pod): boolean {
  return pod.metadata.finalizers?.includes(HOLD_FINALIZER) === true;
}

function stateOf(pod: Pod): HoldState {
  const { status } = pod;
  if (pod.metadata.deletionTimestamp !== undefined) {
    return { kind: isGuarded(pod) ? 'evicted' : 'leaving' };
  }
  if (status?.phase === 'Failed' || status?.phase === 'Succeeded') {
    return { kind: 'ended', refusal: status.message ?? status.reason ?? `it has ended (${status.phase})` };
  }
  // The time of the kubelet's first look. A Pod that it refuses has ended by then.
  return { kind: status?.startTime === undefined ? 'waiting' : 'held' };
}

export function holdView(pod: Pod): HoldView {
  const container = pod.spec?.containers?.find(({ name }) => name === CONTAINER);
  return {
    state: stateOf(pod),
    guarded: isGuarded(pod),
    image: pod.metadata.annotations?.[IMAGE_ANNOTATION] ?? '',
    graceSeconds: pod.spec?.terminationGracePeriodSeconds ?? 0,
    memoryMiB: Math.max(0, quantityToMiB(container?.resources?.requests?.memory, 0) - OWN_MIB),
    milliCPU: quantityToMilli(container?.resources?.requests?.cpu) ?? 0,
  };
}

/** One Pod of the reservation of a node. */
export interface ReserveView extends Pick<HoldView, 'state' | 'image' | 'memoryMiB' | 'milliCPU'> {
  readonly name: string;
  readonly index: number;
  /** MiB that the kubelet has allocated to it, without its own. */
  readonly allocatedMiB: number;
  /** Thousandths of a core, likewise. */
  readonly allocatedMilliCPU: number;
  /** Whether the kubelet has not enough CPU for what it asks for. */
  readonly lacksCPU: boolean;
  /** Whether its kubelet resizes Pods; undefined until the Pod runs. */
  readonly canResize: boolean | undefined;
  /** Why the kubelet has not allocated what is asked for. */
  readonly deferral: string | undefined;
  /** Whether the scheduler has taken its place for a Pod of higher priority. */
  readonly isPreempted: boolean;
}

/** Undefined for a Pod that is no reservation. */
export function reserveView(pod: Pod): ReserveView | undefined {
  const index = reserveIndexOf(pod.metadata);
  if (index === undefined) {
    return undefined;
  }
  const { state, image, memoryMiB, milliCPU } = holdView(pod);
  const running = pod.status?.containerStatuses?.find(({ name }) => name === CONTAINER);
  const told = running?.allocatedResources?.memory;
  const pending = pod.status?.conditions?.find(({ type, status }) => type === 'PodResizePending' && status === 'True');
  // A kubelet that does not tell what it has allocated resizes nothing: it has admitted what was asked for.
  const allocatedMiB =
    told === undefined ? memoryMiB : Math.max(0, Math.floor((parseQuantity(told) ?? 0) / MIB) - OWN_MIB);
  const toldMilliCPU = told === undefined ? milliCPU : (quantityToMilli(running?.allocatedResources?.cpu) ?? 0);
  const deferral =
    pending === undefined ? undefined : (pending.message ?? pending.reason ?? 'the kubelet has put off its resize');
  const isRunning = running?.state?.running !== undefined;
  return {
    name: pod.metadata.name,
    index,
    state,
    image,
    memoryMiB,
    milliCPU,
    allocatedMiB: state.kind === 'held' ? allocatedMiB : 0,
    allocatedMilliCPU: state.kind === 'held' ? toldMilliCPU : 0,
    // The kubelet names the first resource that it has too little of, and CPU is its first.
    lacksCPU: /\bcpu\b/i.test((state.kind === 'ended' ? state.refusal : deferral) ?? ''),
    canResize: isRunning ? told !== undefined : undefined,
    deferral,
    isPreempted:
      pod.status?.conditions?.some(
        ({ type, status, reason }) =>
          type === 'DisruptionTarget' && status === 'True' && reason === 'PreemptionByScheduler',
      ) === true,
  };
}

/** The place of a Pod in the reservation of its node; undefined for a Pod that is in none. */
function reserveIndexOf({ name }: Pod['metadata']): number | undefined {
  if (name.startsWith(RESERVE_PREFIX)) {
    return 0;
  }
  const index = /^esb-reserve\.(\d+)\./.exec(name)?.[1];
  return index === undefined ? undefined : Number(index);
}

/** A demand Pod as it is. */
export interface DemandView {
  readonly name: string;
  readonly group: string;
  readonly index: number;
  readonly state: HoldState;
  /** The node that the scheduler has found. */
  readonly nodeName: string | undefined;
}

/** Undefined for a Pod that is no demand. */
export function demandView(pod: Pod): DemandView | undefined {
  const [, group, index] = /^esb-demand-([0-9a-f]+)-(\d+)$/.exec(pod.metadata.name) ?? [];
  if (pod.metadata.labels?.[HOLD_ROLE_LABEL] !== DEMAND_ROLE || group === undefined) {
    return undefined;
  }
  const nodeName = pod.spec?.nodeName;
  return { name: pod.metadata.name, group, index: Number(index), state: stateOf(pod), nodeName };
}
