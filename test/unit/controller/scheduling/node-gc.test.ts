import { describe, expect, it } from 'vitest';
import type { LambdaNode } from '../../../../src/api/lambda-node.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { AssignmentCache } from '../../../../src/controller/scheduling/assignment-cache.ts';
import { sweepNode } from '../../../../src/controller/scheduling/node-gc.ts';
import type { KubeClient, ObjectKey, ResourceType } from '../../../../src/kube/api/types.ts';
import { createObjectCache } from '../../../../src/kube/cache/object-cache.ts';
import { nodeFixture, workerFixture } from '../../../support/worker-fixture.ts';

function scene() {
  const lambdaNodes = createObjectCache<LambdaNode>();
  lambdaNodes.set(nodeFixture());
  const assignments = new AssignmentCache();
  const deleted: string[] = [];
  const facts = { seen: true, proven: true };
  const options = {
    client: {
      delete: ({ kind }: ResourceType<LambdaNode>, { namespace, name }: ObjectKey) => {
        deleted.push(`${kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`);
        return Promise.resolve();
      },
    } as unknown as KubeClient,
    systemNamespace: 'esb-system',
    lambdaNodes,
    snapshot: {
      seesNodeDeleted: () => facts.seen,
      isNodeDeleted: () => Promise.resolve(facts.proven),
    },
    assignments,
    logger: silentLogger(),
  };
  return { lambdaNodes, assignments, deleted, facts, sweep: () => sweepNode('node-1', options, {}) };
}

describe('sweepNode', () => {
  it('removes the LambdaNode and the Lease of a Node that was deleted', async () => {
    const { deleted, sweep } = scene();
    await sweep();
    expect(deleted).toEqual(['LambdaNode node-1', 'Lease esb-system/node-1']);
  });

  it('waits until no worker is assigned there', async () => {
    const { deleted, assignments, sweep } = scene();
    assignments.observe(workerFixture({ status: { assignment: { nodeName: 'node-1', epoch: 1 } } }));
    await sweep();
    expect(deleted).toEqual([]);
    assignments.forget('uid-of-hello');
    await sweep();
    expect(deleted).toHaveLength(2);
  });

  it('leaves a node alone that the caches or the API server know to be there', async () => {
    const { deleted, facts, lambdaNodes, sweep } = scene();
    facts.proven = false;
    await sweep();
    facts.proven = true;
    facts.seen = false;
    await sweep();
    facts.seen = true;
    lambdaNodes.replace([]);
    await sweep();
    expect(deleted).toEqual([]);
  });
});
