import type { LambdaNode, LambdaNodeStatus } from './generated/lambda-node.ts';
import { API_GROUP, API_VERSION, type ResourceDescriptor } from './resource-descriptor.ts';

export type { LambdaNode, LambdaNodeSpec, LambdaNodeStatus } from './generated/lambda-node.ts';

/** Where LambdaNodes are found. */
export const lambdaNodes: ResourceDescriptor<LambdaNode> = {
  group: API_GROUP,
  version: API_VERSION,
  kind: 'LambdaNode',
  plural: 'lambdanodes',
  namespaced: false,
};

/** Amounts of a node: memory in MiB and number of workers. */
export type NodeAmounts = NonNullable<LambdaNodeStatus['capacity']>;

/** Whether people asked that no more workers come here, on the LambdaNode itself or on the Node of its name. */
export function isCordoned(node: LambdaNode): boolean {
  return node.spec?.unschedulable === true || node.status?.unschedulable === true;
}
