import { parseQuantity, quantityToMilli } from '../../src/api/quantity.ts';
import { type Taint, taintVerdict } from '../../src/controller/scheduling/taint.ts';
import type { Node, Pod } from '../../src/kube/api/resource-types.ts';

// The rules by which autoscalers add and remove nodes, written from their sources.

/** A node with the Pods on it. */
export interface FilledNode {
  readonly node: Node;
  readonly pods: readonly Pod[];
}

type Amount = (pod: Pod) => number;

const memoryOf: Amount = ({ spec }) =>
  (spec?.containers ?? []).reduce(
    (sum, { resources }) => sum + (parseQuantity(resources?.requests?.memory ?? 0) ?? 0),
    0,
  );
const milliOf: Amount = ({ spec }) =>
  (spec?.containers ?? []).reduce((sum, { resources }) => sum + (quantityToMilli(resources?.requests?.cpu) ?? 0), 0);
const sum = (pods: readonly Pod[], amount: Amount): number => pods.reduce((total, pod) => total + amount(pod), 0);
const allocatableOf = ({ status }: Node) => ({
  memory: parseQuantity(status?.allocatable?.memory ?? 0) ?? 0,
  milli: quantityToMilli(status?.allocatable?.cpu) ?? 0,
});

const isTerminal = ({ status }: Pod): boolean => status?.phase === 'Failed' || status?.phase === 'Succeeded';
const isOwnedBy = ({ metadata }: Pod, kinds: readonly string[]): boolean =>
  metadata.ownerReferences?.some(({ kind }) => kinds.includes(kind)) === true;
/** Pods that come with a node, and go with it. */
const isOfNode = (pod: Pod): boolean => isOwnedBy(pod, ['DaemonSet', 'Node']);
const isUnschedulable = ({ status }: Pod): boolean =>
  status?.conditions?.some(({ type, reason }) => type === 'PodScheduled' && reason === 'Unschedulable') === true;

function matchesTerms({ spec }: Pod, labels: Readonly<Record<string, string>>): boolean {
  const terms = spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  return (
    terms?.some(({ matchExpressions, matchFields }) =>
      [...(matchExpressions ?? []), ...(matchFields ?? [])].every(({ key, operator, values = [] }) =>
        operator === 'NotIn' ? !values.includes(labels[key] ?? '') : values.includes(labels[key] ?? ''),
      ),
    ) ?? true
  );
}

/**
 * Kube-scheduler v1.37, `pkg/scheduler/framework/plugins`: noderesources, nodeaffinity, tainttoleration. Both autoscalers
 * ask it whether a Pod fits on a node; one that is to be moved has no node of its own then.
 */
export function fits(pod: Pod, { node, pods }: FilledNode): boolean {
  const labels = node.metadata.labels ?? {};
  const { memory, milli } = allocatableOf(node);
  const there = pods.filter((one) => !isTerminal(one));
  return (
    taintVerdict(node.spec?.taints ?? [], (pod.spec?.tolerations ?? []) as never) !== 'barred' &&
    Object.entries(pod.spec?.nodeSelector ?? {}).every(([key, value]) => labels[key] === value) &&
    matchesTerms(pod, { ...labels, 'metadata.name': node.metadata.name }) &&
    sum(there, memoryOf) + memoryOf(pod) <= memory &&
    sum(there, milliOf) + milliOf(pod) <= milli
  );
}

/** The nodes with the Pods placed on the first that each fits on; undefined where one fits on none. */
function placed(pods: readonly Pod[], nodes: readonly FilledNode[]): readonly FilledNode[] | undefined {
  let filled = nodes;
  for (const pod of pods) {
    const found = filled.find((one) => fits(pod, one));
    if (found === undefined) {
      return undefined;
    }
    filled = filled.map((one) => (one === found ? { ...one, pods: [...one.pods, pod] } : one));
  }
  return filled;
}

/** How many nodes like this one Pods need that no node has room for: the largest first, each on the first that it fits. */
function nodesNeeded(pods: readonly Pod[], template: Node): number {
  let added: readonly FilledNode[] = [];
  for (const pod of pods.toSorted((a, b) => memoryOf(b) - memoryOf(a))) {
    added = placed([pod], added) ?? placed([pod], [...added, { node: template, pods: [] }]) ?? added;
  }
  return added.length;
}

/**
 * Karpenter 2266468, `pkg/utils/pod/scheduling.go`: IsEvictable, IsDisruptable, IsReschedulable, IsWaitingEviction,
 * IsDrainable, IsStuckTerminating, IsProvisionable;
 * `pkg/controllers/provisioning/provisioner.go`: validateNodeSelectorTerm;
 * `pkg/controllers/disruption/emptiness.go`: ShouldDisrupt; `consolidation.go`: computeConsolidation, with no
 * replacement.
 */
