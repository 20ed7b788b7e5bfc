import { describe, expect, it } from 'vitest';
import type { LambdaFunction } from '../../../../src/api/lambda-function.ts';
import { type LambdaVersion, lambdaVersions } from '../../../../src/api/lambda-version.ts';
import { surplusVersions } from '../../../../src/controller/functions/version-keeper.ts';
import { groupsOf } from '../../../../src/controller/functions/worker-groups.ts';
import { digestImage, functionFixture, versionFixture } from '../../../support/function-fixture.ts';
import { apiError, FunctionLab } from '../../../support/function-lab.ts';

/** A laboratory with some versions. */
function labWith(versions: readonly LambdaVersion[]): FunctionLab {
  const lab = new FunctionLab();
  for (const version of versions) {
    lab.cluster.put(lambdaVersions, version);
  }
  return lab;
}

describe('publishing', () => {
  const wish = (publishToken: string, image = 'registry.example/hello:1') =>
    functionFixture({ image, minWorkers: 1, spec: { publishToken } });

  /** A function whose only worker runs an image whose digest is known. */
  async function runningLab(): Promise<FunctionLab> {
    const lab = new FunctionLab();
    lab.apply(wish('a'));
    await lab.look();
    lab.settle(undefined, { image: digestImage(3) });
    lab.written();
    return lab;
  }

  /** Looks until nothing is written any more. */
  async function settled(lab: FunctionLab): Promise<void> {
    for (let round = 0; round < 5; round += 1) {
      await lab.look();
    }
  }

  /** Ends the leader after the number was given away, and before the version is known to be there. */
  async function endLeader(lab: FunctionLab): Promise<void> {
    const isKnown = ({ body }: { readonly body?: object }) => JSON.stringify(body)?.includes('"Created"');
    const end = lab.cluster.refuse(isKnown, apiError('Unreachable'));
    await expect(lab.look()).rejects.toThrow('Unreachable');
    end();
    expect(lab.written()).toEqual(['create version hello-1']);
  }

  it('makes the version of a token once, with the digest, and a worker that proves it', async () => {
    const lab = await runningLab();
    await settled(lab);
    expect(lab.written()).toEqual(['create version hello-1', 'create hello-1-0']);
    expect(lab.versions[0]).toMatchObject({
      spec: { functionName: 'hello', version: 1, template: { spec: { image: digestImage(3) } } },
      status: { state: 'Pending' },
    });
    expect(lab.owner.status).toMatchObject({ latestVersion: 1, publication: { token: 'a', state: 'Created' } });
    expect(lab.events).toContain(`Published: published hello-1 with ${digestImage(3)}`);
    expect(lab.worker('hello-1-0').spec).toMatchObject({ version: 1, image: digestImage(3) });
  });

  it('takes no version for missing that an alias names and the watch does not show yet', async () => {
    const lab = await runningLab();
    lab.lag('versions');
    lab.apply(functionFixture({ minWorkers: 1, spec: { publishToken: 'a', aliases: [{ name: 'live', version: 1 }] } }));
    await settled(lab);
    expect(lab.written()).toEqual(['create version hello-1', 'create hello-1-0']);
    expect(JSON.stringify(lab.told)).not.toContain('VersionMissing');
    // One that is gone is missing.
    lab.clear(lambdaVersions);
    lab.show();
    await lab.look();
    expect(JSON.stringify(lab.told)).toContain('VersionMissing');
  });

  it('gives no number twice, wherever the leader ends', async () => {
    const lab = await runningLab();
    await endLeader(lab);
    lab.changeLeader();
    lab.requests();
    await settled(lab);
    expect(lab.written()).toEqual(['create hello-1-0']);
    expect(lab.requests()).not.toContain('get lambdaversions');
    expect(lab.owner.status).toMatchObject({ latestVersion: 1, publication: { state: 'Created' } });
    // The version is deleted, and the number is not given again.
    lab.clear(lambdaVersions);
    lab.apply(wish('b'));
    await settled(lab);
    expect(lab.written()).toContain('create version hello-2');
  });

  it('takes no version for dropped that is there, where its template changes before the watch shows it', async () => {
    const lab = await runningLab();
    lab.lag('versions');
    await endLeader(lab);
    lab.apply(wish('a', 'registry.example/hello:2'));
    await lab.look();
    expect(lab.owner.status).toMatchObject({ latestVersion: 1, publication: { token: 'a', state: 'Created' } });
  });

  it('asks for no version again that is there: one look reads what became of a creation without an answer', async () => {
    const lab = await runningLab();
    lab.cluster.inject(({ plural }) => plural === 'lambdaversions', { kind: 'lost', carriedOut: 'at once' });
    await expect(lab.look()).rejects.toThrow('no answer');
    lab.lag('versions');
    lab.requests();
    await lab.look();
    const requests = lab.requests().filter((each) => each.endsWith('lambdaversions'));
    expect(requests).toEqual(['get lambdaversions', 'patch lambdaversions']);
    expect(lab.owner.status).toMatchObject({ latestVersion: 1, publication: { token: 'a', state: 'Created' } });
    expect(lab.events).toContain(`Published: published hello-1 with ${digestImage(3)}`);
  });

  it('drops no number whose version the watch does not show yet, whoever has made it', async () => {
    const lab = await runningLab();
    const end = lab.refuse('create lambdaversions');
    await lab.look();
    end();
    await lab.clock.advance(30_000);
    lab.lag('versions');
    lab.cluster.put(lambdaVersions, versionFixture(lab.owner, 1, 'Pending'));
    expect(await lab.look()).toEqual({ requeueAfterMs: 500 });
    expect(lab.owner.status).toMatchObject({ latestVersion: 1, publication: { token: 'a', state: 'Creating' } });
    lab.show();
    await lab.look();
    expect(lab.owner.status).toMatchObject({ latestVersion: 1, publication: { token: 'a', state: 'Created' } });
  });

  it('goes on to the next number where another object has the name of a version', async () => {
    const lab = await runningLab();
    const { metadata, ...rest } = versionFixture(functionFixture({ name: 'other' }), 1);
    lab.cluster.put(lambdaVersions, { ...rest, metadata: { ...metadata, name: 'hello-1' } });
    await settled(lab);
    expect(lab.written()).toEqual(['create version hello-2', 'create hello-2-0']);
  });

  it('leaves the number of a version unused that was not made before its template went', async () => {
    const lab = await runningLab();
    const end = lab.refuse('create lambdaversions');
    await lab.look();
    expect(lab.owner.status).toMatchObject({ latestVersion: 1, publication: { state: 'Creating' } });
    end();
    lab.apply(wish('a', 'registry.example/hello:2'));
    await lab.look();
    expect(lab.told).toContainEqual({ publication: null });
    expect(lab.versions).toEqual([]);
  });
});

