import { createHash } from 'node:crypto';
import {
  DEMAND_ROLE,
  GUARD_ROLE,
  HOLD_FINALIZER,
  HOLD_ROLE_LABEL,
  holdLabels,
  type LambdaNode,
  lambdaNodes,
  RESERVE_ROLE,
} from '../../api/lambda-node.ts';
import { type Pod, type ServiceAccount, serviceAccounts } from '../../kube/api/resource-types.ts';
import type { Homeless } from '../scheduling/homeless.ts';
import { ARCHITECTURE_LABEL } from '../scheduling/node-view.ts';
import type { Toleration } from './tolerations.ts';

export interface HoldSettings {
  readonly image: string;
  readonly pullPolicy: string;
  readonly priorityClassName?: string | undefined;
  /** Of demand Pods; without one there are none. */
  readonly demandClassName?: string | undefined;
}

/** Annotation of our Pods: the requested image, which admission webhooks may have replaced. */
export const IMAGE_ANNOTATION = 'esb.dev/image';
/** Service account of guards, without rights; it brings the pull secrets of the image. */
const GUARD_ACCOUNT = 'esb-hold';
/** Service account of reservations, and their owner. */
export const RESERVE_ACCOUNT = 'esb-reserve';
const GUARD_PREFIX = 'esb-hold-';
export const RESERVE_PREFIX = 'esb-reserve-';
/** Of further Pods of a reservation; no node's name makes a name of the first kind of it. */
const FURTHER_PREFIX = 'esb-reserve.';
const DEMAND_PREFIX = 'esb-demand-';
/** Label by which Kubernetes, and each autoscaler, tells nodes apart. */
export const HOST_LABEL = 'kubernetes.io/hostname';
/** Most nodes that a demand Pod may name, of those that it could be bound to otherwise. */
const MAX_EXCLUDED = 500;
export const CONTAINER = 'hold';
const MAX_NAME_LENGTH = 253;
/** The init of the image, which also does nothing but wait: `guard` until it is killed, `reserve` until it is told. */
const PROGRAM = '/usr/lib/esb/init';
/** MiB that the process of a Pod may take itself. */
export const OWN_MIB = 4;
/**
 * Amounts by which limits exceed requests. A LimitRange of the namespace would fill in its own limits otherwise, which may
 * be less than a reservation asks for. Limits that are equal to requests would take processors of a static CPU manager.
 */
export const LIMIT_MORE = { memoryMiB: 64, milliCPU: 100 };
const NO_MORE = { memoryMiB: 0, milliCPU: 0 };
/** Seconds; the Pod of a reservation ends at once when asked to. */
const RESERVE_GRACE_SECONDS = 5;
const DEMAND_GRACE_SECONDS = 1;
const USER_ID = 65_532;

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

/** The properties that a guard has to have. */
export interface GuardWish {
  readonly image: string;
  readonly graceSeconds: number;
}

/** The owner of reservations and demand Pods. */
export type Owner = Pick<ServiceAccount, 'metadata'>;

/** The amounts that a Pod asks for. */
export interface PodAmounts {
  readonly memoryMiB: number;
  /** Thousandths of a core; absent for none. */
  readonly milliCPU?: number | undefined;
}

/** A part of what homeless workers need, which one node has to have as a whole. */
export interface DemandPiece extends Homeless {
  /** Of the workers that ask for the same nodes. */
  readonly group: string;
  readonly index: number;
}

type PodSpec = NonNullable<Pod['spec']>;

/** The differences between the Pods of the roles. */
interface PodParts extends PodAmounts {
  readonly name: string;
  readonly namespace: string;
  readonly role: typeof GUARD_ROLE | typeof RESERVE_ROLE | typeof DEMAND_ROLE;
  readonly graceSeconds: number;
  readonly priorityClassName: string | undefined;
  /** MiB of disk that it asks for; 0 for none. */
  readonly diskMiB?: number;
  /** Fields that choose its node. */
  readonly placement: Pick<PodSpec, 'affinity' | 'nodeName' | 'nodeSelector' | 'tolerations'>;
}

/** Amounts as Kubernetes writes them. No CPU is told as well: the default of a namespace would be filled in. */
export function amountsOf(
  { memoryMiB, milliCPU = 0, diskMiB = 0 }: Pick<PodParts, 'diskMiB' | keyof PodAmounts>,
  more = NO_MORE,
) {
  return {
    memory: `${memoryMiB + more.memoryMiB}Mi`,
    cpu: `${milliCPU + more.milliCPU}m`,
    ...(diskMiB === 0 ? {} : { 'ephemeral-storage': `${diskMiB + more.memoryMiB}Mi` }),
  };
}

