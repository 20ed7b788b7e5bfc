import { describe, expect, it } from 'vitest';
import { silentLogger } from '../../../../src/common/logger.ts';
import { guardPod } from '../../../../src/controller/reservation/hold-pod.ts';
import { removeHoldPods } from '../../../../src/controller/reservation/removal.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import type { KubeClient, ListParameters, ObjectKey, ResourceType } from '../../../../src/kube/api/types.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { nodeFixture } from '../../../support/worker-fixture.ts';

const guard = guardPod({ image: 'esb:1', pullPolicy: 'Never' }, nodeFixture(), 'esb-system', 120, []);
const made = { ...guard, metadata: { ...guard.metadata, uid: 'one' } };

/** @param answers what lists are answered with, one after the other */
function scene(...answers: readonly (object | Error)[]) {
  const lambdaNodes = [
    nodeFixture({ status: { reserved: { memoryMiB: 512, milliCPU: 0 } } }),
    nodeFixture({ name: 'node-2' }),
  ];
  const calls: string[] = [];
  const clock = manualClock();
  let asked = 0;
  const client = {
    list({ kind }: ResourceType<typeof made>, { namespace, labelSelector }: ListParameters) {
      if (kind === 'LambdaNode') {
        return Promise.resolve({ items: lambdaNodes });
      }
      calls.push(`list ${namespace} ${labelSelector}`);
      const answer = answers[asked] ?? { items: [] };
      asked++;
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
    },
    patch(_type: ResourceType<typeof made>, { name }: ObjectKey) {
      calls.push(`patch ${name}`);
      return Promise.resolve({});
    },
    delete(_type: ResourceType<typeof made>, { name }: ObjectKey) {
      calls.push(`delete ${name}`);
      return Promise.resolve();
    },
  } as unknown as KubeClient;
  const stop = new AbortController();
  const ended = removeHoldPods({ client, systemNamespace: 'esb-system', clock, logger: silentLogger() }, stop.signal);
  return { calls, clock, ended };
}

const list =
  'list esb-system app.kubernetes.io/name=esb,app.kubernetes.io/component=hold,app.kubernetes.io/managed-by=esb';

describe('removeHoldPods', () => {
  it('lets go and deletes what an earlier controller has made', async () => {
    const free = { ...made, metadata: { ...made.metadata, name: 'esb-hold-node-2', uid: 'two', finalizers: [] } };
    const { calls, ended } = scene({ items: [made, free] });
    await ended;
    expect(calls).toEqual([
      list,
      'patch esb-hold-node-1',
      'delete esb-hold-node-1',
      'delete esb-hold-node-2',
      // Its workers may have the whole capacity again.
      'patch node-1',
    ]);
  });

  it('is content where it may not look', async () => {
    const { calls, ended } = scene(ApiError.fromAnswer('list', 403, '{"reason":"Forbidden"}'));
    await ended;
    expect(calls).toEqual([list]);
  });

  it('tries again when the API server is away', async () => {
    const { calls, clock, ended } = scene(ApiError.unreachable('list', new Error('reset')), {
      items: [made],
    });
    await clock.advance(10_000);
    await ended;
    expect(calls).toEqual([list, list, 'patch esb-hold-node-1', 'delete esb-hold-node-1', 'patch node-1']);
  });
});
