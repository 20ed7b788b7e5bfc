import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decideGuard, type GuardInput } from '../../../../src/controller/reservation/decide-guard.ts';
import type { HoldState, HoldView } from '../../../../src/controller/reservation/hold-view.ts';

const wanted = { image: 'esb:1', graceSeconds: 120 };
const guard = (state: HoldState, changes: Partial<HoldView> = {}): HoldView => ({
  state,
  guarded: state.kind !== 'leaving',
  image: 'esb:1',
  graceSeconds: 120,
  memoryMiB: 0,
  milliCPU: 0,
  ...changes,
});
const decision = (changes: Partial<GuardInput> = {}) =>
  decideGuard({
    exists: true,
    lost: false,
    retired: false,
    cordoned: false,
    departure: undefined,
    taints: [],
    isBack: false,
    isOrphaned: false,
    isTainted: false,
    assigned: 2,
    present: 2,
    wanted,
    pod: undefined,
    sinceMs: 0,
    replaceAfterMs: 10_000,
    ...changes,
  });
const nothing = { action: { kind: 'nothing' } };
const departure = 'karpenter.sh/disrupted';

describe('a node without a guard', () => {
  it('gets one with its first worker', () => {
    expect(decision()).toEqual({ action: { kind: 'create' } });
    expect(decision({ assigned: 1, present: 0 })).toEqual({ action: { kind: 'create' } });
    expect(decision({ assigned: 0 })).toEqual(nothing);
  });

  it('gets none when it is lost, gone or retired', () => {
    expect(decision({ lost: true })).toEqual(nothing);
    expect(decision({ exists: false })).toEqual(nothing);
    expect(decision({ retired: true })).toEqual(nothing);
  });

  it('gets one though it is cordoned, since a drain may follow', () => {
    expect(decision({ cordoned: true })).toEqual({ action: { kind: 'create' } });
  });
});

describe('a node with a guard', () => {
  const pod = guard({ kind: 'held' });

  it('is left alone', () => {
    expect(decision({ pod })).toEqual(nothing);
    expect(decision({ pod: guard({ kind: 'waiting' }) })).toEqual(nothing);
    // The agent has not told yet; or it has told and is still at work.
    expect(decision({ pod, assigned: 1, present: 0 })).toEqual(nothing);
    expect(decision({ pod, assigned: 0, present: 1 })).toEqual(nothing);
  });

  it('keeps its workers when it is cordoned', () => {
    expect(decision({ pod, cordoned: true })).toEqual(nothing);
  });

  it('loses it once nothing is left there', () => {
    expect(decision({ pod, assigned: 0, present: 0 }).action.kind).toBe('remove');
    // The last word of a silent agent is no reason to keep it.
    expect(decision({ pod, assigned: 0, present: 3, lost: true }).action.kind).toBe('remove');
    expect(decision({ pod, exists: false }).action.kind).toBe('remove');
  });

  it('gets another one for a longer call, and keeps it for shorter ones', () => {
    expect(decision({ pod, wanted: { ...wanted, graceSeconds: 960 } }).action.kind).toBe('remove');
    expect(decision({ pod: { ...pod, graceSeconds: 960 } })).toEqual(nothing);
  });

  it('gets another one where the finalizer is gone', () => {
    expect(decision({ pod: { ...pod, guarded: false } }).action.kind).toBe('remove');
  });

  it('gets another image in its place', () => {
    expect(decision({ pod: { ...pod, image: 'esb:0' } }).action).toEqual({ kind: 'renewImage', image: 'esb:1' });
  });

  it('gets another one after a while when the kubelet has ended it', () => {
    const ended = guard({ kind: 'ended', refusal: 'OutOfpods' });
    expect(decision({ pod: ended, sinceMs: 4_000 })).toEqual({ ...nothing, refusal: 'OutOfpods', againAfterMs: 6_000 });
    expect(decision({ pod: ended, sinceMs: 10_000 }).action.kind).toBe('remove');
  });
});

