import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Goal } from '../../../../src/agent/model/goal.ts';
import {
  type Action,
  isAlive,
  type Manner,
  type Observed,
  type ObservedContainer,
  type Plan,
  plan,
  type Situation,
} from '../../../../src/agent/model/plan.ts';

const shapes = ['v1-a', 'v1-b', 'v1-c'] as const;
const shape = fc.constantFrom(...shapes);
const goals: fc.Arbitrary<Goal> = fc.oneof(
  fc.constant<Goal>({ kind: 'Gone' }),
  fc.constant<Goal>({ kind: 'Absent' }),
  fc.record({
    kind: fc.constantFrom('Paused' as const, 'Running' as const),
    shapeHash: shape,
    warmUp: fc.boolean(),
    warmUpBeside: fc.boolean(),
  }),
);
const states: fc.Arbitrary<Observed> = fc.oneof(
  fc.constantFrom<Observed>(
    { kind: 'Unknown' },
    { kind: 'Unknown', doubt: 'Unanswering' },
    { kind: 'Unknown', doubt: 'Lost' },
    { kind: 'Missing', traces: true },
    { kind: 'Missing', traces: false },
    { kind: 'Created' },
    { kind: 'Stopped' },
  ),
  fc.record({
    kind: fc.constantFrom('Running' as const, 'Paused' as const),
    usable: fc.boolean(),
    ready: fc.boolean(),
    warm: fc.boolean(),
  }),
);
const manner = fc.constantFrom<Manner>('Beside', 'InPlace', 'Later');
/** Up to three containers, of different shapes: the present one and others. */
const situations: fc.Arbitrary<Situation> = fc
  .record({
    order: fc.shuffledSubarray([...shapes], { minLength: 1 }),
    states: fc.tuple(states, states, states),
    manner,
  })
  .map(({ order, states: each, manner: how }) => {
    const [present, ...others] = order.map((shapeHash, index) => ({
      shapeHash,
      state: each[index] ?? { kind: 'Unknown' as const },
      occupied: false,
    }));
    return {
      present: present ?? { shapeHash: 'v1-a', state: each[0], occupied: false },
      others,
      busy: false,
      several: false,
      manner: how,
    };
  });

/** States after an action that was carried out, or that broke off in a crash. The first is the good one. */
function outcomes(action: Action, before: Observed): readonly Observed[] {
  const alive = before.kind === 'Running' || before.kind === 'Paused' ? before : undefined;
  switch (action.kind) {
    case 'Inspect':
      return [
        { kind: 'Missing', traces: true },
        { kind: 'Created' },
        { kind: 'Stopped' },
        { kind: 'Running', usable: true, ready: false, warm: false },
      ];
    case 'Ensure':
      return [
        { kind: 'Running', usable: true, ready: true, warm: false },
        { kind: 'Missing', traces: true },
        { kind: 'Created' },
        { kind: 'Stopped' },
        { kind: 'Unknown' },
      ];
    case 'WarmUp':
      return alive === undefined ? [] : [{ ...alive, warm: true }, { ...alive, usable: false }, { kind: 'Stopped' }];
    case 'Pause':
      return alive === undefined ? [] : [{ ...alive, kind: 'Paused' }, alive, { kind: 'Unknown' }];
    case 'Resume':
      return alive === undefined ? [] : [{ ...alive, kind: 'Running' }, alive, { kind: 'Stopped' }];
    case 'Destroy':
      return [{ kind: 'Missing', traces: false }, { kind: 'Unknown' }, { kind: 'Created' }, { kind: 'Stopped' }];
    default:
      return action satisfies never;
  }
}

