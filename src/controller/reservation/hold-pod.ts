import { createHash } from 'node:crypto';
import {
  type DEMAND_ROLE,
  GUARD_ROLE,
  HOLD_FINALIZER,
  HOLD_ROLE_LABEL,
  holdLabels,
  type LambdaNode,
  lambdaNodes,
  RESERVE_ROLE,
} from '../../api/lambda-node.ts';
import { parseQuantity, quantityToMiB, quantityToMilli } from '../../api/quantity.ts';
import { type Pod, type ServiceAccount, serviceAccounts } from '../../kube/api/resource-types.ts';
import type { Toleration } from './tolerations.ts';

export interface HoldSettings {
  readonly image: string;
  readonly pullPolicy: string;
  readonly priorityClassName?: string | undefined;
  /** Of demand Pods; without one there are none. */
  readonly demandClassName?: string | undefined;
}

/** Annotation of our Pods: the requested image, which admission webhooks may have replaced. */
const IMAGE_ANNOTATION = 'esb.dev/image';
/** Service account of guards, without rights; it brings the pull secrets of the image. */
const GUARD_ACCOUNT = 'esb-hold';
/** Service account of reservations, and their owner. */
export const RESERVE_ACCOUNT = 'esb-reserve';
const GUARD_PREFIX = 'esb-hold-';
const RESERVE_PREFIX = 'esb-reserve-';
/** Of further Pods of a reservation; no node's name makes a name of the first kind of it. */
const FURTHER_PREFIX = 'esb-reserve.';
const CONTAINER = 'hold';
const MAX_NAME_LENGTH = 253;
/** The init of the image, which also does nothing but wait: `guard` until it is killed, `reserve` until it is told. */
const PROGRAM = '/usr/lib/esb/init';
/** MiB that the process of a Pod may take itself. */
export const OWN_MIB = 4;
/**
 * Amounts by which limits exceed requests. A LimitRange of the namespace would fill in its own limits otherwise, which may
 * be less than a reservation asks for. Limits that are equal to requests would take processors of a static CPU manager.
 */
const LIMIT_MORE = { memoryMiB: 64, milliCPU: 100 };
const NO_MORE = { memoryMiB: 0, milliCPU: 0 };
/** Seconds; the Pod of a reservation ends at once when asked to. */
const RESERVE_GRACE_SECONDS = 5;
const USER_ID = 65_532;
const MIB = 2 ** 20;

/** Seconds by which the grace of a guard exceeds the longest call. */
const GRACE_MARGIN_SECONDS = 60;
/** Graces that guards have: a guard is made again for another one, and calls have all kinds of timeouts. */
const graceSteps: readonly number[] = [120, 360, 960];

/**
 * Seconds of grace of a guard: the longest timeout of the workers of its node and a minute, in one of few steps. Within
 * that time each call that is under way when the node is drained has its answer.
 */
export function guardGraceSeconds(longestTimeoutSeconds: number): number {
  const needed = longestTimeoutSeconds + GRACE_MARGIN_SECONDS;
  return graceSteps.find((step) => step >= needed) ?? needed;
}

/** One node, one name, so that two controllers can never create two. */
function podName(prefix: string, nodeName: string): string {
  const name = `${prefix}${nodeName}`;
  if (name.length <= MAX_NAME_LENGTH) {
    return name;
  }
  const digest = createHash('sha256').update(nodeName).digest('hex').slice(0, 16);
  return `${name.slice(0, MAX_NAME_LENGTH - digest.length - 1)}-${digest}`;
}

export function guardPodName(nodeName: string): string {
  return podName(GUARD_PREFIX, nodeName);
}

/** @param index 0 for the Pod of a reservation that the kubelet can resize; others are steps where it cannot */
export function reservePodName(nodeName: string, index = 0): string {
  return podName(index === 0 ? RESERVE_PREFIX : `${FURTHER_PREFIX}${index}.`, nodeName);
}

/** The place of a Pod in the reservation of its node; undefined for a Pod that is in none. */
function reserveIndexOf({ name }: Pod['metadata']): number | undefined {
  if (name.startsWith(RESERVE_PREFIX)) {
    return 0;
  }
  const index = /^esb-reserve\.(\d+)\./.exec(name)?.[1];
  return index === undefined ? undefined : Number(index);
}

/** The properties that a guard has to have. */
export interface GuardWish {
  readonly image: string;
  readonly graceSeconds: number;
}

