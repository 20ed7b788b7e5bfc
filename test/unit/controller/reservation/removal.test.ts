import { describe, expect, it } from 'vitest';
import { lambdaNodes } from '../../../../src/api/lambda-node.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { guardPod } from '../../../../src/controller/reservation/hold-pod.ts';
import { removeHoldPods } from '../../../../src/controller/reservation/removal.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import { pods } from '../../../../src/kube/api/resource-types.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { TestCluster } from '../../../support/test-cluster.ts';
import { nodeFixture } from '../../../support/worker-fixture.ts';

const guard = guardPod({ image: 'esb:1', pullPolicy: 'Never' }, nodeFixture(), 'esb-system', 120, []);
const elsewhere = { ...guard, metadata: { ...guard.metadata, namespace: 'other', uid: 'elsewhere' } };
const others = { ...guard, metadata: { ...guard.metadata, name: 'others', uid: 'others', labels: {} } };

/** A guard of an earlier controller, Pods that are none of its own, and the removal, which has begun. */
function scene(refusal?: ApiError) {
  const cluster = new TestCluster();
  cluster.put(lambdaNodes, nodeFixture({ status: { reserved: { memoryMiB: 512, milliCPU: 0 } } }));
  cluster.put(lambdaNodes, nodeFixture({ name: 'node-2' }));
  for (const pod of [guard, elsewhere, others]) {
    cluster.put(pods, pod);
  }
  const free = { ...guard.metadata, name: 'esb-hold-node-2', finalizers: [] };
  cluster.put(pods, { ...guard, metadata: free });
  const end = refusal === undefined ? () => undefined : cluster.refuse(({ verb }) => verb === 'list', refusal);
  const clock = manualClock();
  const options = { client: cluster.client, systemNamespace: 'esb-system', clock, logger: silentLogger() };
  return { cluster, clock, end, ended: removeHoldPods(options, new AbortController().signal) };
}

const asked = ({ requests }: TestCluster) => requests.map(({ verb, name }) => `${verb} ${name}`);
const removal = [
  'list ',
  'patch esb-hold-node-1',
  'delete esb-hold-node-1',
  'delete esb-hold-node-2',
  'list ',
  // Its workers may have the whole capacity again.
  'patch node-1',
];

describe('removeHoldPods', () => {
  it('lets go and deletes what an earlier controller has made', async () => {
    const { cluster, ended } = scene();
    await ended;
    expect(asked(cluster)).toEqual(removal);
    expect(cluster.all(pods).map(({ metadata }) => metadata.uid)).toEqual(['elsewhere', 'others']);
    expect(cluster.get(lambdaNodes, { name: 'node-1' })?.status).not.toHaveProperty('reserved');
  });

  it('is content where it may not look', async () => {
    const { cluster, ended } = scene(ApiError.fromAnswer('list', 403, '{"reason":"Forbidden"}'));
    await ended;
    expect(asked(cluster)).toEqual(['list ']);
  });

  it('tries again when the API server is away', async () => {
    const { cluster, clock, end, ended } = scene(ApiError.unreachable('list', new Error('reset')));
    await clock.advance(9_999);
    end();
    await clock.advance(1);
    await ended;
    expect(asked(cluster)).toEqual(['list ', ...removal]);
  });
});
