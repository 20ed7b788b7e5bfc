import { describe, expect, it } from 'vitest';
import type { LambdaNode } from '../../../../src/api/lambda-node.ts';
import {
  departureTaintOf,
  goneBecause,
  nodeFingerprint,
  nodeView,
  placementFingerprint,
  resizesNoPod,
} from '../../../../src/controller/scheduling/node-view.ts';
import { departureTaints } from '../../../../src/controller/scheduling/taint.ts';
import type { Node } from '../../../../src/kube/api/resource-types.ts';
import { nodeFixture } from '../../../support/worker-fixture.ts';

const node = (taints: readonly string[] = []) => ({
  metadata: { name: 'node-1' },
  spec: { taints: taints.map((key) => ({ key, effect: 'NoExecute' })) },
});

describe('goneBecause', () => {
  it('is silent while the node may come back', () => {
    expect(goneBecause(nodeFixture(), undefined, false)).toBeUndefined();
    expect(goneBecause(nodeFixture(), node(['node.kubernetes.io/unreachable']), false)).toBeUndefined();
    expect(goneBecause(nodeFixture({ status: { unschedulable: true } }), node(), false)).toBeUndefined();
    // Its agent lives, and will soon tell that there is no Node to mirror.
    expect(goneBecause(nodeFixture({ status: { unschedulable: false } }), undefined, true)).toBeUndefined();
  });

  it('tells of a deleted LambdaNode, a deleted Node and the out-of-service taint', () => {
    expect(goneBecause(undefined, node(), true)).toBe('its LambdaNode was deleted');
    expect(goneBecause(nodeFixture({ status: { unschedulable: false } }), undefined, false)).toBe(
      'its Node was deleted',
    );
    const outOfService = node(['node.kubernetes.io/out-of-service']);
    expect(goneBecause(nodeFixture(), outOfService, false)).toContain('out-of-service');
    // Its agent lives, and can still clean up.
    expect(goneBecause(nodeFixture(), outOfService, true)).toBeUndefined();
  });
});

describe('placementFingerprint', () => {
  it('changes with what placement looks at, and with nothing else', () => {
    const before = placementFingerprint(nodeFixture());
    expect(placementFingerprint(nodeFixture({ status: { allocated: { memoryMiB: 5, workers: 1 } } }))).toBe(before);
    expect(placementFingerprint(nodeFixture({ ready: 'False' }))).not.toBe(before);
    expect(placementFingerprint(nodeFixture({ unschedulable: true }))).not.toBe(before);
    expect(placementFingerprint(nodeFixture({ retired: true }))).not.toBe(before);
    expect(placementFingerprint(nodeFixture({ metadata: { labels: { a: 'b' } } }))).not.toBe(before);
    expect(
      placementFingerprint(nodeFixture({ status: { capacity: { memoryMiB: 1, milliCPU: 100_000, workers: 1 } } })),
    ).not.toBe(before);
  });
});

describe('nodeFingerprint', () => {
  it('changes with cordon, taints and labels, and not with annotations', () => {
    const before = nodeFingerprint(node());
    expect(nodeFingerprint({ ...node(), metadata: { name: 'node-1', annotations: { a: 'b' } } })).toBe(before);
    expect(nodeFingerprint({ ...node(), metadata: { name: 'node-1', labels: { a: 'b' } } })).not.toBe(before);
    expect(nodeFingerprint(node(['a']))).not.toBe(before);
    expect(nodeFingerprint({ ...node(), spec: { unschedulable: true } })).not.toBe(before);
  });
});

