import type { ResourceType } from '../kube/api/types.ts';
import type { LambdaNode, LambdaNodeStatus } from './generated/lambda-node.ts';
import { API_GROUP, API_VERSION } from './name.ts';

export type { LambdaNode, LambdaNodeSpec, LambdaNodeStatus } from './generated/lambda-node.ts';

export const lambdaNodes: ResourceType<LambdaNode> = {
  group: API_GROUP,
  version: API_VERSION,
  kind: 'LambdaNode',
  plural: 'lambdanodes',
  namespaced: false,
};

/** Amounts of a node: memory in MiB, CPU in thousandths of a core, and number of workers. */
export type NodeAmounts = NonNullable<LambdaNodeStatus['capacity']>;

/** Whether `/tmp` of workers there is on disk, and counts as no memory. */
export function isTmpOnDisk(node: LambdaNode | undefined): boolean {
  const medium = node?.status?.ephemeralStorage?.medium;
  return medium !== undefined && medium !== 'Tmpfs';
}

/** Whether the LambdaNode, or the Node of its name, is marked to take no more workers. */
export function isCordoned(node: LambdaNode): boolean {
  return node.spec?.unschedulable === true || node.status?.unschedulable === true;
}

/** Kept on a node's guard Pod until the node has no workers, so that a drain waits for that. */
export const HOLD_FINALIZER = 'esb.dev/hold';

/** Labels of hold Pods, the guard and the reservation of each node, and the selector that finds them. */
export const holdLabels = {
  'app.kubernetes.io/name': 'esb',
  'app.kubernetes.io/component': 'hold',
  'app.kubernetes.io/managed-by': 'esb',
} as const;
export const HOLD_SELECTOR = Object.entries(holdLabels)
  .map(([name, value]) => `${name}=${value}`)
  .join(',');

/** Label that tells hold Pods apart. */
export const HOLD_ROLE_LABEL = 'esb.dev/hold-role';
export const GUARD_ROLE = 'guard';
export const RESERVE_ROLE = 'reserve';
export const DEMAND_ROLE = 'demand';

/** Whether ESB is to leave this node. Never taken back: the agent does not register again while its process lives. */
export function isRetired(node: LambdaNode): boolean {
  return node.spec?.retired === true;
}
