import { describe, expect, it } from 'vitest';
import { demandOf } from '../../../../src/controller/reservation/demand.ts';
import { demandPod } from '../../../../src/controller/reservation/demand-pod.ts';
import { guardPod, reservePod } from '../../../../src/controller/reservation/hold-pod.ts';
import { podTolerations } from '../../../../src/controller/reservation/tolerations.ts';
import { type Taint, taintVerdict } from '../../../../src/controller/scheduling/taint.ts';
import type { Pod } from '../../../../src/kube/api/resource-types.ts';
import { nodeFixture } from '../../../support/worker-fixture.ts';

// The rules by which autoscalers add and remove nodes, written from their sources.

/**
 * Karpenter 2266468, `pkg/utils/pod/scheduling.go`: IsEvictable, IsWaitingEviction, IsDrainable, IsStuckTerminating,
 * IsProvisionable;
 * `pkg/controllers/provisioning/provisioner.go`: validateNodeSelectorTerm.
 */
const karpenter = {
  taint: { key: 'karpenter.sh/disrupted', effect: 'NoSchedule' } as Taint,
  toleratesDisruption: (pod: Pod) => taintVerdict([karpenter.taint], (pod.spec?.tolerations ?? []) as never) === 'free',
  isTerminal: ({ status }: Pod) => status?.phase === 'Failed' || status?.phase === 'Succeeded',
  isDisruptable: ({ metadata }: Pod) => metadata.annotations?.['karpenter.sh/do-not-disrupt'] === undefined,
  isEvictable: (pod: Pod) =>
    !karpenter.isTerminal(pod) &&
    pod.metadata.deletionTimestamp === undefined &&
    !karpenter.toleratesDisruption(pod) &&
    karpenter.isDisruptable(pod),
  isStuckTerminating: ({ metadata }: Pod, now: number) =>
    metadata.deletionTimestamp !== undefined && now - Date.parse(metadata.deletionTimestamp) > 60_000,
  isWaitedFor: (pod: Pod, now: number) =>
    !karpenter.isTerminal(pod) && !karpenter.toleratesDisruption(pod) && !karpenter.isStuckTerminating(pod, now),
  isProvisionable: ({ spec, status, metadata }: Pod) =>
    status?.conditions?.some(({ type, reason }) => type === 'PodScheduled' && reason === 'Unschedulable') === true &&
    spec?.nodeName === undefined &&
    status.nominatedNodeName === undefined &&
    metadata.ownerReferences?.some(({ kind }) => kind === 'DaemonSet' || kind === 'Node') !== true,
  /** Whether a simulation may find it another node. */
  isMovable: ({ spec }: Pod) =>
    spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms.some(
      ({ matchFields }) => matchFields !== undefined,
    ) !== true,
};

/**
 * Cluster-autoscaler 55c37cd, `cluster-autoscaler/FAQ.md`: "What types of pods can prevent CA from removing a node?",
 * "Does CA respect GracefulTermination in scale-down?", and the flag `skip-nodes-with-custom-controller-pods`, which is
 * true by default.
 */
const clusterAutoscaler = {
  maxGracefulTerminationSeconds: 600,
  knownControllers: ['ReplicationController', 'ReplicaSet', 'Job', 'StatefulSet', 'DaemonSet'],
  isMovable({ metadata, spec }: Pod): boolean {
    const annotation = metadata.annotations?.['cluster-autoscaler.kubernetes.io/safe-to-evict'];
    const owner = metadata.ownerReferences?.find(({ controller }) => controller === true);
    const isBacked = owner !== undefined && clusterAutoscaler.knownControllers.includes(owner.kind);
    const hasLocalStorage = spec?.volumes?.some(({ hostPath, emptyDir }) => hostPath ?? emptyDir) === true;
    return (
      annotation !== 'false' &&
      (annotation === 'true' || (isBacked && !hasLocalStorage && metadata.namespace !== 'kube-system')) &&
      // Kube-scheduler's rules for another node.
      spec?.affinity === undefined &&
      spec?.nodeSelector === undefined
    );
  },
};

/** `kubectl drain` v1.37, `staging/src/k8s.io/kubectl/pkg/drain/filters.go`: an owner that would make it again. */
const isDrained = ({ metadata, spec }: Pod): boolean =>
  metadata.ownerReferences?.some(({ controller }) => controller === true) === true && spec?.volumes === undefined;

const settings = { image: 'esb:1', pullPolicy: 'IfNotPresent', priorityClassName: 'esb-hold' };
const taints: readonly Taint[] = [{ key: 'dedicated', value: 'web', effect: 'NoSchedule' }, karpenter.taint];
const owner = { metadata: { name: 'esb-reserve', uid: 'uid-of-account' } };
const guard = guardPod(settings, nodeFixture(), 'esb-system', 120, podTolerations(taints));
const reservation = reservePod(
  settings,
  nodeFixture(),
  'esb-system',
  { memoryMiB: 1024 },
  podTolerations(taints),
  owner,
);
const deleted = (pod: Pod, atMs: number): Pod => ({
  ...pod,
  // The API server adds the grace.
  metadata: {
    ...pod.metadata,
    deletionTimestamp: new Date(atMs + (pod.spec?.terminationGracePeriodSeconds ?? 0) * 1_000).toISOString(),
  },
});

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

describe('the Pod of workers without room', () => {
  const [piece] = demandOf([{ memoryMiB: 700, milliCPU: 100, nodeSelector: { pool: 'a' }, tolerations: [] }], {
    memoryMiB: 1_000,
    milliCPU: 1_000,
  });
  const demand =
    piece && demandPod({ ...settings, demandClassName: 'esb-demand' }, piece, 'esb-system', ['node-1'], owner);
  const terms = demand?.spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;

  it('is one that Karpenter makes a node for, once the scheduler has found none', () => {
    const conditions = [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable' }];
    const waiting: Pod = { ...demand, metadata: demand?.metadata ?? { name: '' }, status: { conditions } };
    expect(karpenter.isProvisionable(waiting)).toBe(true);
    expect(karpenter.isMovable(waiting)).toBe(true);
  });

  it('fits a node that is like those that are there, and none of those', () => {
    expect(terms).toEqual([
      { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'NotIn', values: ['node-1'] }] },
    ]);
    expect(demand?.spec?.nodeSelector).toEqual({ pool: 'a' });
  });

  it('keeps no node: cluster-autoscaler and kubectl drain move it', () => {
    const elsewhere = { ...demand?.spec, containers: [], affinity: undefined, nodeSelector: undefined };
    expect(demand !== undefined && clusterAutoscaler.isMovable({ ...demand, spec: elsewhere })).toBe(true);
    expect(demand !== undefined && isDrained(demand)).toBe(true);
  });
});

describe('these rules', () => {
  it('find the Pod of an earlier release at fault', () => {
    const earlier: Pod = {
      metadata: {
        name: 'esb-hold-node-1',
        annotations: { 'cluster-autoscaler.kubernetes.io/safe-to-evict': 'false' },
        ownerReferences: guard.metadata.ownerReferences,
      },
      spec: {
        affinity: {
          nodeAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: {
              nodeSelectorTerms: [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['node-1'] }] }],
            },
          },
        },
        tolerations: [{ operator: 'Exists' }],
        containers: [],
      },
    };
    expect(karpenter.isMovable(earlier)).toBe(false);
    expect(karpenter.isWaitedFor(earlier, 0)).toBe(false);
    expect(clusterAutoscaler.isMovable(earlier)).toBe(false);
  });
});
