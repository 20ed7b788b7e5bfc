import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Goal } from '../../../src/agent/goal.ts';
import { type Action, type Observed, plan } from '../../../src/agent/plan.ts';

const shape = fc.constantFrom('v1-a', 'v1-b');
const goals: fc.Arbitrary<Goal> = fc.oneof(
  fc.constant<Goal>({ kind: 'Gone' }),
  fc.constant<Goal>({ kind: 'Absent' }),
  fc.record({ kind: fc.constantFrom('Paused', 'Running'), shapeHash: shape, warmUp: fc.boolean() }),
);
const states: fc.Arbitrary<Observed> = fc.oneof(
  fc.constantFrom<Observed>(
    { kind: 'Unknown' },
    { kind: 'Missing', traces: true },
    { kind: 'Created' },
    { kind: 'Stopped' },
  ),
  fc.record({
    kind: fc.constantFrom('Running', 'Paused'),
    shapeHash: shape,
    usable: fc.boolean(),
    warm: fc.boolean(),
  }),
);

/** What may be there after an action that was carried out, or in whose middle something crashed. */
function outcomes(action: Action, before: Observed, goal: Goal): readonly Observed[] {
  const shapeHash = 'shapeHash' in goal ? goal.shapeHash : 'v1-a';
  const alive = before.kind === 'Running' || before.kind === 'Paused' ? before : undefined;
  switch (action.kind) {
    case 'Inspect':
      return [{ kind: 'Missing', traces: true }, { kind: 'Created' }, { kind: 'Stopped' }];
    case 'Ensure':
      return [
        { kind: 'Running', shapeHash, usable: true, warm: false },
        { kind: 'Missing', traces: true },
        { kind: 'Created' },
        { kind: 'Stopped' },
        { kind: 'Unknown' },
      ];
    case 'WarmUp':
      return alive === undefined
        ? []
        : [{ ...alive, warm: true }, { ...alive, usable: false }, { kind: 'Stopped' }];
    case 'Pause':
      return alive === undefined ? [] : [{ ...alive, kind: 'Paused' }, alive, { kind: 'Unknown' }];
    case 'Resume':
      return alive === undefined ? [] : [{ ...alive, kind: 'Running' }, alive, { kind: 'Stopped' }];
    case 'Destroy':
      return [
        { kind: 'Missing', traces: false },
        { kind: 'Unknown' },
        { kind: 'Created' },
        { kind: 'Stopped' },
      ];
    default:
      return action satisfies never;
  }
}

function reached(goal: Goal, observed: Observed): boolean {
  switch (goal.kind) {
    case 'Gone':
      return observed.kind === 'Missing' && !observed.traces;
    case 'Absent':
      return observed.kind === 'Missing';
    case 'Paused':
      return observed.kind === 'Paused' && observed.usable && observed.shapeHash === goal.shapeHash;
    case 'Running':
      return (
        observed.kind === 'Running' &&
        observed.usable &&
        observed.shapeHash === goal.shapeHash &&
        (observed.warm || !goal.warmUp)
      );
    default:
      return goal satisfies never;
  }
}

describe('plan', () => {
  it('leads from every state to every goal, whatever crashes on the way', () => {
    fc.assert(
      fc.property(goals, states, fc.array(fc.nat(4), { maxLength: 6 }), (goal, start, crashes) => {
        let observed = start;
        for (let step = 0; step < 30; step += 1) {
          const action = plan(goal, observed, false);
          if (action === undefined) {
            expect(reached(goal, observed)).toBe(true);
            return;
          }
          const possible = outcomes(action, observed, goal);
          // Once the crashes are used up everything works: the first outcome is the good one.
          observed = possible[(crashes[step] ?? 0) % possible.length] ?? observed;
        }
        expect.unreachable(`no end from ${JSON.stringify(start)} to ${JSON.stringify(goal)}`);
      }),
      { numRuns: 3_000 },
    );
  });

  it('does nothing at a goal', () => {
    fc.assert(
      fc.property(goals, states, (goal, observed) => {
        if (reached(goal, observed)) {
          expect(plan(goal, observed, false)).toBeUndefined();
        }
      }),
    );
  });

  it('never freezes, ends or calls a worker that a call is in, and thaws one that somebody froze', () => {
    fc.assert(
      fc.property(goals, states, (goal, observed) => {
        const action = plan(goal, observed, true);
        expect([undefined, 'Inspect', 'Resume']).toContain(action?.kind);
        expect(action?.kind === 'Resume').toBe(observed.kind === 'Paused');
      }),
    );
  });

  it('wakes nothing that rests, and makes nothing that is to be absent', () => {
    fc.assert(
      fc.property(goals, states, (goal, observed) => {
        const action = plan(goal, observed, false);
        if (goal.kind !== 'Running') {
          expect(action?.kind).not.toBe('Resume');
        }
        if (goal.kind === 'Gone' || goal.kind === 'Absent') {
          expect([undefined, 'Inspect', 'Destroy']).toContain(action?.kind);
        }
      }),
    );
  });
});
