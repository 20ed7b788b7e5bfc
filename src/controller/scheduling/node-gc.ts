import { type LambdaNode, lambdaNodes as lambdaNodeType } from '../../api/lambda-node.ts';
import type { CallOptions } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import { leases } from '../../kube/api/resource-types.ts';
import type { KubeClient, ObjectCache } from '../../kube/api/types.ts';
import type { AssignmentCache } from './assignment-cache.ts';
import type { NodeSnapshot } from './node-snapshot.ts';

export interface NodeSweepOptions {
  readonly client: KubeClient;
  readonly systemNamespace: string;
  readonly lambdaNodes: ObjectCache<LambdaNode>;
  readonly snapshot: Pick<NodeSnapshot, 'isNodeDeleted' | 'seesNodeDeleted'>;
  readonly assignments: AssignmentCache;
  readonly logger: Logger;
}

/**
 * Removes the LambdaNode and Lease of a deleted Node, which its agent cannot do. Waits until the agent is silent, since
 * a live one may come back under a new Node, and until no worker is assigned there, so that each worker has been moved
 * or told why not. Errors are those of the API server.
 */
export async function sweepNode(name: string, options: NodeSweepOptions, call: CallOptions): Promise<void> {
  const { client, systemNamespace, lambdaNodes, snapshot, assignments, logger } = options;
  const lambdaNode = lambdaNodes.get({ name });
  const isLoaded = (): boolean => assignments.load(name).assigned > 0;
  if (lambdaNode === undefined || !snapshot.seesNodeDeleted(name) || isLoaded()) {
    return;
  }
  if (!(await snapshot.isNodeDeleted(name, call)) || isLoaded()) {
    return;
  }
  await client.delete(lambdaNodeType, { name }, { ...call, uid: lambdaNode.metadata.uid });
  await client.delete(leases, { namespace: systemNamespace, name }, call);
  logger.info({ node: name }, 'LambdaNode of a deleted Node removed');
}