/** A Pod that does nothing but ask for memory and CPU. */
function heldPod(settings: HoldSettings, parts: PodParts): Pod {
  const { graceSeconds, name, namespace, placement, priorityClassName, role } = parts;
  return {
    metadata: {
      name,
      namespace,
      labels: { ...holdLabels, [HOLD_ROLE_LABEL]: role },
      annotations: {
        // Of the controllers of Pods, cluster-autoscaler knows those of Kubernetes alone, and keeps nodes for others.
        'cluster-autoscaler.kubernetes.io/safe-to-evict': 'true',
        [IMAGE_ANNOTATION]: settings.image,
      },
      ...(role === GUARD_ROLE ? { finalizers: [HOLD_FINALIZER] } : {}),
    },
    spec: {
      containers: [
        {
          name: CONTAINER,
          image: settings.image,
          imagePullPolicy: settings.pullPolicy,
          command: [PROGRAM],
          args: [role === GUARD_ROLE ? GUARD_ROLE : RESERVE_ROLE],
          resources: { requests: amountsOf(parts), limits: amountsOf(parts, LIMIT_MORE) },
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
          },
        },
      ],
      serviceAccountName: role === GUARD_ROLE ? GUARD_ACCOUNT : RESERVE_ACCOUNT,
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      priorityClassName,
      terminationGracePeriodSeconds: graceSeconds,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: USER_ID,
        runAsGroup: USER_ID,
        seccompProfile: { type: 'RuntimeDefault' },
      },
      ...placement,
    },
  };
}

/** A Pod that is bound to its node. `kubectl drain` refuses Pods without an owner that would create them again. */
function boundPod(settings: HoldSettings, { metadata }: LambdaNode, parts: Omit<PodParts, 'priorityClassName'>): Pod {
  const { name, uid = '' } = metadata;
  const { priorityClassName } = settings;
  const placement = { ...parts.placement, nodeName: name };
  const pod = heldPod(settings, { ...parts, placement, priorityClassName });
  return owned(pod, { apiVersion: `${lambdaNodes.group}/${lambdaNodes.version}`, kind: lambdaNodes.kind, name, uid });
}

function owned(pod: Pod, owner: { apiVersion: string; kind: string; name: string; uid: string }): Pod {
  return { ...pod, metadata: { ...pod.metadata, ownerReferences: [{ ...owner, controller: true }] } };
}

/** The Pod as one of the service account, which goes with the release: Kubernetes removes the Pod with it. */
export function ownedByAccount(pod: Pod, { metadata: { name, uid = '' } }: Owner): Pod {
  return owned(pod, { apiVersion: 'v1', kind: serviceAccounts.kind, name, uid });
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
  const name = guardPodName(node.metadata.name);
  const placement = { tolerations: [...tolerations] };
  return boundPod(settings, node, { name, namespace, role: GUARD_ROLE, memoryMiB: OWN_MIB, graceSeconds, placement });
}

/**
 * The Pod that asks for the memory and CPU of a node's workers, so that scheduler, kubelet and autoscalers count them.
 * The kubelet of the node decides whether they are free, as it does for a Pod that is resized.
 */
export function reservePod(
  settings: HoldSettings,
  node: LambdaNode,
  namespace: string,
  { memoryMiB, milliCPU }: PodAmounts,
  tolerations: readonly Toleration[],
  index = 0,
): Pod {
  return boundPod(settings, node, {
    name: reservePodName(node.metadata.name, index),
    namespace,
    role: RESERVE_ROLE,
    memoryMiB: memoryMiB + OWN_MIB,
    milliCPU,
    graceSeconds: RESERVE_GRACE_SECONDS,
    placement: { tolerations: [...tolerations] },
  });
}

/**
 * The Pod that asks for what homeless workers need, where they may be placed: the scheduler finds no node for it, and an
 * autoscaler adds one. No Pod is pushed away for it, and any other goes before.
 *
 * @param full host names of nodes that have no room for workers, although they may have room for Pods
 */
export function demandPod(settings: HoldSettings, piece: DemandPiece, namespace: string, full: readonly string[]): Pod {
  const matchExpressions = [
    { key: HOST_LABEL, operator: 'NotIn', values: full.toSorted().slice(0, MAX_EXCLUDED) },
    { key: ARCHITECTURE_LABEL, operator: 'NotIn', values: piece.unfitArchitectures.toSorted() },
  ].filter(({ values }) => values.length > 0);
  const nodeSelectorTerms = [{ matchExpressions }];
  const affinity = { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } } };
  return heldPod(settings, {
    name: `${DEMAND_PREFIX}${piece.group}-${piece.index}`,
    namespace,
    role: DEMAND_ROLE,
    memoryMiB: piece.memoryMiB + OWN_MIB,
    milliCPU: piece.milliCPU,
    diskMiB: piece.diskMiB,
    graceSeconds: DEMAND_GRACE_SECONDS,
    priorityClassName: settings.demandClassName,
    placement: {
      nodeSelector: { ...piece.nodeSelector },
      tolerations: [...piece.tolerations],
      ...(matchExpressions.length === 0 ? {} : { affinity }),
    },
  });
}
