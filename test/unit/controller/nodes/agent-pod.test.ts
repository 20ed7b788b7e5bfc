import { expect, it } from 'vitest';
import { agentNodeIndex, isAgentStarting, transformAgentPod } from '../../../../src/controller/nodes/agent-pod.ts';
import type { Node, Pod } from '../../../../src/kube/api/resource-types.ts';

type Container = NonNullable<NonNullable<Pod['status']>['containerStatuses']>[number];

/** The Pod of an agent as the API server has it, as far as the controller keeps it. */
function pod(state: Container['state'] | 'unborn', more: { ready?: boolean; phase?: string; deleted?: boolean } = {}) {
  const { ready = false, phase = 'Pending', deleted = false } = more;
  return transformAgentPod({
    metadata: {
      name: 'esb-agent-x',
      namespace: 'esb-system',
      ...(deleted ? { deletionTimestamp: '2026-11-01T00:00:00Z' } : {}),
    },
    spec: { nodeName: 'node-1', containers: [{ name: 'agent', image: 'esb:1' }] },
    status: {
      phase,
      ...(state === 'unborn'
        ? {}
        : { containerStatuses: [{ name: 'agent', ready, state, image: 'esb:1', imageID: '', restartCount: 0 }] }),
    },
  });
}

const node = (ready: string): Node => ({
  metadata: { name: 'node-1' },
  status: { conditions: [{ type: 'Ready', status: ready }] },
});
const waiting = (reason: string) => pod({ waiting: { reason } });
const running = { running: { startedAt: '2026-11-01T00:00:00Z' } };

it.each([
  ['its Pod was bound and nothing more is known', pod('unborn'), true],
  ['its container is being made, or its image pulled', waiting('ContainerCreating'), true],
  ['its image cannot be pulled yet', waiting('ImagePullBackOff'), true],
  ['it runs and is not ready', pod(running, { phase: 'Running' }), true],
  ['it is ready', pod(running, { phase: 'Running', ready: true }), false],
  ['it ends again and again', waiting('CrashLoopBackOff'), false],
  ['it has ended', pod({ terminated: { exitCode: 1 } }), false],
  ['its Pod was evicted', pod('unborn', { phase: 'Failed' }), false],
  ['its Pod is being deleted', pod(running, { phase: 'Running', deleted: true }), false],
])('an agent is being started or not: %s', (_, one, starting) => {
  expect(isAgentStarting([one], node('True'))).toBe(starting);
  expect(isAgentStarting([pod(running, { deleted: true }), one], node('False'))).toBe(starting);
});

it('the word of a kubelet that is silent itself counts for nothing', () => {
  expect(isAgentStarting([waiting('ContainerCreating')], node('Unknown'))).toBe(false);
  expect(isAgentStarting([waiting('ContainerCreating')], undefined)).toBe(false);
});

it('a Pod is found by its node, once it has one', () => {
  expect(agentNodeIndex(pod('unborn'))).toEqual(['node-1']);
  expect(agentNodeIndex({ metadata: { name: 'esb-agent-y' } })).toEqual([]);
});
