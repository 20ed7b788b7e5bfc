import type { LambdaWorkerSpec } from '../../api/lambda-worker.ts';
import type { Node } from '../../kube/api/resource-types.ts';

/** One taint of a Node. */
export type Taint = NonNullable<NonNullable<Node['spec']>['taints']>[number];
/** The tolerations of a worker. */
export type Tolerations = NonNullable<LambdaWorkerSpec['tolerations']>;
/** A toleration of a worker or a Pod. */
export interface AnyToleration {
  readonly key?: string | undefined;
  readonly operator?: string | undefined;
  readonly value?: string | undefined;
  readonly effect?: string | undefined;
  readonly tolerationSeconds?: number | undefined;
}

/** Taint by which Kubernetes says that a node is shut down and will not come back with its containers. */
export const OUT_OF_SERVICE_TAINT = 'node.kubernetes.io/out-of-service';
/** Taint of a cordoned Node. Tolerating it does not lift the cordon, which only DaemonSets ignore. */
export const UNSCHEDULABLE_TAINT = 'node.kubernetes.io/unschedulable';

/**
 * Taints by which programs announce that a node leaves the cluster. Workers leave such a node, as they do when it is
 * drained:
 * - cluster-autoscaler, `utils/taints`: `ToBeDeletedByClusterAutoscaler`;
 * - Karpenter, `pkg/apis/v1/taints.go`: `karpenter.sh/disrupted`, before version 1 `karpenter.sh/disruption`;
 * - aws-node-termination-handler, `pkg/node/node.go`: `aws-node-termination-handler/*`;
 * - GKE, "Graceful termination of Spot VMs": `cloud.google.com/impending-node-termination`.
 *
 * `DeletionCandidateOfClusterAutoscaler` is none: most candidates stay.
 */
export const departureTaints: readonly string[] = [
  'ToBeDeletedByClusterAutoscaler',
  'karpenter.sh/disrupted',
  'karpenter.sh/disruption',
  'aws-node-termination-handler/asg-lifecycle-termination',
  'aws-node-termination-handler/rebalance-recommendation',
  'aws-node-termination-handler/scheduled-maintenance',
  'aws-node-termination-handler/spot-itn',
  'cloud.google.com/impending-node-termination',
];

/**
 * Taints of a node whose kubelet is silent. Workers do not depend on the kubelet: the Lease of the agent says whether
 * the node lives, so that these taints evict no worker.
 */
const kubeletTaints: readonly string[] = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'];

/** The usual text of a taint: `key=value:effect`. */
export function taintText({ key, value, effect }: Taint): string {
  return `${key}${value === undefined || value === '' ? '' : `=${value}`}:${effect}`;
}

/** Whether the taint is tolerated, by the rules of Kubernetes for Pods. */
function isTolerated(taint: Taint, toleration: AnyToleration): boolean {
  const { key = '', operator, value = '', effect = '' } = toleration;
  if ((effect !== '' && effect !== taint.effect) || (key !== '' && key !== taint.key)) {
    return false;
  }
  return operator === 'Exists' || (key !== '' && value === (taint.value ?? ''));
}

/** Whether the taint is tolerated without an end, so that a Pod or a worker with these tolerations stays. */
export function toleratesForGood(taint: Taint, tolerations: readonly AnyToleration[]): boolean {
  const used = tolerations.filter((toleration) => isTolerated(taint, toleration));
  return used.length > 0 && used.every(({ tolerationSeconds }) => tolerationSeconds === undefined);
}

/** The verdict of a node's taints on the placement of one worker. */
export type TaintVerdict = 'free' | 'discouraged' | 'barred';

/** Whether a worker may be placed on a node with these taints, or better elsewhere. */
export function taintVerdict(taints: readonly Taint[], tolerations: Tolerations): TaintVerdict {
  let verdict: TaintVerdict = 'free';
  for (const taint of taints) {
    if (tolerations.some((toleration) => isTolerated(taint, toleration))) {
      continue;
    }
    if (taint.effect !== 'PreferNoSchedule') {
      return 'barred';
    }
    verdict = 'discouraged';
  }
  return verdict;
}

/** A taint that evicts a worker. */
export interface Eviction {
  readonly taint: Taint;
  /** Milliseconds until then; at most 0 for now. */
  readonly inMs: number;
}

/**
 * The taint of effect NoExecute that evicts a worker first, if any.
 *
 * @param sinceMs milliseconds since the taint was first seen
 */
export function evictionBy(
  taints: readonly Taint[],
  tolerations: Tolerations,
  sinceMs: (taint: Taint) => number,
): Eviction | undefined {
  let first: Eviction | undefined;
  for (const taint of taints) {
    const isHeeded = taint.effect === 'NoExecute' && !kubeletTaints.includes(taint.key);
    if (!isHeeded || toleratesForGood(taint, tolerations)) {
      continue;
    }
    // As in Kubernetes, the shortest given time counts, and a toleration without a time lifts no other.
    const seconds = tolerations
      .filter((toleration) => isTolerated(taint, toleration))
      .flatMap(({ tolerationSeconds }) => tolerationSeconds ?? []);
    const inMs = seconds.length === 0 ? 0 : Math.max(0, Math.min(...seconds)) * 1000 - sinceMs(taint);
    if (first === undefined || inMs < first.inMs) {
      first = { taint, inMs };
    }
  }
  return first;
}
