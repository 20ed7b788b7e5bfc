import { describe, expect, it } from 'vitest';
import type { LambdaFunction } from '../../../../src/api/lambda-function.ts';
import { surplusVersions } from '../../../../src/controller/functions/version-keeper.ts';
import { groupsOf } from '../../../../src/controller/functions/worker-groups.ts';
import { functionFixture, versionFixture } from '../../../support/function-fixture.ts';
import { FunctionScene } from '../../../support/function-scene.ts';

describe('versions beyond the limit', () => {
  const versions = [5, 1, 2, 3, 4].map((number) => versionFixture(functionFixture(), number));
  const surplus = (spec: Partial<LambdaFunction['spec']>, status: object = {}): readonly number[] => {
    const owner = functionFixture({ spec, status: { latestVersion: 5, ...status } });
    return surplusVersions(owner, versions).map((version) => version.spec.version);
  };

  it('are none without a limit', () => {
    expect(surplus({})).toEqual([]);
  });

  it('are the oldest, without those that an alias names', () => {
    expect(surplus({ versionHistoryLimit: 2 })).toEqual([1, 2, 3]);
    const aliases = [{ name: 'live', version: 1, routing: [{ version: 3, permille: 10 }] }];
    expect(surplus({ versionHistoryLimit: 2, aliases })).toEqual([2]);
    expect(surplus({ versionHistoryLimit: 2 }, { aliases: [{ name: 'live', version: 2 }] })).toEqual([1, 3]);
    expect(surplus({ versionHistoryLimit: 9 })).toEqual([]);
  });

  it('are not the latest, nor one that comes', () => {
    expect(surplus({ versionHistoryLimit: 1 }, { latestVersion: 3 })).toEqual([1, 2]);
  });

  it('are deleted', async () => {
    const scene = new FunctionScene();
    for (const version of versions) {
      scene.versions.set(version.metadata.name, version);
    }
    scene.put(functionFixture({ spec: { versionHistoryLimit: 2 }, status: { latestVersion: 5 } }));
    scene.seeVersions();
    await scene.look();
    expect([...scene.versions.keys()].toSorted()).toEqual(['hello-4', 'hello-5']);
  });

  it('are left alone while the API server has another spec, which may name one by an alias', async () => {
    const scene = new FunctionScene();
    for (const version of versions) {
      scene.versions.set(version.metadata.name, version);
    }
    const spec = { versionHistoryLimit: 2 };
    const owner = functionFixture({ spec, status: { latestVersion: 5 } });
    scene.put(owner);
    scene.seeVersions();
    scene.owners.set('hello', { ...owner, metadata: { ...owner.metadata, generation: 2 } });
    await scene.look();
    expect(scene.versions.size).toBe(5);
  });
});

describe('versions that no alias names', () => {
  it('are no groups once a worker has proven them, and are told once', async () => {
    const owner = functionFixture({ spec: { aliases: [{ name: 'live', version: 50 }] } });
    const versions = Array.from({ length: 50 }, (_, at) => versionFixture(owner, at + 1));
    const groups = groupsOf({
      owner,
      template: 'any',
      versions: [...versions, versionFixture(owner, 51, 'Pending')],
      isAwaited: false,
    });
    expect(groups.map(({ source }) => source.version)).toEqual([undefined, 50, 51]);
    const scene = new FunctionScene();
    for (const version of versions) {
      scene.versions.set(version.metadata.name, version);
    }
    await scene.begin(owner);
    expect(scene.versions.get('hello-7')?.status).toMatchObject({ conditions: [{ reason: 'NoWorkers' }] });
    scene.requests.splice(0);
    await scene.look();
    expect(scene.requests).toEqual([]);
  });
});