describe('nodeView', () => {
  const view = (facts: Partial<Parameters<typeof nodeView>[1]> = {}) =>
    nodeView('node-1', {
      lambdaNode: nodeFixture(),
      node: node(),
      liveness: 'fresh',
      closure: undefined,
      ...facts,
    });

  it('is ready and open where nothing speaks against it', () => {
    expect(view()).toMatchObject({ ready: true, closed: undefined, taints: [] });
    // In a cluster of no Nodes there is none to look at.
    expect(view({ node: undefined })).toMatchObject({ ready: true, closed: undefined });
  });

  it('has the labels of its Node, whatever its agent says, and those of the agent where there is no Node', () => {
    const lambdaNode = nodeFixture({ metadata: { labels: { pci: 'true', zone: 'a' } } });
    const labelled = { ...node(), metadata: { name: 'node-1', labels: { zone: 'b' } } };
    expect(view({ lambdaNode, node: labelled }).labels).toEqual({ zone: 'b' });
    expect(view({ lambdaNode, node: node() }).labels).toEqual({});
    expect(view({ lambdaNode, node: undefined }).labels).toEqual({ pci: 'true', zone: 'a' });
  });

  it('has no more memory than its Node has for Pods, whatever its agent says', () => {
    const lambdaNode = nodeFixture({ status: { capacity: { memoryMiB: 1_000_000, milliCPU: 100_000, workers: 10 } } });
    const sized = { ...node(), status: { allocatable: { memory: '2097152Ki' } } };
    expect(view({ lambdaNode, node: sized }).capacity).toMatchObject({ memoryMiB: 2_040, workers: 10 });
    expect(view({ lambdaNode, node: node() }).capacity.memoryMiB).toBe(1_000_000);
  });

  it('has no more capacity than its owner wishes, whatever its agent says', () => {
    const capacity = { memoryMiB: 8_192, milliCPU: 4_000, workers: 100 };
    const wishing = (wish: NonNullable<LambdaNode['spec']['capacity']>) => {
      const base = nodeFixture({ status: { capacity } });
      return { ...base, spec: { ...base.spec, capacity: wish } };
    };
    expect(view({ lambdaNode: wishing({ memoryMiB: 1_024 }) }).capacity).toEqual({ ...capacity, memoryMiB: 1_024 });
    expect(view({ lambdaNode: wishing({ workers: 3 }) }).capacity).toEqual({ ...capacity, workers: 3 });
    // The agent takes the larger wish over and says so.
    expect(view({ lambdaNode: wishing({ memoryMiB: 100_000, workers: 1_000 }) }).capacity).toEqual(capacity);
    expect(placementFingerprint(wishing({ workers: 3 }))).not.toBe(placementFingerprint(wishing({ workers: 4 })));
  });

  it('is ready while it is quiet, and not while nothing is heard of it', () => {
    const readiness = (['fresh', 'quiet', 'unreachable', 'lost'] as const).map((liveness) => view({ liveness }).ready);
    expect(readiness).toEqual([true, true, false, false]);
  });

  it('is closed by its cordon, also by the one that its agent has not told of yet', () => {
    expect(view({ lambdaNode: nodeFixture({ unschedulable: true }) }).closed).toBe('cordoned');
    expect(view({ node: { ...node(), spec: { unschedulable: true } } }).closed).toBe('cordoned');
    const tainted = view({ node: node(['node.kubernetes.io/unschedulable']) });
    // Tolerating it is of no use.
    expect(tainted).toMatchObject({ closed: 'cordoned', taints: [] });
  });

  it.each(departureTaints)('is being drained once its Node is about to leave with the taint %s', (taint) => {
    expect(view({ node: node([taint]) }).closed).toBe('draining');
    expect(departureTaintOf(node([taint]))).toBe(taint);
  });

  it('stays while it is a mere candidate of the cluster autoscaler', () => {
    expect(view({ node: node(['DeletionCandidateOfClusterAutoscaler']) }).closed).toBeUndefined();
    expect(departureTaintOf(undefined)).toBeUndefined();
  });

  it('is closed by its Pods, and names what drives its workers out before what keeps others away', () => {
    expect(view({ closure: 'unheld' }).closed).toBe('unheld');
    const cordoned = { ...node(), spec: { unschedulable: true } };
    expect(view({ node: cordoned, closure: 'unheld' }).closed).toBe('cordoned');
    expect(view({ node: cordoned, closure: 'draining' }).closed).toBe('draining');
    expect(view({ lambdaNode: nodeFixture({ retired: true }), closure: 'draining' }).closed).toBe('retired');
  });

  it('is not ready when it is lost, gone or being deleted', () => {
    expect(view({ liveness: 'lost' }).ready).toBe(false);
    expect(view({ lambdaNode: undefined }).ready).toBe(false);
    expect(view({ lambdaNode: nodeFixture({ metadata: { deletionTimestamp: '2026-11-01T00:00:00Z' } }) }).ready).toBe(
      false,
    );
  });
});

describe('a kubelet', () => {
  it.each([
    ['v1.32.13', true],
    ['v1.29.0-eks-1234567', true],
    ['v1.33.0', false],
    ['v1.37.2+k3s1', false],
    ['v2.0.0', false],
    [undefined, false],
  ])('of version %s is known to resize no Pod: %s', (kubeletVersion, known) => {
    const nodeInfo = kubeletVersion === undefined ? undefined : { kubeletVersion };
    expect(resizesNoPod({ metadata: { name: 'node-1' }, status: { nodeInfo } } as Node)).toBe(known);
  });
});
