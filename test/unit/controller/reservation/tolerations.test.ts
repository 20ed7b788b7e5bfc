import { describe, expect, it } from 'vitest';
import { isEvictedByTaint, podTolerations } from '../../../../src/controller/reservation/tolerations.ts';
import { departureTaints, type Taint } from '../../../../src/controller/scheduling/taint.ts';

const taint = (key: string, effect: string, value?: string): Taint => ({ key, effect, value });
const dedicated = taint('dedicated', 'NoExecute', 'web');
const isEvicted = (taints: readonly Taint[], onto: readonly Taint[] = []) =>
  isEvictedByTaint(taints, podTolerations(onto));

describe('the tolerations of the Pods of a node', () => {
  it('name each trouble of a node, and no more where it has no taints', () => {
    expect(podTolerations([]).map(({ key }) => key)).toEqual([
      'node.kubernetes.io/not-ready',
      'node.kubernetes.io/unreachable',
      'node.kubernetes.io/unschedulable',
      'node.kubernetes.io/memory-pressure',
      'node.kubernetes.io/disk-pressure',
      'node.kubernetes.io/pid-pressure',
      'node.kubernetes.io/network-unavailable',
    ]);
  });

  it('name the taints that the node has, as they are', () => {
    expect(podTolerations([dedicated, taint('gpu', 'NoSchedule')]).slice(-2)).toEqual([
      { key: 'dedicated', operator: 'Equal', value: 'web', effect: 'NoExecute' },
      { key: 'gpu', operator: 'Exists', effect: 'NoSchedule' },
    ]);
  });

  it.each([...departureTaints, 'node.kubernetes.io/out-of-service'])(
    'never name %s, also where the node has it',
    (key) => {
      const leaving = [taint(key, 'NoSchedule'), taint(key, 'NoExecute')];
      expect(podTolerations(leaving)).toEqual(podTolerations([]));
    },
  );
});

describe('a Pod of ours', () => {
  it('is evicted by a taint that came after it, and made anew with the taint it is not', () => {
    expect(isEvicted([dedicated])).toBe(true);
    expect(isEvicted([dedicated], [dedicated])).toBe(false);
    expect(isEvicted([taint('dedicated', 'NoExecute', 'other')], [dedicated])).toBe(true);
    expect(isEvicted([taint('dedicated', 'NoSchedule')])).toBe(false);
  });

  it('is not evicted by a kubelet that is silent, nor by a taint of departure, which is a drain', () => {
    expect(isEvicted([taint('node.kubernetes.io/unreachable', 'NoExecute')])).toBe(false);
    expect(isEvicted([taint('karpenter.sh/disrupted', 'NoExecute')])).toBe(false);
  });
});