/**
 * The Pod whose eviction is the drain of its node. So small that it fits anywhere, it is bound by `spec.nodeName`:
 * autoscalers take a node affinity to a node by name for a Pod that fits nowhere else, and then keep the node. Its
 * process ends by the kill after its grace, and its finalizer stays until the node has no workers: `kubectl drain`,
 * Karpenter and cluster-autoscaler wait for either by rules of their own.
 */
export function guardPod(
  settings: HoldSettings,
  node: LambdaNode,
  namespace: string,
  graceSeconds: number,
  tolerations: readonly Toleration[],
): Pod {
  const parts = { role: GUARD_ROLE, memoryMiB: OWN_MIB, graceSeconds, account: GUARD_ACCOUNT } as const;
  const pod = nodePod(settings, node, { ...parts, namespace, name: guardPodName(node.metadata.name) }, tolerations);
  return { ...pod, metadata: { ...pod.metadata, finalizers: [HOLD_FINALIZER] } };
}

/**
 * The Pod that asks for the memory and CPU of a node's workers, so that scheduler, kubelet and autoscalers count them.
 * The kubelet of the node decides whether they are free, as it does for a Pod that is resized.
 *
 * @param owner goes with the release, and Kubernetes removes the Pod with it
 */
export function reservePod(
  settings: HoldSettings,
  node: LambdaNode,
  namespace: string,
  { memoryMiB, milliCPU }: PodAmounts,
  tolerations: readonly Toleration[],
  owner: Owner | undefined,
  index = 0,
): Pod {
  const name = reservePodName(node.metadata.name, index);
  const asked = { role: RESERVE_ROLE, memoryMiB: memoryMiB + OWN_MIB, milliCPU } as const;
  const parts = { ...asked, namespace, name, graceSeconds: RESERVE_GRACE_SECONDS, account: RESERVE_ACCOUNT };
  const pod = nodePod(settings, node, parts, tolerations);
  return owner === undefined ? pod : ownedBy(pod, owner);
}

/** The owner of reservations. */
export type Owner = Pick<ServiceAccount, 'metadata'>;

/** The amounts that a Pod asks for. */
export interface PodAmounts {
  readonly memoryMiB: number;
  /** Thousandths of a core; absent for none. */
  readonly milliCPU?: number | undefined;
}

/** The differences between the Pods of the roles. */
export interface PodParts extends PodAmounts {
  readonly name: string;
  readonly namespace: string;
  readonly role: typeof GUARD_ROLE | typeof RESERVE_ROLE | typeof DEMAND_ROLE;
  readonly graceSeconds: number;
  readonly account: string;
  readonly priorityClassName: string | undefined;
  /** MiB of disk that it asks for; absent for none. */
  readonly diskMiB?: number;
}

/** As Kubernetes writes them. No CPU is told as well: the default of a namespace would be filled in. */
function amountsOf({ memoryMiB, milliCPU = 0, diskMiB }: PodAmounts & Pick<PodParts, 'diskMiB'>, more = NO_MORE) {
  return {
    memory: `${memoryMiB + more.memoryMiB}Mi`,
    cpu: `${milliCPU + more.milliCPU}m`,
    ...(diskMiB === undefined ? {} : { 'ephemeral-storage': `${diskMiB + more.memoryMiB}Mi` }),
  };
}

/** A Pod that does nothing but ask for memory and CPU, on no node yet. */
export function idlePod(settings: HoldSettings, parts: PodParts): Pod {
  return {
    metadata: {
      name: parts.name,
      namespace: parts.namespace,
      labels: { ...holdLabels, [HOLD_ROLE_LABEL]: parts.role },
      annotations: {
        // Of the controllers of Pods, cluster-autoscaler knows those of Kubernetes alone, and keeps nodes for others.
        'cluster-autoscaler.kubernetes.io/safe-to-evict': 'true',
        [IMAGE_ANNOTATION]: settings.image,
      },
    },
    spec: {
      containers: [
        {
          name: CONTAINER,
          image: settings.image,
          imagePullPolicy: settings.pullPolicy,
          command: [PROGRAM],
          args: [parts.role === GUARD_ROLE ? GUARD_ROLE : RESERVE_ROLE],
          resources: { requests: amountsOf(parts), limits: amountsOf(parts, LIMIT_MORE) },
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
          },
        },
      ],
      serviceAccountName: parts.account,
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      priorityClassName: parts.priorityClassName,
      terminationGracePeriodSeconds: parts.graceSeconds,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: USER_ID,
        runAsGroup: USER_ID,
        seccompProfile: { type: 'RuntimeDefault' },
      },
    },
  };
}

