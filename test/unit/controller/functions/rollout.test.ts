import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type LambdaFunction, templateHashOf } from '../../../../src/api/lambda-function.ts';
import type { LambdaWorker } from '../../../../src/api/lambda-worker.ts';
import { unreachable } from '../../../../src/common/errors.ts';
import { isUpdated, isWorkerReady, isWorkerStalled } from '../../../../src/controller/functions/readiness.ts';
import {
  budgetOf,
  type ChangeInput,
  nextToChange,
  type RolloutSettings,
  type RolloutState,
  rolloutOf,
  serves,
  stopMessage,
  untilDeadline,
} from '../../../../src/controller/functions/rollout.ts';
import { groupsOf, latestOf } from '../../../../src/controller/functions/worker-groups.ts';
import { condition, functionFixture, type OwnedFixture, ownedFixture } from '../../../support/function-fixture.ts';

const usual: RolloutSettings = { maxSurge: '25%', maxUnavailable: 0, progressDeadlineSeconds: 600 };
const NOW = Date.parse('2026-11-02T03:04:05Z');

/** A function of the image `hello:N`. */
function template(number: number, minWorkers: number, settings: Partial<RolloutSettings> = {}): LambdaFunction {
  const rollout = { ...usual, ...settings };
  return functionFixture({ image: `registry.example/hello:${number}`, minWorkers, spec: { rollout } });
}

function groups(owner: LambdaFunction) {
  return groupsOf({ owner, template: templateHashOf(owner.spec.template), versions: [], isAwaited: false });
}

function next(
  owner: LambdaFunction,
  staying: readonly LambdaWorker[],
  isStopped = false,
  leaving: readonly LambdaWorker[] = [],
): readonly number[] {
  const group = latestOf(groups(owner));
  const settings = owner.spec.rollout;
  return chosenOf({ group, staying, leaving, settings, isStopped }).map(({ metadata }) =>
    Number(metadata.name.split('-').at(-1)),
  );
}

/** All that may change now, those without a turn first. */
function chosenOf(input: Omit<ChangeInput, 'changing' | 'leaving'> & Partial<ChangeInput>): readonly LambdaWorker[] {
  const { atOnce, inTurn } = nextToChange({ changing: new Set(), leaving: [], ...input });
  return [...atOnce, ...inTurn];
}

const changing = { conditions: [condition('Ready', 'False', 'Replacing'), condition('Callable', 'True')] };
const away = { conditions: [condition('Ready', 'False', 'Creating'), condition('Callable', 'False')] };
const stalled = { conditions: [...changing.conditions, condition('Stalled', 'True', 'ImageNotFound')] };
const lost = { conditions: [condition('Ready', 'Unknown', 'NodeLost')] };

describe('the budget of a change', () => {
  const { spec } = functionFixture();
  it.each([
    ['25%', 0, 10, 3, 0],
    ['25%', '25%', 10, 3, 2],
    ['0%', '10%', 5, 0, 1],
    [0, '50%', 3, 0, 1],
    [2, 1, 1, 2, 1],
    ['25%', 0, 0, 0, 1],
  ])(
    'of maxSurge %s and maxUnavailable %s, for %i workers, is %i and %i',
    (maxSurge, maxUnavailable, wanted, ...is) => {
      const { surge, unavailable } = budgetOf({ ...usual, maxSurge, maxUnavailable }, spec.template, wanted);
      expect([surge, unavailable]).toEqual(is);
    },
  );

  it('has no surge with network mode Host', () => {
    const host = { spec: { ...spec.template.spec, network: { mode: 'Host' as const } } };
    expect(budgetOf(usual, host, 8)).toEqual({ surge: 0, unavailable: 1 });
  });
});

