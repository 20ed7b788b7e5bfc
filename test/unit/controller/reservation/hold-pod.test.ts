import { describe, expect, it } from 'vitest';
import {
  guardGraceSeconds,
  guardPod,
  guardPodName,
  ownedByAccount,
  reservePod,
} from '../../../../src/controller/reservation/hold-pod.ts';
import { holdNodeOf, holdView, reserveView } from '../../../../src/controller/reservation/hold-view.ts';
import { imagePatch, releasePatch, resizePatch } from '../../../../src/controller/reservation/hold-writer.ts';
import { podTolerations } from '../../../../src/controller/reservation/tolerations.ts';
import type { Pod } from '../../../../src/kube/api/resource-types.ts';
import { nodeFixture } from '../../../support/worker-fixture.ts';

const settings = { image: 'registry.example/esb:1', pullPolicy: 'IfNotPresent' };
const owner = { metadata: { name: 'esb-reserve', uid: 'uid-of-account' } };
const guard = guardPod(settings, nodeFixture(), 'esb-system', 120, podTolerations([]));
const alone = reservePod(settings, nodeFixture(), 'esb-system', { memoryMiB: 1_536 }, podTolerations([]));
const reservation = ownedByAccount(alone, owner);
const pod = (status: Pod['status'] = {}, metadata: Partial<Pod['metadata']> = {}): Pod => ({
  ...guard,
  metadata: { ...guard.metadata, uid: 'one', ...metadata },
  status,
});

describe('the guard of a node', () => {
  it('is on that node from the start, and asks for next to nothing', () => {
    expect(guard.spec).toMatchObject({ nodeName: 'node-1', terminationGracePeriodSeconds: 120 });
    expect(guard.spec).not.toHaveProperty('affinity');
    expect(guard.spec?.containers?.[0]).toMatchObject({
      command: ['/usr/lib/esb/init'],
      args: ['guard'],
      resources: { requests: { memory: '4Mi', cpu: '0m' } },
    });
    expect(holdNodeOf(guard)).toBe('node-1');
  });

  it('has an owner, so that a drain takes it, and a finalizer, so that the drain waits', () => {
    expect(guard.metadata.ownerReferences).toEqual([
      {
        apiVersion: 'esb.dev/v1alpha1',
        kind: 'LambdaNode',
        name: 'node-1',
        uid: 'uid-of-node-1',
        controller: true,
      },
    ]);
    expect(guard.metadata.finalizers).toEqual(['esb.dev/hold']);
  });

  it('takes a priority class where there is one', () => {
    expect(guard.spec?.priorityClassName).toBeUndefined();
    const important = guardPod({ ...settings, priorityClassName: 'workers' }, nodeFixture(), 'esb-system', 120, []);
    expect(important.spec?.priorityClassName).toBe('workers');
  });

  it('has a name of its own, however long that of the node is', () => {
    expect(guardPodName('node-1')).toBe('esb-hold-node-1');
    const [one, other] = ['a', 'b'].map((letter) => guardPodName(`${'n'.repeat(252)}${letter}`));
    expect(one).toHaveLength(253);
    expect(one).not.toBe(other);
  });

  it.each([
    [3, 120],
    [60, 120],
    [61, 360],
    [300, 360],
    [900, 960],
    [1_000, 1_060],
  ])('has for calls of %d s a grace of %d s', (timeout, grace) => {
    expect(guardGraceSeconds(timeout)).toBe(grace);
  });
});

describe('the reservation of a node', () => {
  it('asks for the memory of its workers and its own, on that node', () => {
    expect(reservation.metadata.name).toBe('esb-reserve-node-1');
    expect(reservation.spec).toMatchObject({ nodeName: 'node-1', serviceAccountName: 'esb-reserve' });
    expect(reservation.spec?.containers?.[0]).toMatchObject({
      args: ['reserve'],
      resources: { requests: { memory: '1540Mi' } },
    });
    expect(holdView(reservation)).toMatchObject({ guarded: false, memoryMiB: 1_536 });
  });

  it('has limits above its requests, so that the default of a namespace adds none', () => {
    expect(reservation.spec?.containers?.[0]?.resources).toEqual({
      requests: { memory: '1540Mi', cpu: '0m' },
      limits: { memory: '1604Mi', cpu: '100m' },
    });
  });

  it('goes with its account, and has no finalizer', () => {
    expect(reservation.metadata.ownerReferences).toEqual([
      { apiVersion: 'v1', kind: 'ServiceAccount', name: 'esb-reserve', uid: 'uid-of-account', controller: true },
    ]);
    expect(reservation.metadata.finalizers).toBeUndefined();
    expect(holdNodeOf(reservation)).toBe('node-1');
    // Without a chart there is no such account.
    expect(alone.metadata.ownerReferences?.map(({ kind }) => kind)).toEqual(['LambdaNode']);
  });
});

describe('holdView', () => {
  const startTime = '2026-11-01T00:00:00Z';

  it.each<[string, Pod, object]>([
    ['its kubelet has not looked at it', pod(), { kind: 'waiting' }],
    ['its kubelet counts it', pod({ phase: 'Pending', startTime }), { kind: 'held' }],
    ['it runs', pod({ phase: 'Running', startTime }), { kind: 'held' }],
    [
      'the kubelet has refused it',
      pod({ phase: 'Failed', reason: 'OutOfmemory', message: 'Node did not have enough', startTime }),
      { kind: 'ended', refusal: 'Node did not have enough' },
    ],
    ['it was evicted', pod({ startTime }, { deletionTimestamp: 'now' }), { kind: 'evicted' }],
    ['it was let go', pod({}, { deletionTimestamp: 'now', finalizers: ['other'] }), { kind: 'leaving' }],
  ])('when %s', (_when, one, state) => {
    expect(holdView(one).state).toEqual(state);
  });

  it('tells what it is made of', () => {
    expect(holdView(pod())).toMatchObject({
      guarded: true,
      image: 'registry.example/esb:1',
      graceSeconds: 120,
    });
  });
});

