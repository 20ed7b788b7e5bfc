import type { Node, Pod } from '../../kube/api/resource-types.ts';

/** Labels by which the Pods of agents are found in the system namespace. */
export const AGENT_POD_SELECTOR = 'app.kubernetes.io/name=esb,app.kubernetes.io/component=agent';

/** Index of the agents' Pods: by node. */
export const AGENT_NODE_INDEX = 'node';

/** Reasons of a waiting container that has ended before; all others stand for a start under way, pulls among them. */
const FAILED_START = 'CrashLoopBackOff';

export function agentNodeIndex({ spec }: Pod): readonly string[] {
  return spec?.nodeName === undefined ? [] : [spec.nodeName];
}

/** A Pod reduced to the fields that say whether its agent is being started. */
export function transformAgentPod({ metadata, spec, status }: Pod): Pod {
  const { name, namespace, uid, resourceVersion, deletionTimestamp } = metadata;
  return {
    metadata: { name, namespace, uid, resourceVersion, deletionTimestamp },
    spec: { nodeName: spec?.nodeName, containers: [] },
    status: {
      phase: status?.phase,
      containerStatuses: status?.containerStatuses?.map(({ name: container, ready, state }) => ({
        name: container,
        ready,
        state,
        image: '',
        imageID: '',
        restartCount: 0,
      })),
    },
  };
}

/**
 * Whether an agent is being started on a node: its image is being pulled, its container is being made, or it runs and
 * is not ready. Workers run on meanwhile, with their memory. The word of a kubelet that is silent itself counts for
 * nothing.
 */
export function isAgentStarting(pods: readonly Pod[], node: Node | undefined): boolean {
  const ready = node?.status?.conditions?.find(({ type }) => type === 'Ready');
  return ready !== undefined && ready.status !== 'Unknown' && pods.some(isStarting);
}

function isStarting({ metadata, status }: Pod): boolean {
  const isOver = status?.phase === 'Failed' || status?.phase === 'Succeeded';
  if (metadata.deletionTimestamp !== undefined || isOver) {
    return false;
  }
  const containers = status?.containerStatuses ?? [];
  return containers.length === 0 || containers.some(({ ready, state }) => !ready && isOnTheWay(state));
}

type ContainerState = NonNullable<NonNullable<Pod['status']>['containerStatuses']>[number]['state'];

function isOnTheWay(state: ContainerState): boolean {
  return state?.running !== undefined || (state?.waiting !== undefined && state.waiting.reason !== FAILED_START);
}