describe('versions without an owner', () => {
  const without = (number: number, name = `hello-${number}`): LambdaVersion => {
    const version = versionFixture(functionFixture(), number);
    const { ownerReferences: _gone, ...metadata } = version.metadata;
    return { ...version, metadata: { ...metadata, name } };
  };

  it('are taken by label and name, as after a restore, and those of nobody else', async () => {
    const lab = labWith([...[1, 2, 3].map((number) => without(number)), without(7, 'another-7')]);
    const spec = { aliases: [{ name: 'live', version: 3 }] };
    lab.apply(functionFixture({ spec, metadata: { uid: 'new' } }));
    for (let round = 0; round < 4; round += 1) {
      await lab.look();
      lab.settle(undefined, { image: digestImage(9) });
    }
    const owners = lab.versions.map(({ metadata }) => metadata.ownerReferences?.[0]?.uid);
    expect(owners).toEqual(['new', 'new', 'new', undefined]);
    expect(lab.owner.status).toMatchObject({
      aliases: [{ name: 'live', version: 3 }],
      conditions: [{ type: 'Ready', status: 'True' }],
    });
    // The next number is a new one.
    lab.apply(functionFixture({ spec: { ...spec, publishToken: 'a' }, metadata: { uid: 'new' } }));
    await lab.look();
    expect(lab.written()).toContain('create version hello-4');
  });

  it('are not those of a function that is gone by now', async () => {
    const lab = labWith([without(1)]);
    lab.apply(functionFixture());
    lab.lag('functions');
    lab.remove('hello');
    await lab.look();
    expect(lab.versions[0]?.metadata.ownerReferences).toBeUndefined();
  });

  it('hold nothing up where the API server takes no owner', async () => {
    const lab = labWith([without(1)]);
    lab.apply(functionFixture());
    lab.refuse('patch lambdaversions');
    expect(await lab.look()).toEqual({ requeueAfterMs: 30_000 });
    expect(lab.workers).toHaveLength(2);
  });
});

