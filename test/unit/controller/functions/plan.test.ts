import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { LambdaFunction } from '../../../../src/api/lambda-function.ts';
import type { LambdaVersion } from '../../../../src/api/lambda-version.ts';
import type { LambdaWorker } from '../../../../src/api/lambda-worker.ts';
import { planFunction } from '../../../../src/controller/functions/plan.ts';
import { groupsOf, type WorkerGroup } from '../../../../src/controller/functions/worker-groups.ts';
import {
  condition,
  functionFixture,
  type OwnedFixture,
  ownedFixture,
  sourceOf,
  versionFixture,
} from '../../../support/function-fixture.ts';

function groups(owner: LambdaFunction, versions: readonly LambdaVersion[] = []): readonly WorkerGroup[] {
  return groupsOf({ owner, template: sourceOf(owner).hash, versions, isAwaited: false });
}

/** The steps as text, in their order. */
function steps(
  owner: LambdaFunction,
  owned: readonly LambdaWorker[],
  taken: readonly string[] = [],
  versions: readonly LambdaVersion[] = [],
): readonly string[] {
  const isTaken = (name: string): boolean =>
    taken.includes(name) || owned.some(({ metadata }) => metadata.name === name);
  return planFunction({ owner, groups: groups(owner, versions), owned, isTaken }).map((step) =>
    step.kind === 'create' ? `create ${step.name}` : `${step.kind} ${step.worker.metadata.name}`,
  );
}

const unready = { conditions: [condition('Ready', 'False', 'Creating')] };
const stalled = { conditions: [condition('Ready', 'False', 'InitFailed'), condition('Stalled', 'True', 'InitFailed')] };
const lost = { conditions: [condition('Ready', 'Unknown', 'NodeLost')] };
const deleting = { metadata: { deletionTimestamp: '2026-11-01T01:00:00Z' } };

