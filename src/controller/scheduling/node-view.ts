import { isTrue, nodeConditions } from '../../api/condition.ts';
import { isCordoned, isRetired, isTmpOnDisk, type LambdaNode, type NodeAmounts } from '../../api/lambda-node.ts';
import { quantityToMiB, quantityToMilli } from '../../api/quantity.ts';
import type { Node } from '../../kube/api/resource-types.ts';
import { isSilent, type Liveness, type StayReason } from '../nodes/liveness.ts';
import type { Closure } from './place.ts';
import { departureTaints, OUT_OF_SERVICE_TAINT, type Taint, UNSCHEDULABLE_TAINT } from './taint.ts';

const none = { memoryMiB: 0, milliCPU: 0, workers: 0 } as const;
/** Label by which the kubelet tells the processor of its Node. */
export const ARCHITECTURE_LABEL = 'kubernetes.io/arch';
/** MiB that guard and reservation of a node take themselves. */
const OWN_PODS_MIB = 8;

/**
 * Whether a Node was deleted. An agent reports the cordon only while there is a Node, and a live agent soon reports its
 * absence.
 */
export function isNodeDeleted(lambdaNode: LambdaNode, node: Node | undefined, isFresh: boolean): boolean {
  return node === undefined && lambdaNode.status?.unschedulable !== undefined && !isFresh;
}

/**
 * The reason why a node will never come back with its workers; undefined while it may.
 *
 * @param isFresh whether its agent was heard lately
 */
export function goneBecause(
  lambdaNode: LambdaNode | undefined,
  node: Node | undefined,
  isFresh: boolean,
): string | undefined {
  if (lambdaNode === undefined) {
    return 'its LambdaNode was deleted';
  }
  if (isNodeDeleted(lambdaNode, node, isFresh)) {
    return 'its Node was deleted';
  }
  // A live agent can still clean up; with a silent one, the taint is an administrator's word that the node is off.
  if (!isFresh && node?.spec?.taints?.some((taint) => taint.key === OUT_OF_SERVICE_TAINT) === true) {
    return `its Node carries the taint ${OUT_OF_SERVICE_TAINT}`;
  }
  return undefined;
}

/** Whether the Node itself is closed to new workers; its agent reports that a little later. */
export function isNodeCordoned(node: Node | undefined): boolean {
  return (
    node?.spec?.unschedulable === true || node?.spec?.taints?.some(({ key }) => key === UNSCHEDULABLE_TAINT) === true
  );
}

/** The taint by which a program announces that the node leaves the cluster; undefined while it stays. */
export function departureTaintOf(node: Node | undefined): string | undefined {
  return node?.spec?.taints?.find(({ key }) => departureTaints.includes(key))?.key;
}

/** The fields of a LambdaNode that placement depends on; equal for two versions without a relevant change. */
export function placementFingerprint(node: LambdaNode): string {
  return JSON.stringify([
    isTrue(node.status?.conditions, nodeConditions.ready),
    isCordoned(node),
    isRetired(node),
    node.metadata.labels ?? {},
    node.status?.versions?.architecture,
    node.status?.capacity ?? none,
    node.status?.ephemeralStorage?.medium,
    node.status?.ephemeralStorage?.capacityMiB,
    node.spec?.capacity ?? {},
  ]);
}

/** The fields of a Node that decisions depend on. */
export function nodeFingerprint(node: Node): string {
  return JSON.stringify([
    node.spec?.unschedulable === true,
    node.spec?.taints ?? [],
    node.metadata.labels ?? {},
    node.status?.allocatable?.memory,
    node.status?.allocatable?.cpu,
  ]);
}

/** The properties of a node that are the same for every worker. */
export interface NodeView {
  readonly name: string;
  /**
   * Labels for the choice of a node: those of its Node, which the agent cannot write. The agent's own labels count only
   * where there is no Node, as in a local instance.
   */
  readonly labels: Readonly<Record<string, string>>;
  readonly liveness: Liveness;
  readonly goneBecause: string | undefined;
  /** Reports itself ready, and is neither silent nor gone. */
  readonly ready: boolean;
  readonly closed: Closure | undefined;
  /** Taints that workers may tolerate. */
  readonly taints: readonly Taint[];
  /** The promise that the agent reports, at most what its Node has for Pods and the wish of its owner. */
  readonly capacity: NodeAmounts;
  /** Promised amounts, as the node reports. */
  readonly said: Omit<NodeAmounts, 'milliCPU'>;
  /** Room for `/tmp` on disk; undefined where that is memory. */
  readonly disk: { readonly capacityMiB: number; readonly saidMiB: number } | undefined;
  readonly images: ReadonlySet<string>;
  /** The processor, as images name it: by the Node, or where there is none by the agent. */
  readonly architecture: string | undefined;
}