describe('reserveView', () => {
  const shown = (status: Pod['status'] = {}): Pod => ({ ...reservation, status });
  const startTime = '2026-11-01T00:00:00Z';
  const running = (allocatedResources?: { memory: string; cpu?: string }) => ({
    name: 'hold',
    image: '',
    imageID: '',
    ready: true,
    restartCount: 0,
    state: { running: {} },
    allocatedResources,
  });

  it('is of reservations alone, by their place', () => {
    expect(reserveView(guard)).toBeUndefined();
    expect(reserveView(reservation)).toMatchObject({ name: 'esb-reserve-node-1', index: 0, memoryMiB: 1_536 });
    const third = reservePod(settings, nodeFixture(), 'esb-system', { memoryMiB: 256 }, [], 2);
    expect(reserveView(third)).toMatchObject({ name: 'esb-reserve.2.node-1', index: 2, memoryMiB: 256 });
  });

  it('counts nothing as allocated before its kubelet has looked at it, and all of it from then on', () => {
    expect(reserveView(shown())).toMatchObject({ allocatedMiB: 0, canResize: undefined });
    expect(reserveView(shown({ startTime }))).toMatchObject({ allocatedMiB: 1_536, canResize: undefined });
    expect(reserveView(shown({ phase: 'Failed', startTime }))?.allocatedMiB).toBe(0);
  });

  it('counts what a kubelet that resizes Pods has allocated, and not what is asked for', () => {
    const containerStatuses = [running({ memory: '516Mi' })];
    expect(reserveView(shown({ startTime, containerStatuses }))).toMatchObject({ allocatedMiB: 512, canResize: true });
    const bytes = [running({ memory: `${516 * 2 ** 20}` })];
    expect(reserveView(shown({ startTime, containerStatuses: bytes }))?.allocatedMiB).toBe(512);
    const mute = [running()];
    expect(reserveView(shown({ startTime, containerStatuses: mute }))).toMatchObject({
      allocatedMiB: 1_536,
      canResize: false,
    });
  });

  it('tells how much CPU is asked for and allocated, and whether the kubelet has too little', () => {
    const asking = reservePod(settings, nodeFixture(), 'esb-system', { memoryMiB: 512, milliCPU: 1_500 }, []);
    const view = (status: Pod['status']) => reserveView({ ...asking, status });
    expect(view({})).toMatchObject({ milliCPU: 1_500, allocatedMilliCPU: 0, lacksCPU: false });
    const containerStatuses = [running({ memory: '516Mi', cpu: '1' })];
    expect(view({ startTime, containerStatuses })).toMatchObject({ milliCPU: 1_500, allocatedMilliCPU: 1_000 });
    expect(view({ startTime, containerStatuses: [running()] })?.allocatedMilliCPU).toBe(1_500);
    // One that asks for none.
    const before = { ...reservation, status: { startTime, containerStatuses: [running({ memory: '516Mi' })] } };
    expect(reserveView(before)).toMatchObject({ milliCPU: 0, allocatedMilliCPU: 0 });
    const message = "Node didn't have enough resource: cpu, requested: 1500, used: 900, capacity: 2000";
    const pending = { type: 'PodResizePending', status: 'True', reason: 'Deferred', message };
    expect(view({ startTime, containerStatuses, conditions: [pending] })?.lacksCPU).toBe(true);
    expect(view({ phase: 'Failed', reason: 'OutOfcpu', message, startTime })?.lacksCPU).toBe(true);
    const memory = message.replace('cpu', 'memory');
    expect(view({ phase: 'Failed', reason: 'OutOfmemory', message: memory, startTime })?.lacksCPU).toBe(false);
  });

  it('tells why a resize is put off', () => {
    const pending = { type: 'PodResizePending', status: 'True', reason: 'Deferred', message: 'not enough memory' };
    expect(reserveView(shown({ startTime, conditions: [pending] }))?.deferral).toBe('not enough memory');
    expect(reserveView(shown({ startTime, conditions: [{ ...pending, status: 'False' }] }))?.deferral).toBeUndefined();
  });
});

describe('patches', () => {
  it('ask for another amount of memory', () => {
    expect(
      resizePatch({ ...reservation, metadata: { ...reservation.metadata, uid: 'two' } }, { memoryMiB: 512 }),
    ).toEqual([
      { op: 'test', path: '/metadata/uid', value: 'two' },
      { op: 'test', path: '/spec/containers/0/name', value: 'hold' },
      { op: 'replace', path: '/spec/containers/0/resources/requests/memory', value: '516Mi' },
    ]);
  });

  it('raise a limit that what is asked for exceeds, and lower none', () => {
    const limits = (memoryMiB: number) =>
      resizePatch(reservation, { memoryMiB }).filter((one) => JSON.stringify(one).includes('limits'));
    expect(limits(2_048)).toEqual([
      { op: 'replace', path: '/spec/containers/0/resources/limits/memory', value: '2116Mi' },
    ]);
    expect(limits(256)).toEqual([]);
  });

  it('ask for another amount of CPU, also where there was none', () => {
    expect(resizePatch(reservation, { memoryMiB: 512, milliCPU: 250 }).slice(2)).toEqual([
      { op: 'replace', path: '/spec/containers/0/resources/limits/cpu', value: '350m' },
      { op: 'add', path: '/spec/containers/0/resources/requests/cpu', value: '250m' },
      { op: 'replace', path: '/spec/containers/0/resources/requests/memory', value: '516Mi' },
    ]);
  });

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
