import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decideHold, type HoldInput } from '../../../../src/controller/reservation/decide.ts';
import type { HoldState, HoldView } from '../../../../src/controller/reservation/hold-pod.ts';

const wanted = { image: 'esb:1', memoryMiB: 1024 };
const pod = (state: HoldState, changes: Partial<HoldView> = {}): HoldView => ({
  state,
  guarded: state.kind !== 'leaving',
  image: 'esb:1',
  memoryMiB: 1024,
  ...changes,
});
const decision = (changes: Partial<HoldInput> = {}) =>
  decideHold({
    exists: true,
    lost: false,
    retired: false,
    cordoned: false,
    uncordoned: false,
    assigned: 2,
    present: 2,
    wanted,
    pod: undefined,
    sinceMs: 0,
    unheldForMs: undefined,
    ...changes,
  });
const nothing = { action: { kind: 'nothing' } };
const refusal = '0/2 nodes are available: 1 Insufficient memory';

describe('a node without hold Pod', () => {
  it('gets one with its first worker', () => {
    expect(decision()).toEqual({ action: { kind: 'create' } });
    expect(decision({ assigned: 1, present: 0 })).toEqual({ action: { kind: 'create' } });
    expect(decision({ assigned: 0 })).toEqual(nothing);
  });

  it('gets none when it is lost, gone, retired or says nothing of its memory', () => {
    expect(decision({ lost: true })).toEqual(nothing);
    expect(decision({ exists: false })).toEqual(nothing);
    expect(decision({ retired: true })).toEqual(nothing);
    expect(decision({ wanted: { ...wanted, memoryMiB: 0 } })).toEqual(nothing);
  });

  it('gets one though it is cordoned: its workers take their memory all the same', () => {
    expect(decision({ cordoned: true })).toEqual({ action: { kind: 'create' } });
  });
});

describe('a node whose hold Pod is held', () => {
  const held = pod({ kind: 'held' });

  it('is left alone', () => {
    expect(decision({ pod: held })).toEqual(nothing);
    expect(decision({ pod: held, cordoned: true })).toEqual(nothing);
    // The agent has not told yet; or it has told and is still at work.
    expect(decision({ pod: held, assigned: 1, present: 0 })).toEqual(nothing);
    expect(decision({ pod: held, assigned: 0, present: 1 })).toEqual(nothing);
  });

  it('loses it once nothing is left there', () => {
    expect(decision({ pod: held, assigned: 0, present: 0 }).action.kind).toBe('remove');
    // The last word of a silent agent is no reason to keep it.
    expect(decision({ pod: held, assigned: 0, present: 3, lost: true }).action.kind).toBe('remove');
    expect(decision({ pod: held, exists: false }).action.kind).toBe('remove');
  });

  it('gets another one for another capacity, and another image in its place', () => {
    expect(decision({ pod: { ...held, memoryMiB: 512 } }).action.kind).toBe('remove');
    expect(decision({ pod: { ...held, guarded: false } }).action.kind).toBe('remove');
    expect(decision({ pod: { ...held, image: 'esb:0' } }).action).toEqual({ kind: 'renewImage' });
  });
});

describe('a hold Pod whose memory is a little more than the node promises', () => {
  it('stays, since a new kernel changes what a machine has by some MiB', () => {
    const held = pod({ kind: 'held' });
    expect(decision({ pod: { ...held, memoryMiB: 1_040 } })).toEqual(nothing);
    expect(decision({ pod: { ...held, memoryMiB: 1_060 } }).action.kind).toBe('remove');
    // Each MiB that is promised is held.
    expect(decision({ pod: { ...held, memoryMiB: 1_023 } }).action.kind).toBe('remove');
  });
});

