import type { LambdaWorkerSpec } from '../../api/lambda-worker.ts';
import type { Node } from '../../kube/api/resource-types.ts';

/** One taint of a Node. */
export type Taint = NonNullable<NonNullable<Node['spec']>['taints']>[number];
/** What a worker puts up with. */
export type Tolerations = NonNullable<LambdaWorkerSpec['tolerations']>;

/** Kubernetes' own word that a node is shut down and will not come back with what it had. */
export const OUT_OF_SERVICE_TAINT = 'node.kubernetes.io/out-of-service';
/** How a cordon shows among the taints. It is one whoever tolerates it, as for everything but DaemonSets. */
export const UNSCHEDULABLE_TAINT = 'node.kubernetes.io/unschedulable';

/**
 * What Kubernetes says of a node whose kubelet is silent. Workers are not the kubelet's: whether their node is alive is
 * told by the Lease of its agent, so that nothing is driven out by these.
 */
const kubeletTaints: readonly string[] = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'];

/** The text by which people know a taint: `key=value:effect`. */
export function taintText({ key, value, effect }: Taint): string {
  return `${key}${value === undefined || value === '' ? '' : `=${value}`}:${effect}`;
}

/** Whether the taint may be put up with, by the rules of Kubernetes for Pods. */
function isTolerated(taint: Taint, toleration: Tolerations[number]): boolean {
  const { key = '', operator, value = '', effect = '' } = toleration;
  if (effect !== '' && effect !== taint.effect) {
    return false;
  }
  if (key !== '' && key !== taint.key) {
    return false;
  }
  return operator === 'Exists' || (key !== '' && value === (taint.value ?? ''));
}

/** What taints of a node say about the placement of one worker. */
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

/** A taint that drives a worker out. */
export interface Eviction {
  readonly taint: Taint;
  /** Milliseconds until then; 0 and less is now. */
  readonly inMs: number;
}

/**
 * Which taint of effect NoExecute drives a worker out first, if any.
 *
 * @param sinceMs how many milliseconds ago the taint was first seen
 */
export function evictionBy(
  taints: readonly Taint[],
  tolerations: Tolerations,
  sinceMs: (taint: Taint) => number,
): Eviction | undefined {
  let first: Eviction | undefined;
  for (const taint of taints) {
    if (taint.effect !== 'NoExecute' || kubeletTaints.includes(taint.key)) {
      continue;
    }
    const used = tolerations.filter((toleration) => isTolerated(taint, toleration));
    // As in Kubernetes, the shortest time that is named counts, and a toleration without one lifts no other.
    const seconds = used.flatMap(({ tolerationSeconds }) => tolerationSeconds ?? []);
    if (used.length > 0 && seconds.length === 0) {
      continue;
    }
    const inMs = used.length === 0 ? 0 : Math.max(0, Math.min(...seconds)) * 1000 - sinceMs(taint);
    if (first === undefined || inMs < first.inMs) {
      first = { taint, inMs };
    }
  }
  return first;
}
