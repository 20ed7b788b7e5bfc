import { describe, expect, it } from 'vitest';
import {
  holdNodeOf,
  holdPod,
  holdPodName,
  holdView,
  imagePatch,
  releasePatch,
} from '../../../../src/controller/reservation/hold-pod.ts';
import type { Pod } from '../../../../src/kube/api/resource-types.ts';
import { nodeFixture } from '../../../support/worker-fixture.ts';

const settings = { image: 'registry.example/esb:1', pullPolicy: 'IfNotPresent' };
const made = holdPod(settings, nodeFixture(), 'esb-system');
const pod = (status: Pod['status'] = {}, metadata: Partial<Pod['metadata']> = {}): Pod => ({
  ...made,
  metadata: { ...made.metadata, uid: 'one', ...metadata },
  status,
});
const condition = (status: string, reason?: string, message?: string) => ({
  conditions: [
    {
      type: 'PodScheduled',
      status,
      ...(reason === undefined ? {} : { reason }),
      ...(message === undefined ? {} : { message }),
    },
  ],
});

describe('the hold Pod of a node', () => {
  it('asks for the memory of the node, on that node, through the scheduler', () => {
    expect(made.spec?.nodeName).toBeUndefined();
    expect(made.spec?.containers?.[0]).toMatchObject({
      args: ['hold'],
      resources: { requests: { memory: '1536Mi' } },
    });
    expect(JSON.stringify(made.spec?.affinity)).toContain('"values":["node-1"]');
    expect(holdNodeOf(made)).toBe('node-1');
  });

  it('has an owner, so that a drain takes it, and a finalizer, so that the drain waits', () => {
    expect(made.metadata.ownerReferences).toEqual([
      {
        apiVersion: 'esb.dev/v1alpha1',
        kind: 'LambdaNode',
        name: 'node-1',
        uid: 'uid-of-node-1',
        controller: true,
      },
    ]);
    expect(made.metadata.finalizers).toEqual(['esb.dev/hold']);
  });

  it('takes a priority class where there is one', () => {
    expect(made.spec?.priorityClassName).toBeUndefined();
    const important = holdPod({ ...settings, priorityClassName: 'workers' }, nodeFixture(), 'esb-system');
    expect(important.spec?.priorityClassName).toBe('workers');
  });

  it('has a name of its own, however long that of the node is', () => {
    expect(holdPodName('node-1')).toBe('esb-hold-node-1');
    const [one, other] = ['a', 'b'].map((letter) => holdPodName(`${'n'.repeat(252)}${letter}`));
    expect(one).toHaveLength(253);
    expect(one).not.toBe(other);
  });
});

describe('holdView', () => {
  it.each<[string, Pod, object]>([
    ['nobody has looked at it', pod(), { kind: 'waiting' }],
    [
      'it finds no room',
      pod(condition('False', 'Unschedulable', '1 Insufficient memory')),
      { kind: 'waiting', refusal: '1 Insufficient memory' },
    ],
    ['it is gated', pod(condition('False', 'SchedulingGated')), { kind: 'waiting' }],
    ['it has its node', pod(condition('True')), { kind: 'held' }],
    [
      'the kubelet has ended it',
      pod({ phase: 'Failed', reason: 'OutOfmemory', message: 'Node did not have enough' }),
      { kind: 'ended', refusal: 'Node did not have enough' },
    ],
    ['it was evicted', pod(condition('True'), { deletionTimestamp: 'now' }), { kind: 'evicted' }],
    ['it was let go', pod({}, { deletionTimestamp: 'now', finalizers: ['other'] }), { kind: 'leaving' }],
  ])('when %s', (_when, one, state) => {
    expect(holdView(one).state).toEqual(state);
  });

  it('tells what it is made of', () => {
    expect(holdView(pod())).toMatchObject({
      guarded: true,
      image: 'registry.example/esb:1',
      memoryMiB: 1536,
    });
  });
});

describe('patches', () => {
  it('hold only for the Pod and the place in it that were seen', () => {
    expect(releasePatch(pod({}, { finalizers: ['other', 'esb.dev/hold'] }))).toEqual([
      { op: 'test', path: '/metadata/uid', value: 'one' },
      { op: 'test', path: '/metadata/finalizers/1', value: 'esb.dev/hold' },
      { op: 'remove', path: '/metadata/finalizers/1' },
    ]);
    expect(imagePatch(pod(), 'esb:2').slice(-2)).toEqual([
      { op: 'add', path: '/metadata/annotations/esb.dev~1image', value: 'esb:2' },
      { op: 'replace', path: '/spec/containers/0/image', value: 'esb:2' },
    ]);
    const { annotations: _, ...bare } = pod().metadata;
    expect(imagePatch({ ...pod(), metadata: bare }, 'esb:2').at(-2)).toEqual({
      op: 'add',
      path: '/metadata/annotations',
      value: { 'esb.dev/image': 'esb:2' },
    });
  });
});