describe('planFunction', () => {
  it('makes workers of $LATEST with an earlier template, but for a trial, and those of a version never', () => {
    const owner = functionFixture({ minWorkers: 1, spec: { aliases: [{ name: 'live', version: 1 }] } });
    const input = { owner, groups: groups(owner, [versionFixture(owner, 1)]), owned: [], isTaken: () => false };
    const earlier = (isTrial: boolean): readonly unknown[] =>
      planFunction({ ...input, former: ['before'], isTrial }).map((step) => step.kind === 'create' && step.earlier);
    expect(earlier(false)).toEqual([['before'], []]);
    expect(earlier(true)).toEqual([[], []]);
  });

  const owner = functionFixture();
  const workers = (...fixtures: readonly OwnedFixture[]) =>
    fixtures.map((fixture, ordinal) => ownedFixture(owner, ordinal, fixture));

  it('makes the workers that are missing, by the lowest names that are free', () => {
    expect(steps(owner, [])).toEqual(['create hello-latest-0', 'create hello-latest-1']);
    expect(steps(owner, [ownedFixture(owner, 1)])).toEqual(['create hello-latest-0']);
    expect(steps(owner, workers({}, {}))).toEqual([]);
  });

  it('adopts nothing by its name, and does not wait for the name of a worker that is being deleted', () => {
    expect(steps(owner, [], ['hello-latest-0'])).toEqual(['create hello-latest-1', 'create hello-latest-2']);
    expect(steps(owner, workers(deleting, {}))).toEqual(['create hello-latest-2']);
  });

  it('takes the workers away that hold least, and of those the youngest', () => {
    const one = functionFixture({ minWorkers: 1 });
    const phase = (word: 'Absent' | 'Paused' | 'Running') => ({ status: { phase: word } });
    const left = workers(
      phase('Running'),
      phase('Paused'),
      phase('Absent'),
      phase('Running'),
      { status: unready },
      {
        status: { assignment: undefined } as never,
      },
    );
    expect(steps(one, left)).toEqual([5, 4, 2, 1, 3].map((ordinal) => `delete hello-latest-${ordinal}`));
  });

  it('takes a change to one ready worker at a time, the oldest first, and waits until it is ready', () => {
    const next = functionFixture({ image: 'registry.example/hello:2', minWorkers: 3 });
    const old = workers({}, {}, {});
    expect(steps(next, old)).toEqual(['update hello-latest-0']);
    const changed = (status: OwnedFixture['status']) => [
      ownedFixture(next, 0, { metadata: { generation: 2 }, ...(status === undefined ? {} : { status }) }),
      ...old.slice(1),
    ];
    // Ready is still about the spec before.
    expect(steps(next, changed({ observedGeneration: 1 }))).toEqual([]);
    expect(steps(next, changed({ observedGeneration: 2, ...unready }))).toEqual([]);
    expect(steps(next, changed({ observedGeneration: 2 }))).toEqual(['update hello-latest-1']);
  });

  it('changes workers that are not ready at once, and no other beside them', () => {
    const next = functionFixture({ image: 'registry.example/hello:2', minWorkers: 3 });
    expect(steps(next, workers({}, { status: unready }, { status: unready }))).toEqual([
      'update hello-latest-1',
      'update hello-latest-2',
    ]);
  });

  it('takes a change to workers of lost nodes last: they may serve, and would hold up the others', () => {
    const next = functionFixture({ image: 'registry.example/hello:2', minWorkers: 3 });
    const old = workers({ status: lost }, { status: lost }, {});
    expect(steps(next, old)).toEqual(['update hello-latest-2']);
    expect(steps(next, [...old.slice(0, 2), ownedFixture(next, 2)])).toEqual(['update hello-latest-0']);
    const waiting = ownedFixture(next, 0, { status: lost });
    expect(steps(next, [waiting, ...old.slice(1, 2), ownedFixture(next, 2)])).toEqual([]);
  });

  it('gives a template that has failed to no further worker, not even to one that is away for a moment', () => {
    const next = functionFixture({ image: 'registry.example/hello:2', minWorkers: 3 });
    const failed = ownedFixture(next, 0, { status: stalled });
    const others = workers({}, { status: unready }, {}).slice(1);
    expect(steps(next, [failed, ...others])).toEqual([]);
    // The next change begins with all that are not ready.
    const third = functionFixture({ image: 'registry.example/hello:3', minWorkers: 3 });
    expect(steps(third, [failed, ...others])).toEqual(['update hello-latest-0', 'update hello-latest-1']);
    // The failure is still that of the template before.
    const changed = ownedFixture(third, 0, { metadata: { generation: 2 }, status: stalled });
    expect(steps(third, [changed, ...others])).toEqual(['update hello-latest-1']);
  });

  it('changes nothing that is to go, and no ready worker while one is missing', () => {
    const image = 'registry.example/hello:2';
    const one = functionFixture({ image, minWorkers: 1 });
    expect(steps(one, workers({}, { status: unready }))).toEqual(['delete hello-latest-1', 'update hello-latest-0']);
    expect(steps(functionFixture({ image }), workers({}))).toEqual(['create hello-latest-1']);
  });

  it('ends all workers of a function that is being deleted, unless they are to be left', () => {
    const deletionTimestamp = '2026-11-01T01:00:00Z';
    const going = functionFixture({ metadata: { deletionTimestamp, finalizers: ['foregroundDeletion'] } });
    expect(steps(going, workers({}, {}))).toEqual(['delete hello-latest-1', 'delete hello-latest-0']);
    const left = functionFixture({ metadata: { deletionTimestamp, finalizers: ['orphan'] } });
    expect(steps(left, workers({}, {}))).toEqual([]);
  });

  describe('of versions', () => {
    const live = (version: number, more: object = {}) =>
      functionFixture({ minWorkers: 1, spec: { aliases: [{ name: 'live', version, ...more }] } });
    const one = versionFixture(owner, 1);
    const two = versionFixture(owner, 2);

    it('are made for each version that an alias names, beside $LATEST', () => {
      const routed = live(1, { routing: [{ version: 2, permille: 100 }] });
      expect(steps(routed, [], [], [one, two])).toEqual([
        'create hello-latest-0',
        'create hello-1-0',
        'create hello-2-0',
      ]);
      expect(steps(live(2, { provisionedWorkers: 2 }), [ownedFixture(owner, 0)], [], [one, two])).toEqual([
        'create hello-2-0',
        'create hello-2-1',
      ]);
    });

    it('leave once no alias names their version, neither in the wish nor in effect', () => {
      const worker = ownedFixture(owner, 0, { version: one });
      const owned = [ownedFixture(owner, 0), worker, ownedFixture(owner, 0, { version: two })];
      const switching = {
        ...live(2),
        status: { observedGeneration: 1, aliases: [{ name: 'live', version: 1 }] },
      };
      expect(steps(switching, owned, [], [one, two])).toEqual([]);
      expect(steps(live(2), owned, [], [one, two])).toEqual(['delete hello-1-0']);
    });

    it('are not changed with the template of the function', () => {
      const changed = {
        ...live(1),
        spec: { ...live(1).spec, template: functionFixture({ image: 'b:2' }).spec.template },
      };
      expect(steps(changed, [ownedFixture(changed, 0), ownedFixture(owner, 0, { version: one })], [], [one])).toEqual(
        [],
      );
    });

    it('are one for a version that was never Active, named or not, and none afterwards', () => {
      const latest = ownedFixture(owner, 0);
      const only = functionFixture({ minWorkers: 1 });
      expect(steps(only, [latest], [], [versionFixture(owner, 3, 'Pending')])).toEqual(['create hello-3-0']);
      expect(steps(only, [latest], [], [versionFixture(owner, 3)])).toEqual([]);
    });

    it('stay where the LambdaVersion is gone and an alias still names it: nothing could replace them', () => {
      const owned = [ownedFixture(owner, 0), ownedFixture(owner, 0, { version: one })];
      expect(steps(live(1), owned)).toEqual([]);
      expect(steps(functionFixture({ minWorkers: 1 }), owned)).toEqual(['delete hello-1-0']);
    });

    it('go with a function that is being deleted', () => {
      const going = live(1);
      const gone = { ...going, metadata: { ...going.metadata, deletionTimestamp: '2026-11-01T01:00:00Z' } };
      const owned = [ownedFixture(owner, 0), ownedFixture(owner, 0, { version: one })];
      expect(steps(gone, owned, [], [one])).toEqual(['delete hello-latest-0', 'delete hello-1-0']);
    });
  });

  it('comes to the wish from any state, with no more than one ready worker away for a change', () => {
    const state = fc.record({
      isUpdated: fc.boolean(),
      isReady: fc.boolean(),
      isDeleting: fc.boolean(),
      phase: fc.constantFrom('Absent', 'Paused', 'Running'),
    });
    fc.assert(
      fc.property(fc.array(state, { maxLength: 8 }), fc.integer({ min: 0, max: 6 }), (states, minWorkers) => {
        const before = functionFixture({ image: 'registry.example/hello:0' });
        const rollout = { maxSurge: 1, maxUnavailable: 0, progressDeadlineSeconds: 600 };
        const wish = functionFixture({ minWorkers, spec: { rollout } });
        let all = states.map(({ isDeleting, isReady, isUpdated, phase }, ordinal) =>
          ownedFixture(isUpdated ? wish : before, ordinal, {
            metadata: isDeleting ? deleting.metadata : {},
            status: { phase, ...(isReady ? {} : unready) },
          }),
        );
        for (let round = 0; round < 30; round += 1) {
          const isTaken = (name: string): boolean => all.some(({ metadata }) => metadata.name === name);
          const plan = planFunction({ owner: wish, groups: groups(wish), owned: all, isTaken });
          const ready = plan.filter(
            (step) => step.kind === 'update' && step.worker.status?.conditions?.[0]?.status === 'True',
          );
          expect(ready.length).toBeLessThanOrEqual(1);
          for (const step of plan) {
            const { name } = step.kind === 'create' ? step : step.worker.metadata;
            const ordinal = Number(name.split('-').at(-1));
            all = all.filter(({ metadata }) => metadata.name !== name);
            if (step.kind !== 'delete') {
              all.push(ownedFixture(wish, ordinal, { status: unready }));
            }
          }
          // Every step has ended by the next round.
          all = all
            .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
            .map((worker) => ({
              ...worker,
              status: { ...worker.status, conditions: [condition('Ready', 'True')] },
            }));
          if (plan.length === 0 && round > 0) {
            break;
          }
        }
        expect(all).toHaveLength(minWorkers);
        expect(steps(wish, all)).toEqual([]);
      }),
    );
  });
});