/** The situation after a rearrangement. */
function rearranged(goal: Goal, situation: Situation, next: Extract<Plan, { kind: 'Rearrange' }>): Situation {
  const { rearrangement } = next;
  const fresh: ObservedContainer = {
    shapeHash: isAlive(goal) ? goal.shapeHash : '',
    state: { kind: 'Unknown' },
    occupied: false,
  };
  const others = [...situation.others];
  switch (rearrangement.kind) {
    case 'Begin':
      return { ...situation, others: [...others, fresh] };
    case 'Renew':
      return { ...situation, present: fresh, others: [...others, situation.present] };
    case 'Exchange': {
      const [taken] = others.splice(rearrangement.index, 1);
      if (taken === undefined) {
        throw new Error('nothing to exchange');
      }
      return { ...situation, present: taken, others: [...others, situation.present] };
    }
    case 'Drop':
      others.splice(rearrangement.index, 1);
      return { ...situation, others };
    default:
      return rearrangement satisfies never;
  }
}

function isReached(goal: Goal, { present, others }: Situation): boolean {
  const { state } = present;
  if (others.length > 0) {
    return false;
  }
  switch (goal.kind) {
    case 'Gone':
      return state.kind === 'Missing' && !state.traces;
    case 'Absent':
      return state.kind === 'Missing';
    case 'Paused':
      return state.kind === 'Paused' && state.usable && present.shapeHash === goal.shapeHash;
    case 'Running':
      return (
        state.kind === 'Running' &&
        state.usable &&
        state.ready &&
        present.shapeHash === goal.shapeHash &&
        (state.warm || !goal.warmUp)
      );
    default:
      return goal satisfies never;
  }
}

/** Whether a call that comes now could be answered, after a resume maybe. */
function serves({ state }: ObservedContainer): boolean {
  return (state.kind === 'Running' && state.ready && state.usable) || (state.kind === 'Paused' && state.usable);
}

const isIdle = (next: Extract<Plan, { kind: 'Act' }>): boolean =>
  next.present === undefined && next.others.every((action) => action === undefined);

