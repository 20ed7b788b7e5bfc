import { type LambdaNode, lambdaNodes as lambdaNodeType } from '../../api/lambda-node.ts';
import type { CallOptions } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import { leases } from '../../kube/api/resource-types.ts';
import type { KubeClient, ObjectCache } from '../../kube/api/types.ts';
import type { AssignmentCache } from './assignment-cache.ts';
import type { NodeSnapshot } from './node-snapshot.ts';

export interface NodeGarbageCollectorOptions {
  /** Fenced: refuses to write once another controller leads. */
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
 * or told why not.
 */
export class NodeGarbageCollector {
  readonly #options: NodeGarbageCollectorOptions;

  constructor(options: NodeGarbageCollectorOptions) {
    this.#options = options;
  }

  /** Errors are those of the API server; the node is then looked at again after a growing wait. */
  async sweep(name: string, options: CallOptions): Promise<void> {
    const { client, systemNamespace, lambdaNodes, snapshot, assignments, logger } = this.#options;
    const lambdaNode = lambdaNodes.get({ name });
    if (lambdaNode === undefined || !snapshot.seesNodeDeleted(name) || assignments.load(name).assigned > 0) {
      return;
    }
    if (!(await snapshot.isNodeDeleted(name, options)) || assignments.load(name).assigned > 0) {
      return;
    }
    const { uid } = lambdaNode.metadata;
    await client.delete(lambdaNodeType, { name }, { ...options, uid });
    await client.delete(leases, { namespace: systemNamespace, name }, options);
    logger.info({ node: name }, 'LambdaNode of a deleted Node removed');
  }
}