export const karpenter = {
  taint: { key: 'karpenter.sh/disrupted', effect: 'NoSchedule' } as Taint,
  toleratesDisruption: (pod: Pod) => taintVerdict([karpenter.taint], (pod.spec?.tolerations ?? []) as never) === 'free',
  isActive: (pod: Pod) => !isTerminal(pod) && pod.metadata.deletionTimestamp === undefined,
  isDisruptable: (pod: Pod) =>
    !karpenter.isActive(pod) || pod.metadata.annotations?.['karpenter.sh/do-not-disrupt'] !== 'true',
  isEvictable: (pod: Pod) =>
    karpenter.isActive(pod) &&
    !karpenter.toleratesDisruption(pod) &&
    !isOwnedBy(pod, ['Node']) &&
    karpenter.isDisruptable(pod),
  isStuckTerminating: ({ metadata }: Pod, now: number) =>
    metadata.deletionTimestamp !== undefined && now - Date.parse(metadata.deletionTimestamp) > 60_000,
  isWaitedFor: (pod: Pod, now: number) =>
    !isTerminal(pod) &&
    !karpenter.toleratesDisruption(pod) &&
    !karpenter.isStuckTerminating(pod, now) &&
    !isOwnedBy(pod, ['Node']),
  isProvisionable: (pod: Pod) =>
    isUnschedulable(pod) &&
    pod.spec?.nodeName === undefined &&
    pod.status?.nominatedNodeName === undefined &&
    !isOfNode(pod) &&
    karpenter.isMovable(pod),
  /** Whether a simulation may find it another node. */
  isMovable: ({ spec }: Pod) =>
    spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms.some(
      ({ matchFields }) => matchFields !== undefined,
    ) !== true,
  /** The Pods of a node that need another one where it goes. */
  podsToMove: (pods: readonly Pod[]) => pods.filter((pod) => karpenter.isActive(pod) && !isOfNode(pod)),
  /** Nodes that are added for Pods, each like this one. */
  adds: (pods: readonly Pod[], template: Node) => nodesNeeded(pods.filter(karpenter.isProvisionable), template),
  /** Whether the node is removed, since it is empty or the others have room for its Pods. */
  removes: ({ pods }: FilledNode, others: readonly FilledNode[]) => {
    const moved = karpenter.podsToMove(pods);
    const mayMove = pods.every((pod) => karpenter.isDisruptable(pod)) && moved.every(karpenter.isMovable);
    return mayMove && placed(moved, others) !== undefined;
  },
} as const;

/** `cluster-autoscaler/config/flags/flags.go`: the defaults. */
const flags = { scaleDownUtilizationThreshold: 0.5, expendablePodsPriorityCutoff: -10 } as const;

/** `simulator/drainability/rules/replicated/rule.go`. */
const replicatedKinds: readonly string[] = ['ReplicationController', 'ReplicaSet', 'Job', 'StatefulSet'];

/**
 * Cluster-autoscaler 55c37cd. `cluster-autoscaler/FAQ.md`: "What types of pods can prevent CA from removing a node?",
 * "Does CA respect GracefulTermination in scale-down?";
 * `simulator/drainability/rules`: daemonset, mirror, terminal, safetoevict, replicated with
 * `skip-nodes-with-custom-controller-pods`, which is true by default, system, notsafetoevict, localstorage;
 * `simulator/cluster.go`: SimulateNodeRemoval, FindEmptyNodesToRemove;
 * `simulator/utilization/info.go`: Calculate; `core/scaledown/eligibility`: isNodeBelowUtilizationThreshold;
 * `utils/kubernetes/listers.go`: UnschedulablePodLister; `core/utils/expendable.go`: FilterOutExpendableAndSplit;
 * `estimator/binpacking_estimator.go`: Estimate.
 */
export const clusterAutoscaler = {
  taint: { key: 'ToBeDeletedByClusterAutoscaler', effect: 'NoSchedule' } as Taint,
  maxGracefulTerminationSeconds: 600,
  isProvisionable: (pod: Pod) =>
    isUnschedulable(pod) &&
    pod.spec?.nodeName === undefined &&
    pod.status?.nominatedNodeName === undefined &&
    !isTerminal(pod) &&
    (pod.spec?.priority ?? 0) >= flags.expendablePodsPriorityCutoff,
  isMovable({ metadata, spec }: Pod): boolean {
    const annotation = metadata.annotations?.['cluster-autoscaler.kubernetes.io/safe-to-evict'];
    const owner = metadata.ownerReferences?.find(({ controller }) => controller === true);
    const isBacked = owner !== undefined && replicatedKinds.includes(owner.kind);
    const hasLocalStorage = spec?.volumes?.some(({ hostPath, emptyDir }) => hostPath ?? emptyDir) === true;
    return (
      annotation === 'true' ||
      (annotation !== 'false' && isBacked && !hasLocalStorage && metadata.namespace !== 'kube-system')
    );
  },
  /** The Pods of a node that need another one where it goes. */
  podsToMove: (pods: readonly Pod[]) => pods.filter((pod) => !isTerminal(pod) && !isOfNode(pod)),
  /** The part of the node that Pods ask for, those of DaemonSets among them. */
  utilization({ node, pods }: FilledNode): number {
    const { memory, milli } = allocatableOf(node);
    return Math.max(sum(pods, memoryOf) / memory, sum(pods, milliOf) / milli);
  },
  /** Nodes that are added for Pods, each like this one. */
  adds: (pods: readonly Pod[], template: Node) => nodesNeeded(pods.filter(clusterAutoscaler.isProvisionable), template),
  /** Whether the node is removed: hardly used, and the others have room for its Pods. */
  removes: (one: FilledNode, others: readonly FilledNode[]) => {
    const moved = clusterAutoscaler.podsToMove(one.pods);
    return (
      clusterAutoscaler.utilization(one) < flags.scaleDownUtilizationThreshold &&
      moved.every(clusterAutoscaler.isMovable) &&
      placed(moved, others) !== undefined
    );
  },
} as const;