describe('a node whose guard was evicted', () => {
  const pod = guard({ kind: 'evicted' });

  it('is being drained until it has no workers', () => {
    const draining = { ...nothing, draining: 'its guard Pod was evicted' };
    expect(decision({ pod, cordoned: true, sinceMs: 3_600_000 })).toEqual(draining);
    expect(decision({ pod, cordoned: true, assigned: 0, present: 1 })).toEqual(draining);
    expect(decision({ pod, departure, sinceMs: 3_600_000 })).toEqual(draining);
    expect(decision({ pod, cordoned: true, assigned: 0, present: 0 })).toEqual({
      action: { kind: 'release', because: 'drained' },
    });
  });

  it('keeps its workers as soon as it is back', () => {
    expect(decision({ pod, sinceMs: 20_000, isBack: true })).toEqual({
      action: { kind: 'release', because: 'calledOff' },
    });
  });

  it('is drained for a minute where it was not cordoned, and then keeps what it could not get rid of', () => {
    expect(decision({ pod, sinceMs: 20_000 })).toMatchObject({ ...nothing, againAfterMs: 40_000 });
    expect(decision({ pod, sinceMs: 60_000 })).toEqual({ action: { kind: 'release', because: 'calledOff' } });
  });

  it('is not drained where a taint evicted the guard: workers have tolerations of their own', () => {
    expect(decision({ pod, isTainted: true })).toEqual({ action: { kind: 'release', because: 'tainted' } });
    expect(decision({ pod, isTainted: true, cordoned: true }).draining).toBeDefined();
  });

  it('lets it go when the node is gone, or lost and left by all', () => {
    expect(decision({ pod, exists: false }).action).toEqual({ kind: 'release', because: 'gone' });
    expect(decision({ pod, lost: true, assigned: 0, present: 5 }).action.kind).toBe('release');
  });

  it('waits until it has left before it gets another one', () => {
    expect(decision({ pod: guard({ kind: 'leaving' }) })).toEqual({ ...nothing, againAfterMs: 10_000 });
  });

  it('ends one that was let go and is still there, since its grace may be many minutes', () => {
    const pod = guard({ kind: 'leaving' });
    expect(decision({ pod, assigned: 0, present: 0, sinceMs: 10_000 }).action.kind).toBe('remove');
    expect(decision({ pod, sinceMs: 10_000 }).action.kind).toBe('remove');
  });
});

describe('a node with a taint of departure', () => {
  it('is drained before its guard is evicted, and while it has workers', () => {
    const draining = `its Node has the taint ${departure}`;
    expect(decision({ pod: guard({ kind: 'held' }), departure })).toEqual({ ...nothing, draining });
    expect(decision({ departure })).toEqual({ action: { kind: 'create' }, draining });
    expect(decision({ departure, assigned: 0, present: 0 })).toEqual(nothing);
  });
});

describe('whatever is known of the node', () => {
  const states: fc.Arbitrary<HoldState> = fc.constantFrom<HoldState>(
    { kind: 'waiting' },
    { kind: 'held' },
    { kind: 'ended', refusal: 'OutOfpods' },
    { kind: 'evicted' },
    { kind: 'leaving' },
  );
  const inputs: fc.Arbitrary<GuardInput> = fc.record({
    exists: fc.boolean(),
    lost: fc.boolean(),
    retired: fc.boolean(),
    cordoned: fc.boolean(),
    departure: fc.constantFrom(undefined, departure),
    taints: fc.constant([]),
    isBack: fc.boolean(),
    isOrphaned: fc.boolean(),
    isTainted: fc.boolean(),
    assigned: fc.integer({ min: 0, max: 2 }),
    present: fc.integer({ min: 0, max: 2 }),
    wanted: fc.record({
      image: fc.constantFrom('esb:1', 'esb:2'),
      graceSeconds: fc.constantFrom(120, 960),
    }),
    pod: fc.option(
      states.map((state) => guard(state)),
      { nil: undefined },
    ),
    sinceMs: fc.integer({ min: 0, max: 100_000 }),
    replaceAfterMs: fc.constant(10_000),
  });

  it('nobody who drains it is let go before it is empty, unless the drain is over or the node', () => {
    fc.assert(
      fc.property(inputs, (input) => {
        const { action } = decideGuard(input);
        if (
          action.kind === 'release' &&
          input.exists &&
          !input.isOrphaned &&
          (input.cordoned || input.retired || input.departure !== undefined)
        ) {
          expect(input.assigned).toBe(0);
          expect(input.lost || input.present === 0).toBe(true);
        }
      }),
    );
  });

  it('a cordon alone moves nobody', () => {
    fc.assert(
      fc.property(inputs, (input) => {
        if (input.departure === undefined && input.pod?.state.kind !== 'evicted') {
          expect(decideGuard(input).draining).toBeUndefined();
        }
      }),
    );
  });

  it('what waits for time says for how long, and does something else then', () => {
    fc.assert(
      fc.property(inputs, (input) => {
        const made = decideGuard(input);
        if (made.againAfterMs !== undefined) {
          expect(made.againAfterMs).toBeGreaterThan(0);
          expect(decideGuard({ ...input, sinceMs: input.sinceMs + made.againAfterMs })).not.toEqual(made);
        }
      }),
    );
  });
});
