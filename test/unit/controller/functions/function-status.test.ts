import { describe, expect, it } from 'vitest';
import type { LambdaFunction } from '../../../../src/api/lambda-function.ts';
import type { LambdaVersion } from '../../../../src/api/lambda-version.ts';
import type { LambdaWorker } from '../../../../src/api/lambda-worker.ts';
import { changeOf, statusOf } from '../../../../src/controller/functions/function-status.ts';
import { groupsOf } from '../../../../src/controller/functions/worker-groups.ts';
import {
  condition,
  functionFixture,
  ownedFixture,
  sourceOf,
  versionFixture,
} from '../../../support/function-fixture.ts';

const NOW = Date.parse('2026-11-02T03:04:05Z');

interface Found {
  readonly versions?: readonly LambdaVersion[];
  readonly refusal?: string;
  readonly isPublishing?: boolean;
}

function status(owner: LambdaFunction, owned: readonly LambdaWorker[], found: Found = {}, now = NOW) {
  const { isPublishing = false, refusal, versions = [] } = found;
  const groups = groupsOf({ owner, template: sourceOf(owner).hash, versions, isAwaited: false });
  const refused = refusal === undefined ? undefined : ({ reason: 'WorkerRefused', message: refusal } as const);
  return statusOf({ owner, groups, owned, refusal: refused, isPublishing }, now);
}

