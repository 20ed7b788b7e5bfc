import { expect, it } from 'vitest';
import { type LambdaNode, lambdaNodes } from '../../../../src/api/lambda-node.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import type { NodeLife } from '../../../../src/controller/nodes/liveness.ts';
import { StateKeeper } from '../../../../src/controller/nodes/state-keeper.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { TestCluster } from '../../../support/test-cluster.ts';
import { nodeFixture } from '../../../support/worker-fixture.ts';

/** One node that is lost, and what is kept about it. */
function scene(node: LambdaNode = nodeFixture()) {
  const cluster = new TestCluster();
  cluster.put(lambdaNodes, node);
  const informer = cluster.informer(lambdaNodes);
  const world: { life: NodeLife } = { life: { kind: 'lost', isConfirmed: true } };
  const keeper = new StateKeeper({
    client: cluster.client,
    lambdaNodes: informer.cache,
    liveness: { life: () => world.life },
    closures: { closureOf: () => undefined },
    clock: manualClock(),
    logger: silentLogger(),
    metrics: {},
  });
  return { cluster, informer, world, look: (name = 'node-1') => keeper.reconcile(name, {}) };
}

it('writes the status of a node whose state differs, and nothing about one that is well', async () => {
  const { cluster, world, look } = scene();
  world.life = { kind: 'fresh' };
  expect(await look()).toEqual({});
  expect(cluster.requests).toEqual([]);
  world.life = { kind: 'lost', isConfirmed: true };
  expect(await look()).toEqual({});
  expect(await look()).toEqual({});
  expect(cluster.requests).toMatchObject([{ verb: 'patch', plural: 'lambdanodes', name: 'node-1' }]);
  expect(cluster.get(lambdaNodes, { name: 'node-1' })?.status?.conditions).toHaveLength(2);
});

it('looks again after another writer was faster, and leaves one alone that is gone', async () => {
  const { cluster, informer, look } = scene();
  const error = ApiError.fromAnswer('patch', 403, '{"reason":"Forbidden"}');
  cluster.inject(() => true, { kind: 'refused', error });
  await expect(look()).rejects.toBe(error);
  informer.setLagging(true);
  cluster.put(lambdaNodes, nodeFixture({ unschedulable: true }));
  expect(await look()).toEqual({ requeueAfterMs: 500 });
  cluster.remove(lambdaNodes, { name: 'node-1' });
  expect(await look()).toEqual({});
  expect(await look('other')).toEqual({});
});

it('writes nothing about a LambdaNode that is being deleted', async () => {
  const { cluster, look } = scene(nodeFixture({ metadata: { deletionTimestamp: '2026-11-01T00:00:00Z' } }));
  await look();
  expect(cluster.requests).toEqual([]);
});