/** A Pod of one node. */
function nodePod(
  settings: HoldSettings,
  node: LambdaNode,
  parts: Omit<PodParts, 'priorityClassName'>,
  tolerations: readonly Toleration[],
): Pod {
  const { name, uid = '' } = node.metadata;
  const { priorityClassName } = settings;
  const pod = idlePod(settings, { ...parts, priorityClassName });
  // `kubectl drain` refuses Pods without an owner that would create them again.
  const apiVersion = `${lambdaNodes.group}/${lambdaNodes.version}`;
  const ownerReferences = [{ apiVersion, kind: lambdaNodes.kind, name, uid, controller: true }];
  return {
    metadata: { ...pod.metadata, ownerReferences },
    spec: { ...pod.spec, containers: pod.spec?.containers ?? [], nodeName: name, tolerations: [...tolerations] },
  };
}

/** The Pod as one of the service account, which goes with the release. */
export function ownedBy(pod: Pod, owner: Owner): Pod {
  const { name, uid = '' } = owner.metadata;
  const ownerReferences = [{ apiVersion: 'v1', kind: serviceAccounts.kind, name, uid, controller: true }];
  return { ...pod, metadata: { ...pod.metadata, ownerReferences } };
}

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
  /** The requested image; of a Pod without that annotation, its image. */
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

export function stateOf(pod: Pod): HoldState {
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
    image: pod.metadata.annotations?.[IMAGE_ANNOTATION] ?? container?.image ?? '',
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

/** Asks the kubelet to allocate other amounts to a Pod, by its subresource `resize`. CPU stays where none is given. */
export function resizePatch(pod: Pod, { memoryMiB, milliCPU }: PodAmounts): readonly object[] {
  const index = pod.spec?.containers?.findIndex(({ name }) => name === CONTAINER) ?? 0;
  const path = `/spec/containers/${index}`;
  const limits = pod.spec?.containers?.[index]?.resources?.limits;
  const asked = { memoryMiB: memoryMiB + OWN_MIB, milliCPU: milliCPU ?? 0 };
  const higher = amountsOf(asked, LIMIT_MORE);
  // No limit can be taken off a Pod, and one that is lowered may restart its container.
  const isLow = (limit: number | undefined, wanted: number): boolean => limit !== undefined && limit < wanted;
  const raised = [
    ...(isLow(quantityToMiB(limits?.memory, Number.POSITIVE_INFINITY), asked.memoryMiB) ? (['memory'] as const) : []),
    ...(isLow(quantityToMilli(limits?.cpu), asked.milliCPU) ? (['cpu'] as const) : []),
  ];
  return [
    { op: 'test', path: '/metadata/uid', value: pod.metadata.uid },
    { op: 'test', path: `${path}/name`, value: CONTAINER },
    ...raised.map((name) => ({ op: 'replace', path: `${path}/resources/limits/${name}`, value: higher[name] })),
    // Also where there was none; no request can be taken off a Pod.
    ...(milliCPU === undefined ? [] : [{ op: 'add', path: `${path}/resources/requests/cpu`, value: `${milliCPU}m` }]),
    { op: 'replace', path: `${path}/resources/requests/memory`, value: `${memoryMiB + OWN_MIB}Mi` },
  ];
}

/** Puts another image into a running Pod of ours. Its memory stays reserved, unlike with a new Pod. */
export function imagePatch(pod: Pod, image: string): readonly object[] {
  const index = pod.spec?.containers?.findIndex(({ name }) => name === CONTAINER) ?? 0;
  const note =
    pod.metadata.annotations === undefined
      ? { op: 'add', path: '/metadata/annotations', value: { [IMAGE_ANNOTATION]: image } }
      : { op: 'add', path: `/metadata/annotations/${IMAGE_ANNOTATION.replace('/', '~1')}`, value: image };
  return [
    { op: 'test', path: '/metadata/uid', value: pod.metadata.uid },
    { op: 'test', path: `/spec/containers/${index}/name`, value: CONTAINER },
    note,
    { op: 'replace', path: `/spec/containers/${index}/image`, value: image },
  ];
}

/** Removes our finalizer from a Pod and leaves all others. */
export function releasePatch(pod: Pod): readonly object[] {
  const index = pod.metadata.finalizers?.indexOf(HOLD_FINALIZER) ?? 0;
  return [
    { op: 'test', path: '/metadata/uid', value: pod.metadata.uid },
    { op: 'test', path: `/metadata/finalizers/${index}`, value: HOLD_FINALIZER },
    { op: 'remove', path: `/metadata/finalizers/${index}` },
  ];
}
