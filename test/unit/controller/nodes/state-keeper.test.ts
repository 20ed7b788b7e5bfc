import { expect, it } from 'vitest';
import type { LambdaNode } from '../../../../src/api/lambda-node.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import type { NodeLife } from '../../../../src/controller/nodes/liveness.ts';
import { StateKeeper } from '../../../../src/controller/nodes/state-keeper.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import type { KubeClient, ObjectKey, PatchBody, ResourceType } from '../../../../src/kube/api/types.ts';
import { fakeInformer } from '../../../support/fake-informer.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { nodeFixture } from '../../../support/worker-fixture.ts';

/** One node that is lost, and the writes about it. */
function scene(node: LambdaNode = nodeFixture()) {
  const writes: string[] = [];
  const world: { life: NodeLife; fault: Error | undefined } = {
    life: { kind: 'lost', isConfirmed: true },
    fault: undefined,
  };
  const keeper = new StateKeeper({
    client: {
      patch: (_type: ResourceType<LambdaNode>, { name }: ObjectKey, _patch: PatchBody, options?: object) => {
        writes.push(`${name} ${JSON.stringify(options)}`);
        return world.fault === undefined ? Promise.resolve({}) : Promise.reject(world.fault);
      },
    } as unknown as KubeClient,
    lambdaNodes: fakeInformer<LambdaNode>([node]).cache,
    liveness: { life: () => world.life },
    closures: { closureOf: () => undefined },
    clock: manualClock(),
    logger: silentLogger(),
    metrics: {},
  });
  return { writes, world, look: (name = 'node-1') => keeper.reconcile(name, {}) };
}

const error = (status: number, reason: string) => ApiError.fromAnswer('patch', status, JSON.stringify({ reason }));

it('writes the status of a node whose state differs, and nothing about one that is well', async () => {
  const { writes, world, look } = scene();
  expect(await look()).toEqual({});
  expect(writes).toEqual(['node-1 {"subresource":"status"}']);
  world.life = { kind: 'fresh' };
  expect(await look()).toEqual({});
  expect(writes).toHaveLength(1);
});

it('looks again after another writer was faster, and leaves one alone that is gone', async () => {
  const { world, look } = scene();
  world.fault = error(409, 'Conflict');
  expect(await look()).toEqual({ requeueAfterMs: 500 });
  world.fault = error(404, 'NotFound');
  expect(await look()).toEqual({});
  expect(await look('other')).toEqual({});
  world.fault = error(403, 'Forbidden');
  await expect(look()).rejects.toMatchObject({ code: 'Forbidden' });
});

it('writes nothing about a LambdaNode that is being deleted', async () => {
  const { writes, look } = scene(nodeFixture({ metadata: { deletionTimestamp: '2026-11-01T00:00:00Z' } }));
  await look();
  expect(writes).toEqual([]);
});