describe('versions beyond the limit', () => {
  const versions = [5, 1, 2, 3, 4].map((number) => versionFixture(functionFixture(), number));
  const surplus = (spec: Partial<LambdaFunction['spec']>, status: object = {}): readonly number[] => {
    const owner = functionFixture({ spec, status: { latestVersion: 5, ...status } });
    return surplusVersions(owner, versions).map((version) => version.spec.version);
  };
  const names = (lab: FunctionLab): readonly string[] => lab.versions.map(({ metadata }) => metadata.name).toSorted();

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
    const lab = labWith(versions);
    lab.apply(functionFixture({ spec: { versionHistoryLimit: 2 }, status: { latestVersion: 5 } }));
    await lab.look();
    expect(names(lab)).toEqual(['hello-4', 'hello-5']);
    expect(lab.owner.status).toMatchObject({ latestVersion: 5, observedGeneration: 1 });
  });

  it('are left alone while the API server has another spec, which names one by an alias', async () => {
    const lab = labWith(versions);
    lab.apply(functionFixture({ spec: { versionHistoryLimit: 2 }, status: { latestVersion: 5 } }));
    lab.lag('functions');
    lab.apply(functionFixture({ spec: { versionHistoryLimit: 2, aliases: [{ name: 'live', version: 1 }] } }));
    expect(await lab.look()).toEqual({ requeueAfterMs: 500 });
    expect(names(lab)).toEqual(['hello-1', 'hello-2', 'hello-3', 'hello-4', 'hello-5']);
    expect(lab.requests()).not.toContain('get lambdafunctions');
    lab.show();
    await lab.look();
    expect(names(lab)).toEqual(['hello-1', 'hello-4', 'hello-5']);
  });
});

describe('versions of a function', () => {
  it('are no groups once a worker has proven them and no alias names them, and are told once', async () => {
    const owner = functionFixture({ spec: { aliases: [{ name: 'live', version: 50 }] } });
    const versions = Array.from({ length: 50 }, (_, at) => versionFixture(owner, at + 1));
    const groups = groupsOf({
      owner,
      template: 'any',
      versions: [...versions, versionFixture(owner, 51, 'Pending')],
      isAwaited: false,
    });
    expect(groups.map(({ source }) => source.version)).toEqual([undefined, 50, 51]);
    const lab = labWith(versions);
    await lab.begin(owner);
    expect(lab.versions[6]?.status).toMatchObject({ conditions: [{ reason: 'NoWorkers' }] });
    lab.requests();
    await lab.look();
    expect(lab.requests()).toEqual([]);
  });

  it('are deleted with it, as its workers are', async () => {
    const owner = functionFixture({ minWorkers: 1, spec: { aliases: [{ name: 'live', version: 1 }] } });
    const lab = labWith([versionFixture(owner, 1)]);
    await lab.begin(owner);
    lab.remove('hello');
    await lab.look();
    expect(lab.written()).toEqual(['delete hello-latest-0', 'delete hello-1-0', 'delete version hello-1']);
  });
});
