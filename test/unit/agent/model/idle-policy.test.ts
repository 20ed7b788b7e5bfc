import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type IdlePolicy,
  idleUnder,
  type Rest,
  renewed,
  restAt,
  restNow,
  touched,
} from '../../../../src/agent/model/idle-policy.ts';
import { manualClock } from '../../../support/manual-clock.ts';

const at = (policy: IdlePolicy, seconds: number, lifted = true): Rest =>
  restAt(policy, { idleMs: seconds * 1_000, lifted }).state;

describe('the state a worker rests in', () => {
  it.each<[string, IdlePolicy, readonly [number, Rest][]]>([
    [
      'Running',
      { restingState: 'Running' },
      [
        [0, 'Running'],
        [1e6, 'Running'],
      ],
    ],
    [
      'Running, paused and removed when idle',
      { restingState: 'Running', pauseAfterSeconds: 30, removeAfterSeconds: 900 },
      [
        [29, 'Running'],
        [30, 'Paused'],
        [899, 'Paused'],
        [900, 'Absent'],
      ],
    ],
    [
      'Running, removed when idle',
      { restingState: 'Running', removeAfterSeconds: 900 },
      [
        [899, 'Running'],
        [900, 'Absent'],
      ],
    ],
    [
      'Paused',
      { restingState: 'Paused' },
      [
        [0, 'Running'],
        [9, 'Running'],
        [10, 'Paused'],
        [1e6, 'Paused'],
      ],
    ],
    [
      'Paused, with times of its own',
      { restingState: 'Paused', pauseAfterSeconds: 2, removeAfterSeconds: 60 },
      [
        [1, 'Running'],
        [2, 'Paused'],
        [60, 'Absent'],
      ],
    ],
    [
      'Absent',
      { restingState: 'Absent' },
      [
        [9, 'Running'],
        [10, 'Absent'],
      ],
    ],
    [
      'Absent, kept frozen for a while',
      { restingState: 'Absent', pauseAfterSeconds: 5, removeAfterSeconds: 60 },
      [
        [4, 'Running'],
        [5, 'Paused'],
        [59, 'Paused'],
        [60, 'Absent'],
      ],
    ],
  ])('%s', (_what, policy, expected) => {
    for (const [seconds, state] of expected) {
      expect(at(policy, seconds), `after ${seconds} s`).toBe(state);
    }
  });

  it('is the resting state itself where no call has lifted it', () => {
    expect(at({ restingState: 'Paused' }, 0, false)).toBe('Paused');
    expect(at({ restingState: 'Paused', removeAfterSeconds: 60 }, 60, false)).toBe('Absent');
    expect(at({ restingState: 'Absent', removeAfterSeconds: 60 }, 0, false)).toBe('Absent');
  });

  it('only ever sinks, and says when it will sink next', () => {
    const order: readonly Rest[] = ['Running', 'Paused', 'Absent'];
    fc.assert(
      fc.property(
        fc.record({
          restingState: fc.constantFrom<Rest[]>('Running', 'Paused', 'Absent'),
          pause: fc.option(fc.integer({ min: 1, max: 50 }), { nil: undefined }),
          remove: fc.option(fc.integer({ min: 51, max: 99 }), { nil: undefined }),
        }),
        fc.boolean(),
        fc.nat(100_000),
        ({ restingState, pause, remove }, lifted, idleMs) => {
          const policy: IdlePolicy = {
            restingState,
            ...(pause === undefined ? {} : { pauseAfterSeconds: pause }),
            ...(remove === undefined ? {} : { removeAfterSeconds: remove }),
          };
          const now = restAt(policy, { idleMs, lifted });
          const { runsMs } = idleUnder(policy, { since: 0, lifted });
          expect(idleMs < runsMs, 'runs for so long').toBe(now.state === 'Running');
          if (now.changesInMs === undefined) {
            expect(restAt(policy, { idleMs: idleMs + 1e9, lifted }).state).toBe(now.state);
            return;
          }
          expect(now.changesInMs).toBeGreaterThan(0);
          expect(restAt(policy, { idleMs: idleMs + now.changesInMs - 1, lifted }).state).toBe(now.state);
          const next = restAt(policy, { idleMs: idleMs + now.changesInMs, lifted }).state;
          expect(order.indexOf(next)).toBeGreaterThan(order.indexOf(now.state));
        },
      ),
    );
  });
});

describe('the idle clock', () => {
  it('does not care for steps of the wall clock', { tags: ['M19'] }, async () => {
    const clock = manualClock();
    const policy: IdlePolicy = { restingState: 'Running', pauseAfterSeconds: 10 };
    let idle = idleUnder(policy, { since: clock.monotonic(), lifted: false });
    clock.step(3_600_000);
    expect(restNow(idle, policy, clock.monotonic()).state).toBe('Running');
    await clock.advance(10_000);
    expect(restNow(idle, policy, clock.monotonic()).state).toBe('Paused');
    clock.step(-7_200_000);
    idle = touched(policy, clock.monotonic());
    expect(restNow(idle, policy, clock.monotonic())).toEqual({ state: 'Running', changesInMs: 10_000 });
  });

  it('starts anew with a change of the resource, which wakes what rests Running and nothing else', () => {
    const running: IdlePolicy = { restingState: 'Running', pauseAfterSeconds: 10 };
    let idle = renewed(idleUnder(running, { since: 0, lifted: false }), running, running, 20_000);
    expect(restNow(idle, running, 20_000).state).toBe('Running');
    const paused: IdlePolicy = { restingState: 'Paused' };
    idle = renewed(touched(paused, 20_000), paused, paused, 40_000);
    expect(restNow(idle, paused, 40_000).state).toBe('Paused');
    idle = renewed(touched(paused, 40_000), paused, paused, 40_000);
    expect(restNow(idle, paused, 40_000).state).toBe('Running');
    idle = renewed(idle, running, paused, 40_000);
    expect(restNow(idle, paused, 40_000).state).toBe('Paused');
  });
});
