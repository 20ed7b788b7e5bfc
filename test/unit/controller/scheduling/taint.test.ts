import { describe, expect, it } from 'vitest';
import {
  evictionBy,
  type Taint,
  type Tolerations,
  taintText,
  taintVerdict,
} from '../../../../src/controller/scheduling/taint.ts';

const taint = (effect: Taint['effect'], value?: string, key = 'dedicated'): Taint => ({
  key,
  effect,
  ...(value === undefined ? {} : { value }),
});
const by = (...tolerations: Partial<Tolerations[number]>[]): Tolerations =>
  tolerations.map((one) => ({ operator: 'Equal', ...one }));

describe('taintVerdict', () => {
  it.each<[string, Tolerations, boolean]>([
    ['none', by(), false],
    ['another key', by({ key: 'other', value: 'lambda' }), false],
    ['another value', by({ key: 'dedicated', value: 'web' }), false],
    ['no value', by({ key: 'dedicated' }), false],
    ['the same value', by({ key: 'dedicated', value: 'lambda' }), true],
    ['any value', by({ key: 'dedicated', operator: 'Exists' }), true],
    ['the same effect', by({ key: 'dedicated', value: 'lambda', effect: 'NoSchedule' }), true],
    ['another effect', by({ key: 'dedicated', value: 'lambda', effect: 'NoExecute' }), false],
    ['every taint', by({ operator: 'Exists' }), true],
    ['every taint of another effect', by({ operator: 'Exists', effect: 'NoExecute' }), false],
    ['one of two', by({ key: 'other' }, { key: 'dedicated', value: 'lambda' }), true],
  ])('with a toleration of %s', (_what, tolerations, isFree) => {
    expect(taintVerdict([taint('NoSchedule', 'lambda')], tolerations)).toBe(isFree ? 'free' : 'barred');
    expect(taintVerdict([taint('PreferNoSchedule', 'lambda')], by())).toBe('discouraged');
  });

  it('takes an empty value for none', () => {
    expect(taintVerdict([taint('NoSchedule')], by({ key: 'dedicated' }))).toBe('free');
    expect(taintVerdict([taint('NoSchedule', '')], by({ key: 'dedicated' }))).toBe('free');
  });

  it('is as strict as the strictest of all', () => {
    expect(taintVerdict([taint('PreferNoSchedule'), taint('NoExecute')], by())).toBe('barred');
    expect(taintVerdict([], by())).toBe('free');
  });
});

describe('evictionBy', () => {
  const first = (taints: readonly Taint[], tolerations: Tolerations, sinceMs = 0) =>
    evictionBy(taints, tolerations, () => sinceMs);

  it('is by NoExecute alone', () => {
    expect(first([taint('NoSchedule'), taint('PreferNoSchedule')], by())).toBeUndefined();
    expect(first([taint('NoExecute')], by())).toEqual({ taint: taint('NoExecute'), inMs: 0 });
  });

  it('is not by what Kubernetes says of a silent kubelet', () => {
    const silent = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'];
    expect(
      first(
        silent.map((key) => taint('NoExecute', undefined, key)),
        by(),
      ),
    ).toBeUndefined();
  });

  it('waits for the shortest time that the worker tolerates it, counted from when it was seen', () => {
    const within = (tolerationSeconds: number) => ({
      key: 'dedicated',
      operator: 'Exists' as const,
      effect: 'NoExecute' as const,
      tolerationSeconds,
    });
    expect(first([taint('NoExecute')], by({ operator: 'Exists' }))).toBeUndefined();
    expect(first([taint('NoExecute')], by(within(60), within(30)), 10_000)?.inMs).toBe(20_000);
    expect(first([taint('NoExecute')], by(within(60), { operator: 'Exists' }), 10_000)?.inMs).toBe(50_000);
    expect(first([taint('NoExecute')], by(within(-5)))?.inMs).toBe(0);
    const soonest = first([taint('NoExecute'), taint('NoExecute', undefined, 'other')], by(within(60)));
    expect(soonest).toEqual({ taint: taint('NoExecute', undefined, 'other'), inMs: 0 });
  });
});

describe('taintText', () => {
  it('is how people write a taint', () => {
    expect(taintText(taint('NoExecute', 'a'))).toBe('dedicated=a:NoExecute');
    expect(taintText(taint('NoSchedule', ''))).toBe('dedicated:NoSchedule');
  });
});