describe('plan', () => {
  it('leads from any containers to every goal, whatever crashes on the way', { tags: ['P25'] }, () => {
    fc.assert(
      fc.property(
        goals,
        situations,
        fc.array(fc.record({ crash: fc.nat(4), lane: fc.nat(3), how: manner }), { maxLength: 8 }),
        (goal, start, turns) => {
          let situation = start;
          for (let step = 0; step < 80; step += 1) {
            const turn = turns[step];
            // In the end there is room for both, or there is not: either leads there.
            const how = turn?.how ?? (start.manner === 'Later' ? 'Beside' : start.manner);
            situation = { ...situation, manner: how };
            const next = plan(goal, situation);
            if (next.kind === 'Rearrange') {
              situation = rearranged(goal, situation, next);
              continue;
            }
            if (isIdle(next)) {
              if (how === 'Later') {
                continue;
              }
              expect(isReached(goal, situation)).toBe(true);
              return;
            }
            // One lane at a time comes to something, in any order.
            const lanes = [next.present, ...next.others];
            const busy = lanes.flatMap((action, index) => (action === undefined ? [] : [index]));
            const index = busy[(turn?.lane ?? 0) % busy.length] ?? 0;
            const action = lanes[index];
            const container = [situation.present, ...situation.others][index];
            if (action === undefined || container === undefined) {
              throw new Error('no action');
            }
            const possible = outcomes(action, container.state);
            const state = possible[(turn?.crash ?? 0) % possible.length] ?? container.state;
            const changed = { ...container, state };
            situation =
              index === 0
                ? { ...situation, present: changed }
                : { ...situation, others: situation.others.with(index - 1, changed) };
          }
          expect.unreachable(`no end from ${JSON.stringify(start)} to ${JSON.stringify(goal)}`);
        },
      ),
      { numRuns: 5_000 },
    );
  });

  it('does nothing at a goal', () => {
    fc.assert(
      fc.property(goals, situations, (goal, situation) => {
        if (isReached(goal, situation)) {
          expect(plan(goal, situation)).toEqual({ kind: 'Act', present: undefined, others: [] });
        }
      }),
      { numRuns: 3_000 },
    );
  });

  it('never freezes, ends, calls or exchanges a worker that a call is in, and thaws one that somebody froze', () => {
    fc.assert(
      fc.property(goals, situations, (goal, idle) => {
        const situation = { ...idle, busy: true };
        const next = plan(goal, situation);
        if (next.kind === 'Rearrange') {
          expect(['Begin', 'Drop']).toContain(next.rearrangement.kind);
          return;
        }
        expect([undefined, 'Inspect', 'Resume']).toContain(next.present?.kind);
        expect(next.present?.kind === 'Resume').toBe(situation.present.state.kind === 'Paused');
      }),
      { numRuns: 3_000 },
    );
  });

  it('touches nothing that a call was left in, sends no calls there, and makes another one beside it when asked to', () => {
    const flags = fc.tuple(fc.boolean(), fc.boolean(), fc.boolean());
    fc.assert(
      fc.property(goals, situations, flags, (goal, idle, [first, ...rest]) => {
        const occupy = (container: ObservedContainer, flag: boolean): ObservedContainer => ({
          ...container,
          occupied: flag && ['Unknown', 'Running', 'Paused'].includes(container.state.kind),
        });
        const present = occupy(idle.present, first);
        const others = idle.others.map((other, index) => occupy(other, rest[index] ?? false));
        const next = plan(goal, { ...idle, present, others });
        if (next.kind === 'Act') {
          for (const [index, each] of [present, ...others].entries()) {
            const action = [next.present, ...next.others][index];
            if (each.occupied) {
              expect([undefined, 'Inspect']).toContain(action?.kind);
            }
          }
          const { state } = present;
          const alive =
            state.kind === 'Running' || state.kind === 'Paused' || (state.kind === 'Unknown' && state.doubt === 'Lost');
          const waits = isAlive(goal) && idle.manner === 'Beside' && present.shapeHash === goal.shapeHash;
          expect(present.occupied && alive && waits, 'one is made beside it').toBe(false);
        } else if (next.rearrangement.kind === 'Exchange' || next.rearrangement.kind === 'Drop') {
          expect(others[next.rearrangement.index]?.occupied).toBe(false);
        }
      }),
      { numRuns: 5_000 },
    );
  });

  it('wakes nothing that rests, and makes nothing that is to be absent', () => {
    fc.assert(
      fc.property(goals, situations, (goal, situation) => {
        const next = plan(goal, situation);
        const kinds = next.kind === 'Act' ? [next.present, ...next.others].map((action) => action?.kind) : [];
        if (goal.kind !== 'Running') {
          expect(kinds).not.toContain('Resume');
        }
        if (goal.kind === 'Gone' || goal.kind === 'Absent') {
          for (const kind of kinds) {
            expect([undefined, 'Inspect', 'Destroy']).toContain(kind);
          }
        }
      }),
      { numRuns: 3_000 },
    );
  });

  it('leaves one that serves in its place until another one does, where there is room for both', () => {
    fc.assert(
      fc.property(goals, situations, (goal, found) => {
        const situation = {
          ...found,
          manner: found.manner === 'InPlace' ? ('Beside' as const) : found.manner,
        };
        if (!isAlive(goal) || !serves(situation.present)) {
          return;
        }
        const next = plan(goal, situation);
        if (next.kind === 'Act') {
          expect(next.present?.kind).not.toBe('Destroy');
          return;
        }
        expect(next.rearrangement.kind).not.toBe('Renew');
        if (next.rearrangement.kind === 'Exchange') {
          const successor = situation.others[next.rearrangement.index];
          expect(successor?.shapeHash).toBe(goal.shapeHash);
          expect(successor !== undefined && serves(successor)).toBe(true);
          expect(successor?.state.kind).toBe(goal.kind);
        }
      }),
      { numRuns: 5_000 },
    );
  });

  it('makes a worker of another shape beside the present one only when asked to', () => {
    fc.assert(
      fc.property(goals, situations, (goal, found) => {
        for (const how of ['InPlace', 'Later'] as const) {
          const next = plan(goal, { ...found, manner: how });
          expect(next.kind === 'Rearrange' && next.rearrangement.kind === 'Begin').toBe(false);
        }
      }),
      { numRuns: 1_000 },
    );
  });
});
