import { describe, expect, it } from 'vitest';
import { demandOf } from '../../../../src/controller/reservation/demand.ts';
import {
  demandPod,
  guardPod,
  ownedByAccount,
  type PodAmounts,
  reservePod,
} from '../../../../src/controller/reservation/hold-pod.ts';
import { podTolerations } from '../../../../src/controller/reservation/tolerations.ts';
import type { Taint } from '../../../../src/controller/scheduling/taint.ts';
import type { Node, Pod } from '../../../../src/kube/api/resource-types.ts';
import { clusterAutoscaler, type FilledNode, fits, karpenter } from '../../../support/autoscaler-rules.ts';
import { nodeFixture } from '../../../support/worker-fixture.ts';

/** `kubectl drain` v1.37, `staging/src/k8s.io/kubectl/pkg/drain/filters.go`: an owner that would make it again. */
const isDrained = ({ metadata, spec }: Pod): boolean =>
  metadata.ownerReferences?.some(({ controller }) => controller === true) === true && spec?.volumes === undefined;

const settings = { image: 'esb:1', pullPolicy: 'IfNotPresent', priorityClassName: 'esb-hold' };
const taints: readonly Taint[] = [{ key: 'dedicated', value: 'web', effect: 'NoSchedule' }, karpenter.taint];
const owner = { metadata: { name: 'esb-reserve', uid: 'uid-of-account' } };
const guard = guardPod(settings, nodeFixture(), 'esb-system', 120, podTolerations(taints));
const reserve = (amounts: PodAmounts): Pod =>
  ownedByAccount(reservePod(settings, nodeFixture(), 'esb-system', amounts, podTolerations(taints)), owner);
const reservation = reserve({ memoryMiB: 1024 });
const deleted = (pod: Pod, atMs: number): Pod => ({
  ...pod,
  // The API server adds the grace.
  metadata: {
    ...pod.metadata,
    deletionTimestamp: new Date(atMs + (pod.spec?.terminationGracePeriodSeconds ?? 0) * 1_000).toISOString(),
  },
});
const ofDaemonSet: Pod = {
  metadata: {
    name: 'esb-agent-1',
    ownerReferences: [{ apiVersion: 'apps/v1', kind: 'DaemonSet', name: 'esb-agent', uid: '1', controller: true }],
  },
  spec: { containers: [{ name: 'agent', resources: { requests: { cpu: '100m', memory: '256Mi' } } }] },
};
/** A node of 8 GiB with the taint that the Pods of its node tolerate. */
function nodeOf(name: string, labels: Readonly<Record<string, string>> = {}): Node {
  return {
    metadata: { name, labels: { 'kubernetes.io/hostname': name, ...labels } },
    spec: { taints: [{ key: 'dedicated', value: 'web', effect: 'NoSchedule' }] },
    status: { allocatable: { cpu: '2', memory: '8Gi' } },
  };
}

describe.each([
  ['guard', guard],
  ['reservation', reservation],
])('the %s of a node', (_name, pod) => {
  it('lets Karpenter take the node, which evicts the Pod', () => {
    expect(karpenter.isMovable(pod)).toBe(true);
    expect(karpenter.isDisruptable(pod)).toBe(true);
    expect(karpenter.isEvictable(pod)).toBe(true);
  });

  it('lets cluster-autoscaler take the node, if there is room for what the Pod asks for elsewhere', () => {
    expect(clusterAutoscaler.isMovable(pod)).toBe(true);
    expect(fits(pod, { node: nodeOf('node-2'), pods: [] })).toBe(true);
  });

  it('lets kubectl drain the node without --force', () => {
    expect(isDrained(pod)).toBe(true);
  });
});

describe('the guard of a node', () => {
  it('is waited for by Karpenter for the longest call, and a minute and another', () => {
    const evicted = deleted(guard, 0);
    expect(karpenter.isWaitedFor(guard, 0)).toBe(true);
    expect(karpenter.isWaitedFor(evicted, 179_000)).toBe(true);
    expect(karpenter.isWaitedFor(evicted, 181_000)).toBe(false);
  });

  it('is waited for by cluster-autoscaler for as long as that lets any Pod have', () => {
    const grace = guard.spec?.terminationGracePeriodSeconds ?? 0;
    expect(Math.min(grace, clusterAutoscaler.maxGracefulTerminationSeconds)).toBe(120);
  });
});

