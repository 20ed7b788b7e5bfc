import {
  type AnyToleration,
  departureTaints,
  OUT_OF_SERVICE_TAINT,
  type Taint,
  toleratesForGood,
} from '../scheduling/taint.ts';

/** A toleration of a Pod. */
export interface Toleration {
  readonly key: string;
  readonly operator: 'Exists' | 'Equal';
  readonly value?: string;
  readonly effect?: string;
}

/**
 * Taints that Kubernetes itself puts on a node in trouble. Workers do not depend on the kubelet, and their node keeps
 * its Pods until their agent is silent. `node.kubernetes.io/out-of-service` is not among them: such a node is gone.
 *
 * Source: https://kubernetes.io/docs/reference/labels-annotations-taints/
 */
const troubles: readonly string[] = [
  'node.kubernetes.io/not-ready',
  'node.kubernetes.io/unreachable',
  'node.kubernetes.io/unschedulable',
  'node.kubernetes.io/memory-pressure',
  'node.kubernetes.io/disk-pressure',
  'node.kubernetes.io/pid-pressure',
  'node.kubernetes.io/network-unavailable',
];

/** Whether the taint says that its node leaves the cluster: no Pod of ours may tolerate such a taint. */
function isFarewell({ key }: Taint): boolean {
  return departureTaints.includes(key) || key === OUT_OF_SERVICE_TAINT;
}

/**
 * The tolerations of the Pods of a node: troubles of the node, and the taints that the node has now, each by its key,
 * value and effect. Never a taint of departure: an autoscaler waits only for Pods that do not tolerate its own.
 */
export function podTolerations(taints: readonly Taint[]): readonly Toleration[] {
  return [
    ...troubles.map((key) => ({ key, operator: 'Exists' }) as const),
    ...taints
      .filter((taint) => !isFarewell(taint) && !troubles.includes(taint.key))
      .map(({ key, value, effect }) =>
        value === undefined || value === ''
          ? ({ key, operator: 'Exists', effect } as const)
          : ({ key, operator: 'Equal', value, effect } as const),
      ),
  ];
}

/** Whether a taint of the node, other than one of departure, evicts a Pod that has these tolerations. */
export function isEvictedByTaint(taints: readonly Taint[], tolerations: readonly AnyToleration[]): boolean {
  return taints.some(
    (taint) => taint.effect === 'NoExecute' && !isFarewell(taint) && !toleratesForGood(taint, tolerations),
  );
}