/** The sources of a view. */
export interface NodeFacts {
  readonly lambdaNode: LambdaNode | undefined;
  readonly node: Node | undefined;
  readonly liveness: Liveness;
  readonly closure: Closure | undefined;
}

function closedBy({ lambdaNode, node, closure }: NodeFacts): Closure | undefined {
  if (lambdaNode !== undefined && isRetired(lambdaNode)) {
    return 'retired';
  }
  if (closure === 'draining' || departureTaintOf(node) !== undefined) {
    return 'draining';
  }
  return (lambdaNode !== undefined && isCordoned(lambdaNode)) || isNodeCordoned(node) ? 'cordoned' : closure;
}

function diskOf(lambdaNode: LambdaNode | undefined): NodeView['disk'] {
  const { allocatedMiB = 0, capacityMiB = 0 } = lambdaNode?.status?.ephemeralStorage ?? {};
  return isTmpOnDisk(lambdaNode) ? { capacityMiB, saidMiB: allocatedMiB } : undefined;
}

export function nodeView(name: string, facts: NodeFacts): NodeView {
  const { lambdaNode, node, liveness } = facts;
  const because = goneBecause(lambdaNode, node, liveness === 'fresh');
  const { memoryMiB, milliCPU, workers }: NodeAmounts = lambdaNode?.status?.capacity ?? none;
  const forPodsMilli = quantityToMilli(node?.status?.allocatable?.cpu) ?? Number.POSITIVE_INFINITY;
  const forPodsMiB = quantityToMiB(node?.status?.allocatable?.memory, Number.POSITIVE_INFINITY);
  const most = Math.max(0, forPodsMiB - OWN_PODS_MIB);
  const wished = lambdaNode?.spec?.capacity;
  return {
    name,
    labels: (node ?? lambdaNode)?.metadata.labels ?? {},
    liveness,
    goneBecause: because,
    ready:
      isTrue(lambdaNode?.status?.conditions, nodeConditions.ready) &&
      !isSilent(liveness) &&
      because === undefined &&
      lambdaNode?.metadata.deletionTimestamp === undefined,
    closed: closedBy(facts),
    taints: (node?.spec?.taints ?? []).filter(({ key }) => key !== UNSCHEDULABLE_TAINT),
    capacity: {
      memoryMiB: Math.min(memoryMiB, most, wished?.memoryMiB ?? most),
      workers: Math.min(workers, wished?.workers ?? workers),
      milliCPU: Math.min(milliCPU, forPodsMilli, wished?.milliCPU ?? milliCPU),
    },
    said: lambdaNode?.status?.allocated ?? none,
    disk: diskOf(lambdaNode),
    images: new Set(lambdaNode?.status?.images),
    architecture: node?.metadata.labels?.[ARCHITECTURE_LABEL] ?? lambdaNode?.status?.versions?.architecture,
  };
}

/** The state of the node that a worker is assigned to. */
export interface NodeStanding {
  readonly liveness: Liveness;
  /** Why the workers of an unreachable node stay; absent where an earlier leader has found the node lost. */
  readonly stays?: StayReason | undefined;
  /** Why the node never comes back, as a clause ("its LambdaNode was deleted"); absent while it may. */
  readonly goneBecause?: string | undefined;
  /** The processor of the node, where known. */
  readonly architecture?: string | undefined;
  /** Whether the node is about to have more memory for its workers than now. */
  readonly growing?: boolean;
  /** The reason why the worker has to leave a healthy node; absent while it may stay. */
  readonly leave?: Leave | undefined;
}

/** The reason why a worker has to leave a healthy node. */
export type Leave =
  /** ESB leaves the node: a worker that fits nowhere else is taken away. */
  | { readonly kind: 'retired' }
  /** The Node has a taint of effect NoExecute that the worker does not tolerate: the same holds. */
  | { readonly kind: 'tainted'; readonly taint: string }
  /** The node is being drained: a worker that fits nowhere else stays until it does. */
  | { readonly kind: 'draining' };

/** The first minor version of Kubernetes 1 whose kubelets resize Pods in place without a feature gate. */
const FIRST_TO_RESIZE = 33;

/** Whether the kubelet of a Node says a version that resizes no Pod. */
export function resizesNoPod(node: Node | undefined): boolean {
  const minor = /^v1\.(\d+)\./.exec(node?.status?.nodeInfo?.kubeletVersion ?? '')?.[1];
  return minor !== undefined && Number(minor) < FIRST_TO_RESIZE;
}