/** Pods of workers without room, as the scheduler marks them. */
function demandFor(sizesMiB: readonly number[]): readonly Pod[] {
  const homeless = sizesMiB.map((memoryMiB) => ({
    memoryMiB,
    milliCPU: 100,
    diskMiB: 0,
    nodeSelector: { pool: 'a' },
    tolerations: [{ key: 'dedicated', operator: 'Exists' }] as const,
    unfitArchitectures: [],
  }));
  const asking = { ...settings, demandClassName: 'esb-demand' };
  return demandOf(homeless, () => ({ memoryMiB: 2_800, milliCPU: 700, diskMiB: 0 })).map((piece) => {
    const pod = ownedByAccount(demandPod(asking, piece, 'esb-system', ['node-1']), owner);
    const conditions = [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable' }];
    // The priority is that of the class, which the API server puts there.
    return { ...pod, spec: { containers: [], ...pod.spec, priority: -5 }, status: { conditions } };
  });
}

describe('the Pod of workers without room', () => {
  const [demand] = demandFor([700]);
  const terms = demand?.spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;

  it('fits a node that is like those that are there, and none of those', () => {
    expect(terms).toEqual([
      { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'NotIn', values: ['node-1'] }] },
    ]);
    expect(demand?.spec?.nodeSelector).toEqual({ pool: 'a' });
    const isFitting = (node: Node) => demand !== undefined && fits(demand, { node, pods: [] });
    expect(isFitting(nodeOf('node-1', { pool: 'a' }))).toBe(false);
    expect(isFitting(nodeOf('node-2', { pool: 'a' }))).toBe(true);
    expect(isFitting(nodeOf('node-2'))).toBe(false);
  });

  it('keeps no node: cluster-autoscaler and kubectl drain move it', () => {
    expect(demand !== undefined && clusterAutoscaler.isMovable(demand)).toBe(true);
    expect(demand !== undefined && isDrained(demand)).toBe(true);
  });
});

describe.each([
  ['Karpenter', karpenter],
  ['cluster-autoscaler', clusterAutoscaler],
])('%s', (_name, autoscaler) => {
  const template = nodeOf('new', { pool: 'a' });
  const other = (...pods: readonly Pod[]): FilledNode => ({ node: nodeOf('node-2'), pods: [ofDaemonSet, ...pods] });
  const node = (...pods: readonly Pod[]): FilledNode => ({ node: nodeOf('node-1'), pods: [ofDaemonSet, ...pods] });

  it('adds a node for workers without room, and as many as those need', () => {
    expect(autoscaler.adds(demandFor([700]), template)).toBe(1);
    expect(autoscaler.adds(demandFor([1_400, 1_400, 1_400, 1_400]), template)).toBe(1);
    expect(autoscaler.adds(demandFor(Array.from({ length: 10 }, () => 1_400)), template)).toBe(3);
  });

  it('adds none for the Pods of a node, for demand that has a node, nor where no node would do', () => {
    const [demand] = demandFor([700]);
    const bound = demand && { ...demand, spec: { containers: [], ...demand.spec, nodeName: 'new' } };
    expect(autoscaler.adds([guard, reservation, ...(bound === undefined ? [] : [bound])], template)).toBe(0);
    expect(autoscaler.adds(demandFor([700]), nodeOf('new'))).toBe(0);
  });

  it('removes a node that workers have left, and one on which none ever was', () => {
    expect(autoscaler.removes(node(), [])).toBe(true);
  });

  it('removes a node with workers where another has room for what they take, and moves the two Pods', () => {
    const used = node(guard, reservation);
    expect(autoscaler.podsToMove(used.pods)).toEqual([guard, reservation]);
    expect(autoscaler.removes(used, [other(reserve({ memoryMiB: 2_048 }))])).toBe(true);
  });

  it('keeps a node whose workers no other has room for', () => {
    expect(autoscaler.removes(node(guard, reservation), [])).toBe(false);
    expect(autoscaler.removes(node(guard, reservation), [other(reserve({ memoryMiB: 7_000 }))])).toBe(false);
  });

  it('removes a node whose workers all rest, and no call reaches', () => {
    expect(autoscaler.removes(node(guard, reserve({ memoryMiB: 0 })), [other(reserve({ memoryMiB: 7_000 }))])).toBe(
      true,
    );
  });

  it('keeps a new node for demand that the scheduler has put there', () => {
    const [demand] = demandFor([700]);
    const bound = demand && { ...demand, spec: { containers: [], ...demand.spec, nodeName: 'new' } };
    const filled = { node: template, pods: bound === undefined ? [] : [bound] };
    expect(autoscaler.removes(filled, [other()])).toBe(false);
  });
});

it('cluster-autoscaler keeps a node of which workers take more than half', () => {
  const others = [{ node: nodeOf('node-2'), pods: [] }];
  expect(
    clusterAutoscaler.removes({ node: nodeOf('node-1'), pods: [guard, reserve({ memoryMiB: 4_000 })] }, others),
  ).toBe(true);
  expect(
    clusterAutoscaler.removes({ node: nodeOf('node-1'), pods: [guard, reserve({ memoryMiB: 4_200 })] }, others),
  ).toBe(false);
});
