import { describe, expect, it } from 'vitest';
import { closureBy, StateAge } from '../../../../src/controller/reservation/node-track.ts';

const by = (changes: Partial<Parameters<typeof closureBy>[0]> = {}) =>
  closureBy({ draining: undefined, refusal: undefined, unheldForMs: undefined, ...changes });

describe('a node', () => {
  it('is open where both Pods are held', () => {
    expect(by()).toEqual({});
  });

  it('gets no more workers after half a minute in which a Pod is refused, until both are held', () => {
    expect(by({ refusal: 'OutOfmemory', unheldForMs: 10_000 })).toEqual({ againAfterMs: 20_000 });
    const closing = { closure: 'unheld', because: 'OutOfmemory' };
    expect(by({ refusal: 'OutOfmemory', unheldForMs: 30_000 })).toEqual({ closing });
    // The Pod was made again, and its kubelet has not looked at it yet.
    expect(by({ unheldForMs: 40_000 }).closing?.closure).toBe('unheld');
  });

  it('that is drained is that before anything else', () => {
    const draining = 'its guard Pod was evicted';
    expect(by({ draining, refusal: 'OutOfmemory', unheldForMs: 30_000 })).toEqual({
      closing: { closure: 'draining', because: draining },
    });
  });
});

it('the age of a state counts from when it was first noted', () => {
  const age = new StateAge();
  expect(age.isNew('held', 1_000)).toBe(true);
  expect(age.isNew('held', 3_000)).toBe(false);
  expect(age.ms(4_000)).toBe(3_000);
  expect(age.isNew('evicted', 5_000)).toBe(true);
  expect(age.ms(5_500)).toBe(500);
});