describe('a node whose hold Pod was evicted', () => {
  const evicted = pod({ kind: 'evicted' });

  it('is being drained until it has no workers', () => {
    const draining = { action: { kind: 'nothing' }, closure: 'draining' };
    expect(decision({ pod: evicted, cordoned: true, sinceMs: 3_600_000 })).toEqual(draining);
    expect(decision({ pod: evicted, cordoned: true, assigned: 0, present: 1 })).toEqual(draining);
    expect(decision({ pod: evicted, cordoned: true, assigned: 0, present: 0 })).toEqual({
      action: { kind: 'release', because: 'drained' },
    });
  });

  it('keeps its workers as soon as it is uncordoned', () => {
    expect(decision({ pod: evicted, sinceMs: 20_000, uncordoned: true })).toEqual({
      action: { kind: 'release', because: 'calledOff' },
    });
  });

  it('is drained for a minute where it was not cordoned, and then keeps what it could not get rid of', () => {
    expect(decision({ pod: evicted, sinceMs: 20_000 })).toEqual({
      action: { kind: 'nothing' },
      closure: 'draining',
      againAfterMs: 40_000,
    });
    expect(decision({ pod: evicted, sinceMs: 60_000 })).toEqual({
      action: { kind: 'release', because: 'calledOff' },
    });
  });

  it('lets it go when the node is gone, or lost and left by all', () => {
    expect(decision({ pod: evicted, exists: false }).action).toEqual({ kind: 'release', because: 'gone' });
    expect(decision({ pod: evicted, lost: true, assigned: 0, present: 5 }).action.kind).toBe('release');
  });

  it('waits until it has left before it gets another one', () => {
    expect(decision({ pod: pod({ kind: 'leaving' }) })).toEqual(nothing);
  });
});

describe('a node whose hold Pod is refused', () => {
  it('gets no more workers after half a minute, until one is held', () => {
    const waiting = pod({ kind: 'waiting', refusal });
    expect(decision({ pod: waiting, unheldForMs: 10_000 })).toEqual({
      action: { kind: 'nothing' },
      refusal,
      againAfterMs: 20_000,
    });
    expect(decision({ pod: waiting, unheldForMs: 30_000 })).toEqual({
      action: { kind: 'nothing' },
      refusal,
      closure: 'unheld',
    });
    expect(decision({ pod: pod({ kind: 'held' }) }).closure).toBeUndefined();
    // Not looked at yet is not refused.
    expect(decision({ pod: pod({ kind: 'waiting' }) })).toEqual(nothing);
    expect(decision({ pod: pod({ kind: 'waiting' }), unheldForMs: 40_000 }).closure).toBe('unheld');
  });

  it('gets another one after a while when the kubelet has ended it', () => {
    const ended = pod({ kind: 'ended', refusal: 'OutOfmemory' });
    expect(decision({ pod: ended, sinceMs: 4_000, unheldForMs: 4_000 })).toMatchObject({
      action: { kind: 'nothing' },
      againAfterMs: 6_000,
    });
    expect(decision({ pod: ended, sinceMs: 10_000, unheldForMs: 10_000 }).action.kind).toBe('remove');
    expect(decision({ unheldForMs: 31_000 })).toEqual({ action: { kind: 'create' }, closure: 'unheld' });
  });
});

describe('whatever is known of the node', () => {
  const states: fc.Arbitrary<HoldState> = fc.constantFrom<HoldState>(
    { kind: 'waiting' },
    { kind: 'waiting', refusal },
    { kind: 'held' },
    { kind: 'ended', refusal },
    { kind: 'evicted' },
    { kind: 'leaving' },
  );
  const inputs: fc.Arbitrary<HoldInput> = fc.record({
    exists: fc.boolean(),
    lost: fc.boolean(),
    retired: fc.boolean(),
    cordoned: fc.boolean(),
    uncordoned: fc.boolean(),
    assigned: fc.integer({ min: 0, max: 2 }),
    present: fc.integer({ min: 0, max: 2 }),
    wanted: fc.record({
      image: fc.constantFrom('esb:1', 'esb:2'),
      memoryMiB: fc.constantFrom(0, 512, 1024),
    }),
    pod: fc.option(
      states.map((state) => pod(state)),
      { nil: undefined },
    ),
    sinceMs: fc.integer({ min: 0, max: 100_000 }),
    unheldForMs: fc.option(fc.integer({ min: 0, max: 100_000 }), { nil: undefined }),
  });

  it('nobody who drains it is let go before it is empty, unless the drain is over or the node', () => {
    fc.assert(
      fc.property(inputs, (input) => {
        const { action } = decideHold(input);
        if (action.kind === 'release' && input.exists && (input.cordoned || input.retired)) {
          expect(input.assigned).toBe(0);
          expect(input.lost || input.present === 0).toBe(true);
        }
      }),
    );
  });

  it('what waits for time says for how long, and does something else then', () => {
    fc.assert(
      fc.property(inputs, (input) => {
        const made = decideHold(input);
        if (made.againAfterMs !== undefined) {
          expect(made.againAfterMs).toBeGreaterThan(0);
          const later = decideHold({
            ...input,
            sinceMs: input.sinceMs + made.againAfterMs,
            unheldForMs: input.unheldForMs === undefined ? undefined : input.unheldForMs + made.againAfterMs,
          });
          expect(later).not.toEqual(made);
        }
      }),
    );
  });
});
