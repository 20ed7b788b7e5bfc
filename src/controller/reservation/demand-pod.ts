import { DEMAND_ROLE, HOLD_ROLE_LABEL } from '../../api/lambda-node.ts';
import type { Pod } from '../../kube/api/resource-types.ts';
import { ARCHITECTURE_LABEL } from '../scheduling/node-view.ts';
import type { DemandPiece, DemandView } from './demand.ts';
import { type HoldSettings, idlePod, OWN_MIB, type Owner, ownedBy, RESERVE_ACCOUNT, stateOf } from './hold-pod.ts';

const GRACE_SECONDS = 1;
/** Label by which Kubernetes, and each autoscaler, tells nodes apart. */
export const HOST_LABEL = 'kubernetes.io/hostname';
/** Most nodes that a Pod may name, of those that it could be bound to otherwise. */
const MAX_EXCLUDED = 500;

/**
 * The Pod that asks for what homeless workers need, where they may be placed: the scheduler finds no node for it, and an
 * autoscaler adds one. No Pod is pushed away for it, and any other goes before.
 *
 * @param full host names of nodes that have no room for workers, although they may have room for Pods
 */
export function demandPod(
  settings: HoldSettings,
  piece: DemandPiece,
  namespace: string,
  full: readonly string[],
  owner: Owner | undefined,
): Pod {
  const pod = idlePod(settings, {
    name: `esb-demand-${piece.group}-${piece.index}`,
    namespace,
    role: DEMAND_ROLE,
    memoryMiB: piece.memoryMiB + OWN_MIB,
    milliCPU: piece.milliCPU,
    ...(piece.diskMiB === 0 ? {} : { diskMiB: piece.diskMiB }),
    graceSeconds: GRACE_SECONDS,
    account: RESERVE_ACCOUNT,
    priorityClassName: settings.demandClassName,
  });
  const matchExpressions = [
    { key: HOST_LABEL, operator: 'NotIn', values: full.toSorted().slice(0, MAX_EXCLUDED) },
    { key: ARCHITECTURE_LABEL, operator: 'NotIn', values: piece.unfitArchitectures.toSorted() },
  ].filter(({ values }) => values.length > 0);
  const nodeSelectorTerms = [{ matchExpressions }];
  const affinity = { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } } };
  const made: Pod = {
    ...pod,
    spec: {
      ...pod.spec,
      containers: pod.spec?.containers ?? [],
      nodeSelector: { ...piece.nodeSelector },
      tolerations: [...piece.tolerations],
      ...(matchExpressions.length === 0 ? {} : { affinity }),
    },
  };
  return owner === undefined ? made : ownedBy(made, owner);
}

/** Undefined for a Pod that is no demand. */
export function demandView(pod: Pod): Omit<DemandView, 'sinceMs'> | undefined {
  const [, group, index] = /^esb-demand-([0-9a-f]+)-(\d+)$/.exec(pod.metadata.name) ?? [];
  if (pod.metadata.labels?.[HOLD_ROLE_LABEL] !== DEMAND_ROLE || group === undefined) {
    return undefined;
  }
  const nodeName = pod.spec?.nodeName;
  return { name: pod.metadata.name, group, index: Number(index), state: stateOf(pod), nodeName };
}