describe('the workers that a change goes to', () => {
  const before = template(1, 8);
  const old = (...ordinals: readonly number[]) => ordinals.map((ordinal) => ownedFixture(before, ordinal));
  const of = (owner: LambdaFunction, ordinal: number, status: OwnedFixture['status'] = {}) =>
    ownedFixture(owner, ordinal, { status });

  it('are as many as maxSurge while all serve, and the next ones follow those that are ready', () => {
    const owner = template(2, 8);
    expect(next(owner, old(0, 1, 2, 3, 4, 5, 6, 7))).toEqual([0, 1]);
    const begun = [of(owner, 0, changing), of(owner, 1, changing)];
    expect(next(owner, [...begun, ...old(2, 3, 4, 5, 6, 7)])).toEqual([]);
    expect(next(owner, [of(owner, 0), of(owner, 1, changing), ...old(2, 3, 4, 5, 6, 7)])).toEqual([2]);
  });

  it('are no further ones while more than maxUnavailable are away, and go on beside one that no node has room for', () => {
    const rest = old(1, 2, 3, 4, 5, 6, 7);
    const strict = template(2, 8, { maxSurge: 2 });
    expect(next(strict, [of(strict, 0, away), ...rest])).toEqual([]);
    const lenient = template(2, 8, { maxSurge: 2, maxUnavailable: 1 });
    expect(next(lenient, [of(lenient, 0, away), ...rest])).toEqual([1, 2]);
    expect(next(lenient, rest)).toEqual([1, 2]);
    expect(next(lenient, rest.slice(1))).toEqual([]);
  });

  it('are as many as maxUnavailable where nothing may surge', () => {
    const owner = template(2, 8, { maxSurge: 0, maxUnavailable: 3 });
    expect(next(owner, old(0, 1, 2, 3, 4, 5, 6, 7))).toEqual([0, 1, 2]);
  });

  it('begin with those that are changing already, which take no further place', () => {
    const second = template(2, 8);
    const third = template(3, 8);
    const middle = [of(second, 0), of(second, 1, changing), of(second, 2, changing), ...old(3, 4, 5, 6, 7)];
    expect(next(third, middle)).toEqual([1, 2]);
    // Back to the first template: those that never changed have it.
    expect(next(before, middle)).toEqual([1, 2]);
    expect(next(before, [of(second, 0), of(before, 1), of(before, 2, changing), ...old(3, 4, 5, 6, 7)])).toEqual([0]);
  });

  it('are no more where all of them get a setting at once, which their agents have not seen yet', () => {
    const owner = template(2, 8);
    const unseen = old(0, 1, 2, 3, 4, 5, 6, 7).map((worker) => ({
      ...worker,
      metadata: { ...worker.metadata, generation: 2 },
    }));
    expect(next(owner, unseen)).toEqual([0, 1]);
    const begun = [0, 1].map((ordinal) => ownedFixture(owner, ordinal, { metadata: { generation: 3 } }));
    expect(next(owner, [...begun, ...unseen.slice(2)])).toEqual([]);
    // The next template comes before an agent has seen the last one.
    expect(next(template(3, 8), [...begun, ...old(2, 3, 4, 5, 6, 7)])).toEqual([0, 1]);
  });

  it('are those that had their turn, and no more, where a setting comes before their agents have seen the change', () => {
    const second = template(2, 8);
    const generation = { metadata: { generation: 3 } };
    const begun = [6, 7].map((ordinal) => ownedFixture(second, ordinal, generation));
    const staying = [...[0, 1, 2, 3, 4, 5].map((ordinal) => ownedFixture(second, ordinal, generation)), ...begun];
    const third = template(3, 8);
    const changing = new Set(begun.map(({ metadata }) => metadata.name));
    const input = { group: latestOf(groups(third)), staying, settings: third.spec.rollout, isStopped: false, changing };
    expect(nextToChange({ ...input, leaving: [] })).toEqual({ atOnce: begun, inTurn: [] });
  });

  it('are fewer while workers that are about to go are changing', () => {
    const owner = template(2, 8);
    const staying = [0, 1, 2, 3, 4, 5, 6, 7].map((ordinal) => ownedFixture(template(1, 8), ordinal));
    const leaving = [ownedFixture(owner, 8, { status: changing })];
    expect(next(owner, staying)).toEqual([0, 1]);
    expect(next(owner, staying, false, leaving)).toEqual([0]);
  });

  it('are not held back by those that a function in the mode Auto is still to have, beyond the ones that are enough', () => {
    const owner = template(2, 8);
    const change = (enough: number, staying: readonly LambdaWorker[]) =>
      chosenOf({
        group: { ...latestOf(groups(owner)), enough },
        staying,
        settings: owner.spec.rollout,
        isStopped: false,
      }).length;
    expect(change(2, old(0, 1))).toBe(2);
    expect(change(3, old(0, 1))).toBe(0);
    expect(change(1, [of(owner, 0, away), ...old(1, 2)])).toBe(0);
  });

  it('are none once one has failed, or the deadline has passed', () => {
    const owner = template(2, 8, { maxSurge: 4, maxUnavailable: 4 });
    const rest = [of(before, 1, away), ...old(2, 3, 4, 5, 6, 7)];
    expect(next(owner, [of(owner, 0, stalled), ...rest])).toEqual([]);
    expect(next(owner, [of(owner, 0), ...rest], true)).toEqual([]);
  });

  it('are further ones where one in ten has failed, as on a broken node, and none where it is more', () => {
    const wide = template(2, 40, { maxSurge: 5 });
    const ready = Array.from({ length: 20 }, (_, ordinal) => of(wide, ordinal));
    const rest = old(...Array.from({ length: 20 }, (_, ordinal) => ordinal + 20));
    expect(next(wide, [...ready.slice(1), of(wide, 0, stalled), ...rest])).toEqual([20, 21, 22, 23]);
    const two = [of(wide, 0, stalled), of(wide, 1, stalled)];
    expect(next(wide, [...ready.slice(2), ...two, ...rest])).toEqual([]);
  });

  it('are those that begin with a template that has worked one at a time, while this one has not', () => {
    const owner = template(2, 8, { maxSurge: 2 });
    const rest = [of(before, 0, away), of(before, 1, away), of(before, 2, away), of(template(3, 8), 3, away)];
    const input = { group: latestOf(groups(owner)), settings: owner.spec.rollout, isStopped: false, leaving: [] };
    const names = (staying: readonly LambdaWorker[], former: readonly string[]): readonly string[] =>
      chosenOf({ ...input, staying, former }).map(({ metadata }) => metadata.name.slice(-1));
    const former = [templateHashOf(before.spec.template)];
    expect(names(rest, [])).toEqual(['0', '1', '2', '3']);
    expect(names(rest, former)).toEqual(['3', '0']);
    expect(names([...rest.slice(1), of(owner, 0, away)], former)).toEqual(['3']);
    // One that is broken anyway may as well try it.
    expect(names([of(before, 0, { conditions: [condition('Stalled', 'True')] }), ...rest.slice(1, 3)], former)).toEqual(
      [...['0', '1']],
    );
  });

  type Kind = 'ready' | 'unseen' | 'changing' | 'away' | 'stalled' | 'lost';
  const statusOf: Readonly<Record<Kind, OwnedFixture['status']>> = {
    ready: { conditions: [condition('Ready', 'True')] },
    unseen: { conditions: [condition('Ready', 'True')], observedGeneration: 0 },
    changing,
    away,
    stalled,
    lost,
  };
  const anyKind = fc.constantFrom<Kind>('ready', 'unseen', 'changing', 'away', 'stalled', 'lost');
  const anyAmount = fc.oneof(
    fc.integer({ min: 0, max: 4 }),
    fc.integer({ min: 0, max: 100 }).map((percent) => `${percent}%`),
  );
  const anyMove = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('look' as const) }) },
    {
      weight: 6,
      arbitrary: fc.record({ kind: fc.constant('become' as const), at: fc.nat({ max: 9 }), state: anyKind }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('template' as const), number: fc.integer({ min: 1, max: 4 }) }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('settings' as const), surge: anyAmount, away: anyAmount }) },
  );

  it('keep to the budget at every step of any history, and come to the end of it', () => {
    const history = fc.tuple(
      fc.integer({ min: 1, max: 10 }),
      anyAmount,
      anyAmount,
      fc.array(anyMove, { maxLength: 60 }),
    );
    fc.assert(
      fc.property(history, ([wanted, maxSurge, maxUnavailable, moves]) => {
        let owner = template(2, wanted, { maxSurge, maxUnavailable });
        let workers = Array.from({ length: wanted }, (_, ordinal) => ownedFixture(template(1, wanted), ordinal));
        /** Gives those that may have it the template; their containers serve on, as an agent has it. */
        const look = (): number => {
          const group = latestOf(groups(owner));
          const { hash } = group.source;
          const chosen = chosenOf({ group, staying: workers, settings: owner.spec.rollout, isStopped: false });
          const { surge, unavailable } = budgetOf(owner.spec.rollout, group.source.template, wanted);
          const isLost = (worker: LambdaWorker): boolean =>
            !isUpdated(worker, hash) && !serves(worker) && worker.status?.conditions?.[0]?.reason === 'NodeLost';
          const count = (test: (worker: LambdaWorker) => boolean): number => workers.filter(test).length;
          const isAway = count((worker) => !serves(worker) && !isLost(worker));
          const isBeside = count((worker) => serves(worker) && !isWorkerReady(worker));
          const isBegun = ({ status }: LambdaWorker): boolean => status?.conditions?.[0]?.status === 'False';
          const added = chosen.filter((worker) => !isBegun(worker)).length;
          const unseen = count(
            (worker) => !isUpdated(worker, hash) && !isBegun(worker) && serves(worker) && !isWorkerReady(worker),
          );
          if (added > 0) {
            expect(isAway).toBeLessThanOrEqual(unavailable);
            expect(isAway + isBeside - unseen + added).toBeLessThanOrEqual(surge + unavailable);
          }
          const failed = count((worker) => isUpdated(worker, hash) && isWorkerStalled(worker));
          const hasFailed = failed > count((worker) => isUpdated(worker, hash) && isWorkerReady(worker)) / 10;
          expect(hasFailed ? chosen : []).toEqual([]);
          expect(chosen.every((worker) => !isUpdated(worker, hash))).toBe(true);
          workers = workers.map((worker, ordinal) =>
            chosen.includes(worker)
              ? ownedFixture(owner, ordinal, { status: serves(worker) ? changing : away })
              : worker,
          );
          return chosen.length;
        };
        for (const move of moves) {
          const { template: last, rollout } = owner.spec;
          switch (move.kind) {
            case 'look':
              look();
              break;
            case 'become':
              workers = workers.map((worker, ordinal) =>
                ordinal === move.at ? { ...worker, status: { ...worker.status, ...readyOr(move.state) } } : worker,
              );
              break;
            case 'template':
              owner = template(move.number, wanted, rollout);
              break;
            case 'settings':
              owner = functionFixture({
                minWorkers: wanted,
                spec: { template: last, rollout: { ...usual, maxSurge: move.surge, maxUnavailable: move.away } },
              });
              break;
            default:
              unreachable(move);
          }
        }
        // Where agents take changes in, and each worker with the template becomes ready, all have it in the end.
        for (let round = 0; round <= wanted + 1; round += 1) {
          const { hash } = latestOf(groups(owner)).source;
          workers = workers.map((worker) =>
            isUpdated(worker, hash) || worker.status?.observedGeneration === 0
              ? { ...worker, status: { ...worker.status, ...readyOr('ready') } }
              : worker,
          );
          look();
        }
        const { hash } = latestOf(groups(owner)).source;
        expect(workers.every((worker) => isUpdated(worker, hash))).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  function readyOr(kind: Kind): OwnedFixture['status'] {
    return { observedGeneration: 1, ...statusOf[kind] };
  }
});

describe('the progress of a template', () => {
  const owner = template(2, 3);
  const old = template(1, 3);
  const { hash } = latestOf(groups(owner)).source;
  const at = (seconds: number): number => NOW + seconds * 1_000;
  const time = (seconds: number): string => new Date(at(seconds)).toISOString().replace('.000', '');
  const of = (...kinds: readonly ('new' | 'old' | 'hung' | 'failed')[]): readonly LambdaWorker[] =>
    kinds.map((kind, ordinal) =>
      ownedFixture(kind === 'old' ? old : owner, ordinal, {
        status: kind === 'hung' ? changing : kind === 'failed' ? stalled : {},
      }),
    );
  const step = (
    present: RolloutState | undefined,
    workers: readonly LambdaWorker[],
    seconds: number,
    settings: Partial<RolloutSettings> = {},
  ): RolloutState =>
    rolloutOf(
      {
        owner: {
          ...owner,
          spec: { ...owner.spec, rollout: { ...owner.spec.rollout, ...settings } },
          ...(present === undefined ? {} : { status: { rollout: present } }),
        },
        groups: groups(owner),
        workers,
      },
      at(seconds),
    );
  const begun = step(undefined, of('hung', 'old', 'old'), 0);

  it('counts the deadline from the last worker that became ready, and not from one that is ready again', () => {
    expect(begun).toEqual({ template: hash, state: 'Progressing', readyWorkers: 0, lastProgressTime: time(0) });
    expect(untilDeadline(begun, owner.spec.rollout, at(100))).toBe(500_000);
    const first = step(begun, of('new', 'hung', 'old'), 500);
    expect(first).toMatchObject({ state: 'Progressing', readyWorkers: 1, lastProgressTime: time(500) });
    const again = step(step(first, of('hung', 'hung', 'old'), 600), of('new', 'hung', 'old'), 700);
    expect(again).toEqual(first);
    expect(step(again, of('new', 'hung', 'old'), 1_099).state).toBe('Progressing');
    expect(step(again, of('new', 'hung', 'old'), 1_100).state).toBe('Stopped');
    expect(step(begun, of('failed', 'old', 'old'), 600).state).toBe('Stopped');
    expect(step(step(undefined, [], 0), [], 600).state).toBe('Stopped');
  });

  it('counts no worker that has left', () => {
    const both = step(begun, of('new', 'new', 'old'), 10);
    expect(both.readyWorkers).toBe(2);
    const fewer = step(both, of('new', 'old', 'old'), 20);
    expect(fewer).toEqual({ ...both, readyWorkers: 1 });
    expect(step(fewer, of('new', 'new', 'old'), 30)).toMatchObject({ readyWorkers: 2, lastProgressTime: time(30) });
    // One that is too many, and about to leave, keeps no template from being complete.
    expect(step(begun, of('new', 'new', 'new', 'new'), 10).state).toBe('Complete');
  });

  it('stays Stopped until a further worker is ready, the template changes or the deadline is longer', () => {
    const stopped = step(begun, of('hung', 'old', 'old'), 600);
    expect(stopped).toEqual({ ...begun, state: 'Stopped' });
    expect(step(stopped, of('hung', 'hung', 'old'), 601)).toEqual(stopped);
    expect(step(stopped, of('new', 'old', 'old'), 601)).toMatchObject({ state: 'Progressing', readyWorkers: 1 });
    expect(untilDeadline(stopped, owner.spec.rollout, at(601))).toBeUndefined();
    expect(step(stopped, of('new', 'new', 'new'), 700).state).toBe('Complete');
    expect(step({ ...stopped, template: 'another' }, of('hung', 'old', 'old'), 700)).toMatchObject({
      state: 'Progressing',
      lastProgressTime: time(700),
    });
    const longer = { progressDeadlineSeconds: 900 };
    expect(step(stopped, of('hung', 'old', 'old'), 700, longer).state).toBe('Progressing');
    expect(step(stopped, of('new', 'old', 'old'), 700, longer)).toMatchObject({
      readyWorkers: 1,
      state: 'Progressing',
    });
  });

  it('stays Complete, whatever becomes of the workers', () => {
    const complete = step(begun, of('new', 'new', 'new'), 50);
    expect(complete).toMatchObject({ state: 'Complete' });
    expect(step(complete, of('hung', 'new', 'new'), 5_000)).toEqual(complete);
    expect(untilDeadline(complete, owner.spec.rollout, at(50))).toBeUndefined();
  });

  it('does not end while no controller led: the next worker was due, and nothing hung', () => {
    const first = step(begun, of('new', 'old', 'old'), 10);
    expect(step(first, of('new', 'old', 'old'), 5_000)).toEqual({ ...first, lastProgressTime: time(5_000) });
    // One became ready meanwhile.
    expect(step(first, of('new', 'new', 'hung'), 5_000)).toMatchObject({ state: 'Progressing', readyWorkers: 2 });
  });

  it('says what hangs', () => {
    expect(stopMessage({ owner, groups: groups(owner), workers: of('new', 'hung', 'old') })).toBe(
      '1 of 3 workers are up to date and ready, and no further one became so within 600 s: no more are changed until ' +
        'one does, or the template changes; hello-latest-1: Replacing: ',
    );
  });
});