describe('the status of a function', () => {
  const owner = functionFixture({ metadata: { generation: 3 } });
  const whole = [ownedFixture(owner, 0), ownedFixture(owner, 1)];
  const outdated = ownedFixture(functionFixture({ image: 'registry.example/hello:0' }), 1);

  it('is Ready once all workers are there, of the present template, and ready', () => {
    expect(status(owner, whole)).toEqual({
      observedGeneration: 3,
      workers: 2,
      readyWorkers: 2,
      updatedWorkers: 2,
      selector: 'esb.dev/lambda-function=hello,!esb.dev/lambda-version',
      rollout: {
        template: sourceOf(owner).hash,
        state: 'Complete',
        readyWorkers: 2,
        lastProgressTime: '2026-11-02T03:04:05Z',
      },
      revisions: [{ revision: 1, template: sourceOf(owner).hash, worked: true }],
      conditions: [
        {
          type: 'Ready',
          status: 'True',
          observedGeneration: 3,
          reason: 'UpToDate',
          message: '2 of 2 workers are up to date and ready',
          lastTransitionTime: '2026-11-02T03:04:05Z',
        },
      ],
    });
    const none = functionFixture({ minWorkers: 0 });
    expect(status(none, []).conditions).toMatchObject([{ type: 'Ready', status: 'True', reason: 'NoWorkers' }]);
  });

  it.each([
    ['a worker is missing', whole.slice(0, 1), { workers: 1 }],
    ['a worker is too many', [...whole, ownedFixture(owner, 2)], { workers: 3 }],
    ['a worker has the template before', [ownedFixture(owner, 0), outdated], { updatedWorkers: 1, readyWorkers: 2 }],
    [
      'a worker has not been looked at since its last change',
      [ownedFixture(owner, 0), ownedFixture(owner, 1, { metadata: { generation: 2 } })],
      { readyWorkers: 1 },
    ],
    [
      'a worker is being deleted',
      [ownedFixture(owner, 0), ownedFixture(owner, 1, { metadata: { deletionTimestamp: '2026-11-01T01:00:00Z' } })],
      { workers: 1 },
    ],
  ])('is in progress while %s', (_what, owned, numbers) => {
    const found = status(owner, owned);
    expect(found).toMatchObject(numbers);
    expect(found.conditions).toMatchObject([
      { type: 'Ready', status: 'False', reason: 'Progressing' },
      { type: 'Reconciling', status: 'True', reason: 'Progressing' },
    ]);
  });

  it.each([
    ['Ready with enough workers while others come', whole, 'True'],
    [
      'Ready with enough workers while others leave',
      [...whole, ownedFixture(owner, 2), ownedFixture(owner, 3)],
      'True',
    ],
    ['in progress with fewer', whole.slice(0, 1), 'False'],
    ['in progress while a worker has the template before', [...whole, outdated], 'False'],
    [
      'in progress while a worker answers as before its last change',
      [...whole, ownedFixture(owner, 2, { metadata: { generation: 2 } })],
      'False',
    ],
    [
      'Ready while a worker that answers nothing yet has not seen its last change',
      [...whole, ownedFixture(owner, 2, { metadata: { generation: 2 }, status: { conditions: [] } })],
      'True',
    ],
  ])('is %s, where calls decide about their number', (_what, owned, expected) => {
    const groups = [{ source: sourceOf(owner), wanted: 3, enough: 2 }];
    const { conditions } = statusOf({ owner, groups, owned, refusal: undefined, isPublishing: false }, NOW);
    expect(conditions?.[0]).toMatchObject({ type: 'Ready', status: expected });
  });

  it('is not Ready where maxWorkers leaves no worker for a version that an alias names', () => {
    const aliases = [{ name: 'live', version: 1 }];
    const named = functionFixture({ spec: { ...owner.spec, aliases }, status: { observedGeneration: 1, aliases } });
    const groups = [
      { source: sourceOf(named), wanted: 1, enough: 1 },
      { source: { ...sourceOf(named), version: 1 }, wanted: 0, enough: 1 },
    ];
    const owned = whole.slice(0, 1);
    const found = statusOf({ owner: named, groups, owned, refusal: undefined, isPublishing: false }, NOW);
    expect(found.conditions?.[0]).toMatchObject({
      type: 'Ready',
      status: 'False',
      message: 'scaling.maxWorkers leaves no worker for version 1',
    });
    expect(found.aliases).toEqual(aliases);
  });

  it('is stalled by a worker of the present template that is, and by none of the template before', () => {
    const stalled = {
      conditions: [
        condition('Ready', 'False', 'ImageNotFound'),
        condition('Stalled', 'True', 'ImageNotFound', 'no hello:2'),
      ],
    };
    expect(status(owner, [ownedFixture(owner, 0, { status: stalled }), outdated]).conditions).toMatchObject([
      { type: 'Ready', status: 'False', reason: 'ImageNotFound', message: 'hello-latest-0: no hello:2' },
      { type: 'Stalled', status: 'True', reason: 'ImageNotFound' },
      { type: 'Degraded', message: '1 of 2 workers have failed; hello-latest-0: no hello:2' },
    ]);
    const before = { ...outdated, status: { ...outdated.status, ...stalled } };
    expect(status(owner, [ownedFixture(owner, 0), before]).conditions?.[1]).toMatchObject({ type: 'Reconciling' });
  });

  it('is not stalled by the failure of a template that its worker no longer has', () => {
    const conditions = [
      condition('Ready', 'False', 'ImageNotFound'),
      condition('Stalled', 'True', 'ImageNotFound', 'no hello:2'),
    ];
    const changed = ownedFixture(owner, 0, { metadata: { generation: 2 }, status: { conditions } });
    expect(status(owner, [changed, outdated]).conditions).toMatchObject([
      { type: 'Ready', status: 'False', reason: 'Progressing' },
      { type: 'Reconciling', status: 'True' },
    ]);
  });

  it('is stalled where the API server refuses a worker, in its words', () => {
    const refusal = 'spec.network.mode Host is the network of the node';
    expect(status(owner, [], { refusal }).conditions).toMatchObject([
      { type: 'Ready', status: 'False', reason: 'WorkerRefused', message: expect.stringContaining('Host') as string },
      { type: 'Stalled', status: 'True' },
    ]);
  });

  it('tells no more of a failure than the schema takes', () => {
    const conditions = [condition('Stalled', 'True', 'InitFailed', 'x'.repeat(32_768))];
    const [ready] = status(owner, [ownedFixture(owner, 0, { status: { conditions } })]).conditions ?? [];
    expect(ready?.message).toMatch(/^hello-latest-0: x+$/);
    expect(ready?.message).toHaveLength(32_768);
  });

  it('keeps the time of a condition that stays, and tells numbers from conditions', () => {
    const first = status(owner, whole);
    const told = { ...owner, status: first };
    const later = status(told, whole, {}, NOW + 9e5);
    expect(later).toEqual(first);
    expect(changeOf(first, later)).toBe('none');
    expect(changeOf(owner.status, first)).toBe('conditions');
    const missing = status(owner, whole.slice(0, 1));
    expect(changeOf(first, missing)).toBe('conditions');
    expect(changeOf(missing, status(owner, []))).toBe('numbers');
  });

  describe('with aliases', () => {
    const [one, two] = [versionFixture(owner, 1), versionFixture(owner, 2)];
    const live = (version: number, present?: object) =>
      functionFixture({
        minWorkers: 1,
        spec: { aliases: [{ name: 'live', version }] },
        status: present === undefined ? {} : { aliases: [{ name: 'live', version: 1, ...present }] },
      });
    const latest = ownedFixture(owner, 0);
    const ofOne = ownedFixture(owner, 0, { version: one });
    const ofTwo = ownedFixture(owner, 0, { version: two });

    it('puts an alias into effect once all workers of its versions are ready, and not before', () => {
      const found = status(live(1), [latest], { versions: [one] });
      expect(found).not.toHaveProperty('aliases');
      expect(found.conditions).toMatchObject([
        { status: 'False', reason: 'Progressing', message: '0 of 1 workers of version 1 are up to date and ready' },
        {},
      ]);
      const ready = status(live(1), [latest, ofOne], { versions: [one] });
      expect(ready.aliases).toEqual([{ name: 'live', version: 1 }]);
      expect(ready.conditions).toMatchObject([{ status: 'True', reason: 'UpToDate' }]);
      // The workers of versions are told by their LambdaVersions.
      expect(ready).toMatchObject({ workers: 1, readyWorkers: 1 });
    });

    it('leaves an alias as it was while the version that it is to name is not ready', () => {
      const versions = [one, two];
      const notYet = { ...ofTwo, status: { ...ofTwo.status, conditions: [condition('Ready', 'False', 'Creating')] } };
      expect(status(live(2, {}), [latest, ofOne, notYet], { versions }).aliases).toEqual([
        { name: 'live', version: 1 },
      ]);
      expect(status(live(2, {}), [latest, ofOne, ofTwo], { versions }).aliases).toEqual([{ name: 'live', version: 2 }]);
    });

    it('changes weights at once, and takes an alias that is not wished any more away', () => {
      const routing = [{ version: 2, permille: 100 }];
      const routed = live(1, { routing });
      const spec = {
        ...routed.spec,
        aliases: [{ name: 'live', version: 1, routing: [{ version: 2, permille: 900 }] }],
      };
      const owned = [latest, { ...ofOne, status: {} }, ofTwo] as readonly LambdaWorker[];
      expect(status({ ...routed, spec }, owned, { versions: [one, two] }).aliases?.[0]?.routing?.[0]?.permille).toBe(
        900,
      );
      expect(status({ ...routed, spec: { ...spec, aliases: [] } }, owned, { versions: [one, two] }).aliases).toEqual(
        [],
      );
    });

    it('is stalled by an alias whose version does not exist, which stays as it was', () => {
      const found = status(live(7, {}), [latest, ofOne], { versions: [one] });
      expect(found.aliases).toEqual([{ name: 'live', version: 1 }]);
      expect(found.conditions).toMatchObject([
        { reason: 'VersionMissing', message: expect.stringContaining('version 7') as string },
        { type: 'Stalled' },
      ]);
    });

    it('is in progress while a version is to be published', () => {
      expect(status(functionFixture({ minWorkers: 1 }), [latest], { isPublishing: true }).conditions).toMatchObject([
        { status: 'False', reason: 'Progressing' },
        { type: 'Reconciling' },
      ]);
      // The version that an alias names already is about to be there: a tool that sees Stalled would give up.
      expect(status(live(7, {}), [latest, ofOne], { versions: [one], isPublishing: true }).conditions).toMatchObject([
        { status: 'False', reason: 'Progressing' },
        { type: 'Reconciling' },
      ]);
    });
  });
});
