import { describe, expect, it, onTestFinished } from 'vitest';
import { type LambdaFunction, templateHashOf } from '../../../../src/api/lambda-function.ts';
import type { LambdaVersion } from '../../../../src/api/lambda-version.ts';
import type { LambdaWorker } from '../../../../src/api/lambda-worker.ts';
import { revisionName } from '../../../../src/api/template-revision.ts';
import type { Namespace } from '../../../../src/kube/api/resource-types.ts';
import {
  condition,
  digestImage,
  functionFixture,
  ownedFixture,
  versionFixture,
} from '../../../support/function-fixture.ts';
import { apiError, FunctionScene, KEY } from '../../../support/function-scene.ts';
import { waitFor } from '../../../support/wait-for.ts';

describe('FunctionController', () => {
  it('makes the workers of a function once, however far its watch is behind', async () => {
    const scene = new FunctionScene();
    scene.put(functionFixture());
    await scene.look();
    expect(scene.written()).toEqual(['create hello-latest-0', 'create hello-latest-1']);
    // So that the assignment is their next write.
    expect(scene.stored.get('hello-latest-0')?.metadata.finalizers).toEqual(['esb.dev/worker']);
    await scene.look();
    expect(scene.written()).toEqual([]);
    scene.settle();
    expect(await scene.look()).toEqual({});
    expect(scene.written()).toEqual([]);
    expect(scene.told.at(-1)).toMatchObject({ workers: 2, readyWorkers: 2, conditions: [{ reason: 'UpToDate' }] });
    expect(scene.events).toEqual(['Scaled: created hello-latest-0, hello-latest-1']);
  });

  it('has as many workers of a function with the mode Auto as its calls need, and fewer after the delay', async () => {
    const scene = new FunctionScene();
    const scaling = { mode: 'Auto', minWorkers: 0, maxWorkers: 4, scaleDownDelaySeconds: 60 } as const;
    scene.put(functionFixture({ spec: { scaling } }));
    await scene.look();
    expect(scene.written()).toEqual(['create hello-latest-0']);
    scene.settle();
    await scene.look();
    expect(scene.told.at(-1)).toMatchObject({ conditions: [{ type: 'Ready', status: 'True', reason: 'UpToDate' }] });
    const { length } = scene.told;
    scene.calls = 7;
    await scene.look();
    expect(scene.written()).toEqual(['create hello-latest-1', 'create hello-latest-2', 'create hello-latest-3']);
    // Load is no reason not to be Ready, and numbers wait for their turn.
    expect(scene.told).toHaveLength(length);
    scene.settle();
    scene.calls = 0;
    expect(await scene.look()).toEqual({ requeueAfterMs: 30_000 });
    await scene.clock.advance(60_000);
    await scene.look();
    expect(scene.written()).toEqual(['delete hello-latest-3', 'delete hello-latest-2', 'delete hello-latest-1']);
  });

  it('makes no worker twice where its cache shows them in the middle of a look', async () => {
    const scene = new FunctionScene();
    scene.put(functionFixture());
    await scene.look();
    scene.written();
    const look = scene.look();
    scene.see();
    await look;
    expect(scene.written()).toEqual([]);
  });

  it('makes no worker anew whose creation its watch shows later than the end of another', async () => {
    const scene = new FunctionScene();
    scene.put(functionFixture());
    await scene.look();
    scene.settle();
    const [first = ''] = scene.stored.keys();
    const ending = scene.stored.get(first);
    if (ending === undefined) {
      throw new Error('there is no worker');
    }
    const deletionTimestamp = '2026-11-01T01:00:00Z';
    scene.stored.set(first, { ...ending, metadata: { ...ending.metadata, deletionTimestamp } });
    scene.see();
    scene.written();
    await scene.look();
    expect(scene.written()).toEqual(['create hello-latest-2']);
    scene.stored.delete(first);
    scene.cache.remove(ending);
    await scene.look();
    expect(scene.written()).toEqual([]);
    scene.see();
    await scene.look();
    expect(scene.written()).toEqual([]);
  });

  it('gives a worker the whole template, and keeps what others have written on the object', async () => {
    const scene = new FunctionScene();
    scene.put(functionFixture({ minWorkers: 1 }));
    await scene.look();
    scene.settle();
    const made = scene.stored.get('hello-latest-0');
    if (made === undefined) {
      throw new Error('there is no worker');
    }
    scene.stored.set('hello-latest-0', {
      ...made,
      metadata: { ...made.metadata, labels: { ...made.metadata.labels, team: 'a' }, finalizers: ['esb.dev/worker'] },
      spec: { ...made.spec, env: [{ name: 'LEFT', value: 'over' }] },
    });
    scene.written();
    scene.see();
    await scene.look();
    // A change by hand stays until the template changes.
    expect(scene.written()).toEqual([]);
    scene.put(functionFixture({ minWorkers: 1, image: 'registry.example/hello:2' }));
    await scene.look();
    expect(scene.written()).toEqual(['update hello-latest-0']);
    const changed = scene.stored.get('hello-latest-0');
    expect(changed?.spec).toMatchObject({ image: 'registry.example/hello:2', functionName: 'hello' });
    expect(changed?.spec).not.toHaveProperty('env');
    expect(changed?.metadata).toMatchObject({
      finalizers: ['esb.dev/worker'],
      labels: { team: 'a', 'esb.dev/lambda-function': 'hello' },
    });
    // The cache still shows the template before.
    await scene.look();
    expect(scene.written()).toEqual([]);
  });

  it('gives its workers the reserved concurrency of the function at once, and no template with it', async () => {
    const scene = new FunctionScene();
    scene.put(functionFixture());
    await scene.look();
    scene.settle();
    scene.written();
    scene.put(functionFixture({ spec: { reservedConcurrency: 4 } }));
    await scene.look();
    expect(scene.written()).toEqual(['update hello-latest-0', 'update hello-latest-1']);
    expect([...scene.stored.values()].map(({ spec }) => spec.concurrency?.reserved)).toEqual([4, 4]);
    // The cache shows the workers as they were.
    await scene.look();
    expect(scene.written()).toEqual([]);
    scene.see();
    scene.put(functionFixture({ spec: { reservedConcurrency: 4 }, image: 'registry.example/hello:2' }));
    await scene.look();
    expect(scene.written()).toEqual(['update hello-latest-0']);
    expect(scene.stored.get('hello-latest-0')?.spec).toMatchObject({ concurrency: { reserved: 4 } });
  });

  it('takes no second worker away for one that its cache still shows', async () => {
    const scene = new FunctionScene();
    scene.put(functionFixture({ minWorkers: 3 }));
    await scene.look();
    scene.settle();
    await scene.look();
    scene.written();
    scene.put(functionFixture({ minWorkers: 2 }));
    await scene.look();
    expect(scene.written()).toEqual(['delete hello-latest-2']);
    // Another one would leave first now.
    const paused = scene.stored.get('hello-latest-0');
    scene.cache.set({ ...paused, status: { ...paused?.status, phase: 'Paused' } } as LambdaWorker);
    await scene.look();
    scene.changeLeader();
    await scene.look();
    expect(scene.written()).toEqual([]);
  });

  it('takes workers away with one request for each, under the next leader too', async () => {
    const scene = new FunctionScene();
    await scene.begin(functionFixture({ minWorkers: 100 }));
    scene.requests.splice(0);
    for (const left of [99, 90, 50]) {
      scene.change(functionFixture({ minWorkers: left }));
      await scene.look();
      // The watch is late, and nothing is deleted twice for it.
      await scene.look();
      expect(scene.stored.size).toBe(left);
    }
    scene.changeLeader();
    scene.change(functionFixture({ minWorkers: 49 }));
    await scene.look();
    const requests = scene.requests.filter((each) => each.endsWith('lambdaworkers'));
    expect(requests).toEqual(Array.from({ length: 51 }, () => 'delete lambdaworkers'));
  });

  it('makes and ends workers in steps, be the function Fixed or Auto', async () => {
    const scene = new FunctionScene();
    scene.put(functionFixture({ minWorkers: 250, metadata: { resourceVersion: '1' } }));
    const sizes: number[] = [];
    for (let second = 0; second < 4; second += 1) {
      await scene.look();
      scene.settle();
      // Another look of the same second changes nothing.
      await scene.look();
      scene.settle();
      sizes.push(scene.stored.size);
      await scene.clock.advance(1_000);
    }
    expect(sizes).toEqual([100, 200, 250, 250]);
    scene.change(functionFixture({ minWorkers: 0 }));
    expect((await scene.look()).requeueAfterMs).toBeLessThanOrEqual(1_000);
    expect(scene.stored.size).toBe(150);
    await scene.clock.advance(1_000);
    await scene.look();
    expect(scene.stored.size).toBe(50);
  });

  it('deletes no other worker for one whose deletion had no answer, and that one again where it is there', async () => {
    const scene = new FunctionScene();
    await scene.begin(functionFixture({ minWorkers: 3 }));
    scene.faults.set('delete hello-latest-2', apiError('Unreachable', 503));
    scene.change(functionFixture({ minWorkers: 2 }));
    await expect(scene.look()).rejects.toThrow('Unreachable');
    scene.faults.clear();
    scene.requests.splice(0);
    await scene.look();
    expect(scene.written()).toEqual(['delete hello-latest-2']);
    expect(scene.requests.filter((each) => each === 'get lambdaworkers')).toHaveLength(1);
  });

  it('leaves a worker alone that serves another function, whatever its owner reference says', async () => {
    const scene = new FunctionScene();
    const owner = functionFixture({ minWorkers: 1 });
    const other = ownedFixture(owner, 7);
    scene.stored.set('hello-latest-7', { ...other, spec: { ...other.spec, functionName: 'other' } });
    scene.see();
    scene.put(owner);
    await scene.look();
    scene.settle();
    await scene.look();
    scene.put(functionFixture({ minWorkers: 0 }));
    await scene.look();
    expect(scene.written()).toEqual(['create hello-latest-0', 'delete hello-latest-0']);
    expect(scene.told).toMatchObject([{ workers: 0 }, { workers: 1 }, { workers: 1 }]);
  });

  it('tells why the API server takes no worker, and tries again after half a minute', async () => {
    const scene = new FunctionScene();
    scene.refusal = apiError('Forbidden', 403);
    scene.put(functionFixture());
    expect(await scene.look()).toEqual({ requeueAfterMs: 30_000 });
    expect(scene.told).toMatchObject([
      { workers: 0, conditions: [{ reason: 'WorkerRefused', message: 'not so: Forbidden' }, { type: 'Stalled' }] },
    ]);
    expect(scene.events).toEqual(['WorkerRefused: not so: Forbidden']);
    scene.refusal = undefined;
    await scene.look();
    expect(scene.written()).toEqual([]);
    await scene.clock.advance(30_000);
    await scene.look();
    scene.see();
    await scene.look();
    expect(scene.written()).toHaveLength(2);
  });

  it('tries a creation that is refused with growing waits, whatever its calls do, and at once for another spec', async () => {
    const scene = new FunctionScene();
    const scaling = { mode: 'Auto', minWorkers: 1, maxWorkers: 1_000 } as const;
    await scene.begin(functionFixture({ spec: { scaling } }));
    scene.faults.set('create lambdaworkers', apiError('Forbidden', 403));
    const tries = (): number => scene.requests.filter((each) => each === 'create lambdaworkers').length;
    const pass = async (seconds: number): Promise<void> => {
      for (let second = 0; second < seconds; second += 1) {
        scene.calls = 30 + (second % 7);
        expect((await scene.look()).requeueAfterMs).toBeGreaterThan(0);
        await scene.clock.advance(1_000);
      }
    };
    scene.requests.splice(0);
    await pass(1);
    expect(tries()).toBe(16);
    const before = scene.events.length;
    await pass(29 + 60);
    expect(tries()).toBe(17);
    await pass(1);
    expect(tries()).toBe(18);
    expect(scene.events).toHaveLength(before + 2);
    expect(scene.owners.get('hello')?.status?.conditions).toMatchObject([
      { type: 'Ready', status: 'False', reason: 'WorkerRefused', message: 'not so: Forbidden' },
      {},
    ]);
    // The function does not go by it any more.
    scene.faults.clear();
    scene.change(functionFixture({ spec: { scaling, description: 'another' } }));
    await scene.look();
    expect(scene.stored.size).toBeGreaterThan(30);
  });

  it('tells of a creation that is refused until it is taken, however often it looks meanwhile', async () => {
    const scene = new FunctionScene();
    scene.refusal = apiError('Forbidden', 403);
    scene.put(functionFixture({ minWorkers: 150 }));
    await scene.look();
    const reason = (): string | undefined => scene.owners.get('hello')?.status?.conditions?.[0]?.reason;
    const reasons = new Set<string | undefined>();
    for (let look = 0; look < 20; look += 1) {
      await scene.look();
      reasons.add(reason());
      await scene.clock.advance(5);
    }
    expect([...reasons]).toEqual(['WorkerRefused']);
  });

  it('follows one that is taken again with the others', async () => {
    const scene = new FunctionScene();
    scene.refusal = apiError('Forbidden', 403);
    scene.put(functionFixture({ minWorkers: 40 }));
    await scene.look();
    scene.refusal = undefined;
    await scene.clock.advance(30_000);
    expect(await scene.look()).toEqual({ requeueAfterMs: 500 });
    expect(scene.stored.size).toBe(1);
    scene.see();
    await scene.look();
    expect(scene.stored.size).toBe(40);
  });

  it('tells why the API server takes no settings for a worker, and tries again after half a minute', async () => {
    const scene = new FunctionScene();
    const owner = functionFixture({ minWorkers: 1 });
    scene.put(owner);
    await scene.look();
    scene.settle();
    scene.faults.set('update hello-latest-0', apiError('Forbidden', 403));
    scene.put({ ...owner, spec: { ...owner.spec, reservedConcurrency: 2 } });
    expect(await scene.look()).toEqual({ requeueAfterMs: 30_000 });
    const [ready, stalled] = scene.owners.get('hello')?.status?.conditions ?? [];
    expect(ready).toMatchObject({ status: 'False', reason: 'SettingsRefused', message: 'not so: Forbidden' });
    expect(stalled).toMatchObject({ type: 'Stalled', reason: 'SettingsRefused' });
    expect(scene.events).toContain('SettingsRefused: not so: Forbidden');
    scene.faults.clear();
    await scene.clock.advance(30_000);
    await scene.look();
    expect(scene.stored.get('hello-latest-0')?.spec.concurrency?.reserved).toBe(2);
    expect(scene.owners.get('hello')?.status?.conditions).toMatchObject([{ reason: 'UpToDate' }]);
  });

  it('tells by an Event that the API server takes no revision of a template, which makes nothing less ready', async () => {
    const scene = new FunctionScene();
    const owner = functionFixture({ minWorkers: 1 });
    scene.put(owner);
    scene.faults.set(`create ${revisionName(owner, templateHashOf(owner.spec.template))}`, apiError('Forbidden', 403));
    await scene.look();
    scene.settle();
    expect(await scene.look()).toEqual({ requeueAfterMs: 30_000 });
    expect(scene.events).toContain('RevisionRefused: not so: Forbidden');
    expect(scene.owners.get('hello')?.status?.conditions).toMatchObject([{ reason: 'UpToDate' }]);
    scene.faults.clear();
    await scene.clock.advance(30_000);
    await scene.look();
    expect(scene.revisions.size).toBe(1);
  });

  it('takes the no of a webhook for what it is', async () => {
    const scene = new FunctionScene();
    scene.refusal = apiError('BadRequest', 400);
    scene.put(functionFixture());
    expect(await scene.look()).toEqual({ requeueAfterMs: 30_000 });
    expect(scene.told).toMatchObject([{ conditions: [{ reason: 'WorkerRefused' }, { type: 'Stalled' }] }]);
  });

  it('ends with none of its writes under way, and tells of those that came through', async () => {
    const scene = new FunctionScene();
    scene.faults.set('create hello-latest-0', apiError('Unreachable'));
    scene.put(functionFixture());
    await expect(scene.look()).rejects.toMatchObject({ code: 'Unreachable' });
    expect(scene.written()).toEqual(['create hello-latest-1']);
    expect(scene.events).toEqual(['Scaled: created hello-latest-1']);
    expect(scene.told).toMatchObject([{ observedGeneration: 1, conditions: [{ reason: 'Progressing' }, {}] }]);
  });

  it('makes the workers of a function also where one of a function before it cannot be deleted', async () => {
    const scene = new FunctionScene();
    scene.stored.set('hello-latest-0', ownedFixture(functionFixture(), 0));
    scene.see();
    scene.faults.set('delete hello-latest-0', apiError('Forbidden', 403));
    scene.put(functionFixture({ metadata: { uid: 'another' }, minWorkers: 1 }));
    expect(await scene.look()).toEqual({ requeueAfterMs: 30_000 });
    expect(scene.written()).toEqual(['create hello-latest-1']);
  });

  it('deletes the workers of a function that is gone, or was made again, and leaves orphans and others', async () => {
    const scene = new FunctionScene();
    const owner = functionFixture();
    const [mine, orphan, foreign] = [ownedFixture(owner, 0), ownedFixture(owner, 1), ownedFixture(owner, 2)];
    const hand = { ...foreign, metadata: { ...foreign.metadata, ownerReferences: [] } };
    for (const worker of [mine, orphan, hand]) {
      scene.stored.set(worker.metadata.name, worker);
    }
    scene.see();
    // The garbage collector has taken the reference away since.
    scene.stored.set(orphan.metadata.name, { ...orphan, metadata: { ...orphan.metadata, ownerReferences: [] } });
    await scene.look();
    expect(scene.written()).toEqual(['delete hello-latest-0']);

    scene.stored.set('hello-latest-0', { ...mine, metadata: { ...mine.metadata, uid: 'made-again' } });
    scene.see();
    scene.put(functionFixture({ metadata: { uid: 'another' }, minWorkers: 0 }));
    await scene.look();
    expect(scene.written()).toEqual(['delete hello-latest-0']);
  });

  it('deletes nothing while its cache alone does not know the function', async () => {
    const scene = new FunctionScene();
    const owner = functionFixture({ minWorkers: 1 });
    scene.stored.set('hello-latest-0', ownedFixture(owner, 0));
    scene.see();
    scene.owners.set('hello', owner);
    expect(await scene.look()).toEqual({ requeueAfterMs: 500 });
    expect(scene.written()).toEqual([]);
    scene.put(owner);
    scene.remove('hello');
    await scene.look();
    expect(scene.written()).toEqual(['delete hello-latest-0']);
  });

  it('writes numbers at most every half minute, and a condition at once', async () => {
    const scene = new FunctionScene();
    scene.put(functionFixture({ minWorkers: 4 }));
    await scene.look();
    expect(scene.told).toHaveLength(1);
    const names = [...scene.stored.keys()];
    const ready = (count: number): void => {
      for (const name of names.slice(0, count)) {
        const worker = scene.stored.get(name);
        const { status } = ownedFixture(functionFixture(), 0);
        scene.stored.set(name, { ...worker, status } as LambdaWorker);
      }
      scene.see();
    };
    ready(1);
    expect(await scene.look()).toEqual({ requeueAfterMs: 30_000 });
    expect(scene.told).toHaveLength(1);
    await scene.clock.advance(30_000);
    await scene.look();
    expect(scene.told.at(-1)).toMatchObject({ readyWorkers: 1 });
    ready(4);
    await scene.look();
    expect(scene.told.at(-1)).toMatchObject({ readyWorkers: 4, conditions: [{ status: 'True' }] });
    await scene.look();
    expect(scene.told).toHaveLength(3);
  });

  describe('publishing', () => {
    const wish = (publishToken: string, image = 'registry.example/hello:1') =>
      functionFixture({ image, minWorkers: 1, metadata: { resourceVersion: '1' }, spec: { publishToken } });

    /** A function whose only worker runs an image whose digest is known. */
    async function runningScene(): Promise<FunctionScene> {
      const scene = new FunctionScene();
      scene.put(wish('a'));
      await scene.look();
      for (const [name, worker] of scene.stored) {
        const { status } = ownedFixture(functionFixture(), 0, { status: { image: digestImage(3) } });
        scene.stored.set(name, { ...worker, status } as LambdaWorker);
      }
      scene.see();
      scene.written();
      return scene;
    }

    /** Looks until nothing is written any more. */
    async function settled(scene: FunctionScene): Promise<void> {
      for (let round = 0; round < 5; round += 1) {
        await scene.look();
        scene.see();
        scene.seeVersions();
      }
    }

    it('makes the version of a token once, with the digest, and a worker that proves it', async () => {
      const scene = await runningScene();
      await settled(scene);
      expect(scene.written()).toEqual(['publish hello-1', 'create hello-1-0']);
      expect(scene.versions.get('hello-1')?.spec).toMatchObject({
        functionName: 'hello',
        version: 1,
        template: { spec: { image: digestImage(3) } },
      });
      expect(scene.owners.get('hello')?.status).toMatchObject({
        latestVersion: 1,
        publication: { token: 'a', state: 'Created' },
      });
      expect(scene.versions.get('hello-1')?.status).toMatchObject({ state: 'Pending' });
      expect(scene.events).toContain(`Published: published hello-1 with ${digestImage(3)}`);
      expect(scene.stored.get('hello-1-0')?.spec).toMatchObject({ version: 1, image: digestImage(3) });
    });

    it('takes no version for missing that an alias names and the watch does not show yet', async () => {
      const scene = await runningScene();
      const owner = scene.owners.get('hello') ?? wish('a');
      scene.put({ ...owner, spec: { ...owner.spec, aliases: [{ name: 'live', version: 1 }] } });
      for (let round = 0; round < 3; round += 1) {
        await scene.look();
        scene.functions.put(scene.owners.get('hello') ?? owner);
      }
      expect(scene.written()).toEqual(['publish hello-1', 'create hello-1-0']);
      expect(JSON.stringify(scene.told)).not.toContain('VersionMissing');
      // One that is gone is missing.
      scene.versions.clear();
      scene.seeVersions();
      await scene.look();
      expect(JSON.stringify(scene.told)).toContain('VersionMissing');
    });

    it('gives no number twice, wherever the leader ends', async () => {
      const scene = await runningScene();
      // The leader ends after the number was given away, and before the version is known to be there.
      scene.cut = (status) => JSON.stringify(status).includes('"Created"');
      await expect(scene.look()).rejects.toThrow();
      expect(scene.written()).toEqual(['publish hello-1']);
      scene.cut = undefined;
      scene.changeLeader();
      await settled(scene);
      expect(scene.written()).toEqual(['create hello-1-0']);
      expect(scene.owners.get('hello')?.status).toMatchObject({ latestVersion: 1, publication: { state: 'Created' } });
      // The version is deleted, and the number is not given again.
      scene.versions.clear();
      scene.seeVersions();
      const { metadata, status } = scene.owners.get('hello') ?? wish('b');
      scene.put({ ...wish('b'), metadata, ...(status === undefined ? {} : { status }) });
      await settled(scene);
      expect(scene.written()).toContain('publish hello-2');
    });

    it('takes no version for dropped that is there, where its template changes before the cache shows it', async () => {
      const scene = await runningScene();
      scene.cut = (status) => JSON.stringify(status).includes('"Created"');
      await expect(scene.look()).rejects.toThrow();
      expect(scene.written()).toEqual(['publish hello-1']);
      scene.cut = undefined;
      const { metadata, status } = scene.owners.get('hello') ?? wish('a');
      scene.put({ ...wish('a', 'registry.example/hello:2'), metadata, ...(status === undefined ? {} : { status }) });
      await scene.look();
      expect(scene.owners.get('hello')?.status).toMatchObject({
        latestVersion: 1,
        publication: { token: 'a', state: 'Created' },
      });
      // One that was not made leaves its number unused.
      scene.versions.clear();
      const { publication } = scene.owners.get('hello')?.status ?? {};
      const creating = { latestVersion: 2, publication: { ...publication, template: 'before', state: 'Creating' } };
      scene.put({ ...wish('a'), metadata, status: creating as NonNullable<LambdaFunction['status']> });
      await scene.look();
      expect(scene.told).toContainEqual({ publication: null });
    });

    it('takes versions without an owner by label and name, as after a restore, and those of nobody else', async () => {
      const scene = new FunctionScene();
      const former = functionFixture();
      const without = (version: LambdaVersion, name = version.metadata.name): void => {
        const { ownerReferences: _gone, ...metadata } = version.metadata;
        scene.versions.set(name, { ...version, metadata: { ...metadata, name } });
      };
      for (const number of [1, 2, 3]) {
        without(versionFixture(former, number));
      }
      without(versionFixture(former, 7), 'another-7');
      const spec = { aliases: [{ name: 'live', version: 3 }] };
      scene.put(functionFixture({ spec, metadata: { resourceVersion: '1', uid: 'new' } }));
      for (let round = 0; round < 4; round += 1) {
        scene.seeVersions();
        await scene.look();
        scene.settle();
      }
      const owners = [...scene.versions.values()].map(({ metadata }) => metadata.ownerReferences?.[0]?.uid);
      expect(owners).toEqual(['new', 'new', 'new', undefined]);
      expect(scene.owners.get('hello')?.status).toMatchObject({
        aliases: [{ name: 'live', version: 3 }],
        conditions: [{ type: 'Ready', status: 'True' }],
      });
      // The next number is a new one.
      scene.change(functionFixture({ spec: { ...spec, publishToken: 'a' } }));
      scene.tell(':1', [condition('Ready', 'True')]);
      for (const [name, worker] of scene.stored) {
        scene.stored.set(name, { ...worker, status: { ...worker.status, image: digestImage(9) } } as LambdaWorker);
      }
      scene.see();
      await scene.look();
      expect(scene.written()).toContain('publish hello-4');
    });

    it('takes no version of a function that is gone by now, and goes on where the API server takes no owner', async () => {
      const scene = new FunctionScene();
      const { ownerReferences: _gone, ...metadata } = versionFixture(functionFixture(), 1).metadata;
      scene.versions.set('hello-1', { ...versionFixture(functionFixture(), 1), metadata });
      scene.put(functionFixture());
      scene.seeVersions();
      scene.owners.clear();
      await scene.look();
      expect(scene.versions.get('hello-1')?.metadata.ownerReferences).toBeUndefined();
      scene.put(functionFixture());
      scene.faults.set('patch lambdaversions', apiError('Forbidden', 403));
      expect(await scene.look()).toEqual({ requeueAfterMs: 30_000 });
      expect(scene.stored.size).toBe(2);
    });

    it('deletes the versions of a function that is gone', async () => {
      const scene = await runningScene();
      await settled(scene);
      scene.remove('hello');
      scene.written();
      await scene.look();
      expect(scene.written()).toEqual(['delete hello-latest-0', 'delete hello-1-0', 'delete version hello-1']);
    });
  });

  describe('templates that are kept', () => {
    const of = (image: number, more: Partial<LambdaFunction['metadata']> = {}) =>
      functionFixture({
        image: `registry.example/hello:${image}`,
        minWorkers: 0,
        metadata: { resourceVersion: '1', ...more },
        spec: { revisionHistoryLimit: 1 },
      });
    /** Writes another spec, as a user does. */
    function apply(scene: FunctionScene, wish: LambdaFunction): void {
      scene.change(wish);
      const present = scene.owners.get('hello') ?? wish;
      const { annotations } = wish.metadata;
      scene.put({
        ...present,
        metadata: { ...present.metadata, ...(annotations === undefined ? {} : { annotations }) },
      });
    }
    async function looks(scene: FunctionScene): Promise<readonly string[]> {
      for (let round = 0; round < 3; round += 1) {
        await scene.look();
      }
      return [...scene.revisions.values()]
        .map(({ data, metadata, revision }) => {
          const { image } = (data as LambdaFunction['spec'] & { spec: LambdaFunction['spec'] }).spec.template.spec;
          const cause = metadata.annotations?.['kubernetes.io/change-cause'];
          return [revision, image.slice(-1), ...(cause === undefined ? [] : [cause])].join(' ');
        })
        .toSorted();
    }

    it('are ControllerRevisions of the function, with its words for the change, as many as the limit says', async () => {
      const scene = new FunctionScene();
      scene.put(of(1));
      expect(await looks(scene)).toEqual(['1 1']);
      const [made] = scene.revisions.values();
      expect(made?.metadata).toMatchObject({
        labels: { 'esb.dev/lambda-function': 'hello' },
        ownerReferences: [{ kind: 'LambdaFunction', uid: 'uid-of-hello', controller: true }],
      });
      apply(scene, of(2));
      expect(await looks(scene)).toEqual(['1 1', '2 2']);
      // Words come after the change, by kubectl annotate.
      apply(scene, of(2, { annotations: { 'kubernetes.io/change-cause': 'two' } }));
      expect(await looks(scene)).toEqual(['1 1', '2 2 two']);
      apply(scene, of(3));
      expect(await looks(scene)).toEqual(['2 2 two', '3 3 two']);
      apply(scene, of(2));
      expect(await looks(scene)).toEqual(['3 3 two', '4 2 two']);
      expect(scene.owners.get('hello')?.status?.revisions?.map(({ revision }) => revision)).toEqual([3, 4]);
    });

    it('are made after their number is written, and again where a leader has ended in between or one is gone', async () => {
      const scene = new FunctionScene();
      scene.put(of(1));
      scene.cut = (status) => 'revisions' in status;
      await expect(scene.look()).rejects.toThrow();
      expect(scene.revisions.size).toBe(0);
      scene.cut = undefined;
      await scene.look();
      scene.changeLeader();
      expect(await looks(scene)).toEqual(['1 1']);
      scene.revisions.clear();
      scene.changeLeader();
      expect(await looks(scene)).toEqual(['1 1']);
    });

    it('are read once by a new leader, after the workers were looked at, and not written again', async () => {
      const scene = new FunctionScene();
      await scene.begin(functionFixture());
      scene.changeLeader();
      scene.requests.splice(0);
      await scene.controller.reconcile(KEY, {});
      expect(scene.requests).toEqual([]);
      await scene.controller.keepTemplate(KEY, {});
      await scene.look();
      expect(scene.requests).toEqual(['get controllerrevisions']);
    });

    it('go with their function, and those of a function before it make room', async () => {
      const scene = new FunctionScene();
      scene.put(of(1));
      await looks(scene);
      scene.controller.start();
      onTestFinished(() => scene.controller.stop());
      scene.remove('hello');
      await waitFor('the end of its revision', () => scene.revisions.size === 0, { everyMs: 5 });

      scene.put(of(1, { uid: 'earlier' }));
      await waitFor('a revision', () => scene.revisions.size === 1, { everyMs: 5 });
      scene.changeLeader();
      scene.put(of(1, { uid: 'later' }));
      await looks(scene);
      const owners = [...scene.revisions.values()].map(({ metadata }) => metadata.ownerReferences?.[0]?.uid);
      expect(owners).toEqual(['later']);
    });
  });

  it('stops a change after the deadline, and goes on with the next template', async () => {
    const scene = new FunctionScene();
    const of = (image: number) => functionFixture({ minWorkers: 2, image: `registry.example/hello:${image}` });
    const state = () => scene.owners.get('hello')?.status?.rollout?.state;
    const change = (image: number): void => scene.change(of(image));
    scene.put(of(1));
    await scene.look();
    scene.settle();
    await scene.look();
    expect(state()).toBe('Complete');
    scene.written();
    change(2);
    await scene.look();
    expect(scene.written()).toEqual(['update hello-latest-0']);
    // Its new container does not come.
    const hung = scene.stored.get('hello-latest-0');
    const conditions = [condition('Ready', 'False', 'NodeFull', 'no room'), condition('Callable', 'True')];
    scene.stored.set('hello-latest-0', { ...hung, status: { ...hung?.status, conditions } } as LambdaWorker);
    scene.see();
    await scene.clock.advance(300_000);
    expect(await scene.look()).toMatchObject({ requeueAfterMs: expect.any(Number) as number });
    expect(state()).toBe('Progressing');
    // Another leader counts on.
    scene.changeLeader();
    await scene.clock.advance(300_000);
    await scene.look();
    expect(state()).toBe('Stopped');
    expect(scene.told.at(-1)).toMatchObject({
      conditions: [
        { type: 'Ready', status: 'False', reason: 'ProgressDeadlineExceeded' },
        { type: 'Stalled', message: expect.stringContaining('hello-latest-0: NodeFull: no room') as string },
      ],
    });
    await scene.look();
    expect(scene.written()).toEqual([]);
    const stops = scene.events.filter((event) => event.startsWith('ProgressDeadlineExceeded'));
    expect(stops).toEqual([expect.stringContaining('hello-latest-0: NodeFull: no room')]);
    change(1);
    await scene.look();
    expect(scene.written()).toEqual(['update hello-latest-0']);
    expect(state()).toBe('Progressing');
  });

  it('goes on with a change that had stopped once a further worker is ready with it', async () => {
    const scene = new FunctionScene();
    await scene.begin(functionFixture({ minWorkers: 4 }));
    scene.change(functionFixture({ minWorkers: 4, image: 'registry.example/hello:2' }));
    await scene.look();
    // The registry is away.
    scene.tell(':2', [condition('Ready', 'False', 'ImagePullFailed'), condition('Callable', 'True')]);
    await scene.look();
    await scene.clock.advance(601_000);
    await scene.look();
    expect(scene.rollout()).toMatchObject({ state: 'Stopped' });
    for (let worker = 1; worker <= 4; worker += 1) {
      scene.settle();
      await scene.look();
    }
    expect(scene.images()).toEqual({ ':2': 4 });
    scene.settle();
    await scene.look();
    expect(scene.rollout()).toMatchObject({ state: 'Complete' });
  });

  it('writes nothing where a newer definition adds a default to the template, or a field that it does not know', async () => {
    const scene = new FunctionScene();
    const spec = { publish: 'OnChange', aliases: [{ name: 'live', version: 1 }] } as const;
    const running = (): void => {
      scene.settle();
      for (const [name, worker] of scene.stored) {
        scene.stored.set(name, { ...worker, status: { ...worker.status, image: digestImage(1) } } as LambdaWorker);
      }
      scene.see();
      scene.seeVersions();
    };
    scene.put(functionFixture({ spec, metadata: { resourceVersion: '1' } }));
    for (let round = 0; round < 6; round += 1) {
      await scene.look();
      running();
    }
    expect(scene.owners.get('hello')?.status).toMatchObject({ latestVersion: 1, conditions: [{ status: 'True' }] });
    scene.written();
    const defaulted = (owner: LambdaFunction): LambdaFunction => {
      const added = { newField: false, runtimeInterface: 'Lambda' } as const;
      return { ...owner, spec: { ...owner.spec, template: { spec: { ...owner.spec.template.spec, ...added } } } };
    };
    const told = scene.told.length;
    scene.put(defaulted(scene.owners.get('hello') ?? functionFixture()));
    // The image of the tag is another by now.
    for (const [name, worker] of scene.stored) {
      scene.stored.set(name, { ...worker, status: { ...worker.status, image: digestImage(2) } } as LambdaWorker);
    }
    for (const version of scene.versions.values()) {
      scene.versions.set(version.metadata.name, defaulted(version as never) as never);
    }
    scene.see();
    scene.seeVersions();
    await scene.look();
    await scene.look();
    expect(scene.written()).toEqual([]);
    expect(scene.told.slice(told)).toEqual([]);
    // A user changes another part of the spec: fields that this release does not know make no other template.
    const owner = scene.owners.get('hello') ?? functionFixture();
    const { runtimeInterface: _known, ...template } = owner.spec.template.spec;
    scene.change({ ...owner, spec: { ...owner.spec, description: 'words', template: { spec: template } } });
    await scene.look();
    expect(scene.written()).toEqual([]);
  });

  describe('a function in the mode Auto', () => {
    const scaling = { mode: 'Auto', minWorkers: 0, maxWorkers: 50, spareWorkers: 1 } as const;
    const types = (scene: FunctionScene): readonly string[] =>
      (scene.owners.get('hello')?.status?.conditions ?? []).map(({ status, type }) => `${type}: ${status}`);
    const failed = (scene: FunctionScene) => {
      const lastTransitionTime = new Date(scene.clock.now()).toISOString();
      return [
        condition('Ready', 'False', 'CrashLoopBackOff'),
        { ...condition('Stalled', 'True', 'CrashLoopBackOff', 'exit 1'), lastTransitionTime },
      ];
    };

    it('says that workers have failed, and has others in their place as far as some work', async () => {
      const scene = new FunctionScene();
      await scene.begin(functionFixture({ spec: { scaling } }));
      scene.calls = 9;
      await scene.look();
      scene.settle();
      await scene.look();
      expect(scene.stored.size).toBe(10);
      scene.tell(':1', failed(scene));
      const working = new Set([...scene.stored.keys()].slice(0, 2));
      scene.settle(({ metadata }) => working.has(metadata.name));
      await scene.look();
      expect(types(scene)).toEqual(['Ready: True', 'Degraded: True']);
      expect(scene.owners.get('hello')?.status?.conditions?.[1]).toMatchObject({
        reason: 'WorkersFailed',
        message: '8 of 10 workers have failed; hello-latest-2: exit 1',
      });
      // They may come back by themselves.
      expect(scene.stored.size).toBe(10);
      await scene.clock.advance(60_000);
      const sizes: number[] = [];
      for (let round = 0; round < 5; round += 1) {
        await scene.look();
        sizes.push(scene.stored.size);
        scene.settle(({ metadata, status }) => working.has(metadata.name) || status === undefined);
      }
      expect(sizes).toEqual([12, 14, 16, 18, 18]);
      scene.settle();
      await scene.look();
      expect(types(scene)).toEqual(['Ready: True']);
      expect(scene.stored.size).toBe(10);
    });

    it('has no worker in place of failed ones where none works', async () => {
      const scene = new FunctionScene();
      await scene.begin(functionFixture({ spec: { scaling } }));
      scene.tell(':1', failed(scene));
      await scene.clock.advance(61_000);
      await scene.look();
      expect(types(scene)).toEqual(['Ready: False', 'Stalled: True', 'Degraded: True']);
      expect(scene.stored.size).toBe(1);
    });

    it('says after a minute that it hears of no calls, at once under the next leader, and no more once it does', async () => {
      const scene = new FunctionScene();
      await scene.begin(functionFixture({ spec: { scaling } }));
      scene.isHeard = false;
      scene.calls = 40;
      expect((await scene.look()).requeueAfterMs).toBeLessThanOrEqual(60_000);
      expect(types(scene)).toEqual(['Ready: True']);
      await scene.clock.advance(60_000);
      await scene.look();
      expect(types(scene)).toEqual(['Ready: True', 'ScalingActive: False']);
      expect(scene.stored.size).toBe(1);
      scene.changeLeader();
      await scene.look();
      expect(types(scene)).toEqual(['Ready: True', 'ScalingActive: False']);
      scene.isHeard = true;
      await scene.look();
      expect(types(scene)).not.toContain('ScalingActive: False');
      const fixed = new FunctionScene();
      fixed.isHeard = false;
      await fixed.begin(functionFixture());
      await fixed.clock.advance(120_000);
      await fixed.look();
      expect(types(fixed)).toEqual(['Ready: True']);
    });
  });

  describe('further workers, while the template has not worked', () => {
    const scaling = { mode: 'Auto', minWorkers: 4, maxWorkers: 100, scaleDownDelaySeconds: 60 } as const;
    const of = (image: string): LambdaFunction =>
      functionFixture({ image: `registry.example/hello:${image}`, spec: { scaling, revisionHistoryLimit: 0 } });
    const failed = [
      condition('Ready', 'False', 'ReplacementFailed'),
      condition('Stalled', 'True', 'ReplacementFailed', 'exit 1'),
      condition('Callable', 'True', 'Serving'),
    ];
    const hangs = [condition('Ready', 'False', 'Pulling'), condition('Callable', 'True', 'Serving')];

    it.each([
      ['failed at the first worker', failed, 0],
      ['come to its deadline', hangs, 601_000],
      ['just begun', undefined, 0],
    ])('have the one of before where it has %s, under the next leader too', async (_what, conditions, ms) => {
      const scene = new FunctionScene();
      await scene.begin(of('1'));
      // Two bad ones, and no history but what is needed.
      for (const image of ['bad', 'worse']) {
        scene.change(of(image));
        await scene.look();
        if (conditions !== undefined) {
          scene.tell(`:${image}`, conditions);
        }
        await scene.look();
        await scene.clock.advance(ms);
        await scene.look();
      }
      expect(scene.images()[':1']).toBe(3);
      scene.changeLeader();
      scene.calls = 40;
      await scene.look();
      expect(scene.images()).toEqual({ ':1': 40, ':worse': 1 });
      // They come up with what they were made with.
      scene.see();
      await scene.look();
      expect(scene.images()[':1']).toBe(40);
      const worse = [...scene.stored.values()].find(({ spec }) => spec.image.endsWith('worse'));
      scene.settle(({ spec }) => spec.image.endsWith(':1'));
      // One that works again is what further workers get.
      scene.tell(':worse', [condition('Ready', 'True')]);
      scene.calls = 60;
      await scene.look();
      expect(worse).toBeDefined();
      expect(scene.images()).toMatchObject({ ':worse': expect.toSatisfy((count: number) => count > 20) as number });
    });

    it('have the one of before in place of a worker of a Fixed function that is lost', async () => {
      const scene = new FunctionScene();
      const fixed = (image: string): LambdaFunction =>
        functionFixture({ image: `registry.example/hello:${image}`, minWorkers: 4 });
      await scene.begin(fixed('1'));
      scene.change(fixed('bad'));
      await scene.look();
      scene.tell(':bad', hangs);
      await scene.look();
      await scene.clock.advance(601_000);
      await scene.look();
      scene.stored.delete('hello-latest-3');
      scene.see();
      await scene.look();
      expect(scene.images()).toEqual({ ':1': 3, ':bad': 1 });
    });

    it('begin with the present one where the API server takes the one of before no more', async () => {
      const scene = new FunctionScene();
      await scene.begin(of('1'));
      scene.faults.set('create registry.example/hello:1', apiError('Forbidden', 403));
      scene.stored.clear();
      scene.see();
      await scene.look();
      scene.change(of('2'));
      await scene.look();
      expect(scene.images()).toEqual({});
      await scene.clock.advance(30_000);
      await scene.look();
      expect(scene.images()).toEqual({ ':2': 1 });
      scene.settle();
      await scene.clock.advance(30_000);
      await scene.look();
      scene.see();
      await scene.look();
      expect(scene.images()).toEqual({ ':2': 4 });
    });

    it('have the present one where none of before has worked, or is kept any more', async () => {
      const scene = new FunctionScene();
      scene.put({ ...of('bad'), metadata: { ...of('bad').metadata, resourceVersion: '1' } });
      await scene.look();
      scene.tell(':bad', failed);
      scene.calls = 9;
      await scene.look();
      expect(scene.images()).toEqual({ ':bad': 10 });

      const gone = new FunctionScene();
      await gone.begin(of('1'));
      gone.change(of('bad'));
      await gone.look();
      gone.tell(':bad', failed);
      await gone.look();
      gone.revisions.clear();
      gone.calls = 9;
      await gone.look();
      expect(gone.images()).toEqual({ ':1': 3, ':bad': 7 });
    });
  });

  it('tells by an Event that a change has stopped, also where the deadline passes in the middle of a look', async () => {
    const scene = new FunctionScene();
    const of = (image: number, more: Partial<LambdaFunction['spec']> = {}) =>
      functionFixture({ minWorkers: 1, image: `registry.example/hello:${image}`, spec: more });
    const change = (wish: LambdaFunction): void => scene.change(wish);
    scene.put(of(1));
    await scene.look();
    scene.settle();
    await scene.look();
    change(of(2));
    await scene.look();
    scene.see();
    await scene.clock.advance(599_000);
    // A setting is written while the last second goes by.
    change(of(2, { reservedConcurrency: 1 }));
    scene.onUpdate = () => scene.clock.advance(2_000);
    await scene.look();
    scene.onUpdate = undefined;
    await scene.look();
    expect(scene.owners.get('hello')?.status?.rollout?.state).toBe('Stopped');
    const stops = scene.events.filter((event) => event.startsWith('ProgressDeadlineExceeded'));
    expect(stops).toHaveLength(1);
  });

  it('looks at the URLs of a namespace again when its label changes', async () => {
    const scene = new FunctionScene();
    const namespace = (labels: Readonly<Record<string, string>>): Namespace => ({
      metadata: { name: 'default', labels },
    });
    scene.namespaces.put(namespace({}));
    scene.put(functionFixture({ minWorkers: 0, spec: { url: { authType: 'NONE', invokeMode: 'BUFFERED' } } }));
    scene.controller.start();
    onTestFinished(() => scene.controller.stop());
    const told = (): unknown => scene.told.at(-1);
    await waitFor('the refusal', () => JSON.stringify(told()).includes('PublicForbidden'), { everyMs: 5 });
    scene.namespaces.put(namespace({ 'esb.dev/public-functions': 'true' }));
    await waitFor('the URL', () => JSON.stringify(told()).includes('"url":"https://hello.default.fn.example.com/"'), {
      everyMs: 5,
    });
    scene.namespaces.put(namespace({}));
    await waitFor('its end', () => JSON.stringify(told()).includes('"url":null'), { everyMs: 5 });
  });

  it('tells a function that an older one has its name, and publishes none of its versions until that is gone', async () => {
    const scene = new FunctionScene();
    const called = (name: string, second: number) =>
      functionFixture({
        name,
        minWorkers: 0,
        metadata: { creationTimestamp: `2026-11-01T00:00:0${second}Z` },
        spec: { functionName: 'hello', publishToken: 'one', url: { authType: 'AWS_IAM', invokeMode: 'BUFFERED' } },
      });
    const conditions = (name: string): string =>
      JSON.stringify(
        scene.owners.get(name)?.status?.conditions?.map(({ message, reason, type }) => [type, reason, message]),
      );
    scene.put(called('younger', 2));
    scene.controller.start();
    onTestFinished(() => scene.controller.stop());
    await waitFor('the URL', () => conditions('younger').includes('"Served"'), { everyMs: 5 });
    // A version is made of what a worker has run.
    expect(conditions('younger')).toContain('0 of 1 workers');
    scene.see();
    scene.put(called('older', 1));
    await waitFor('the loss of the name', () => conditions('younger').includes('["NameHeld","NameTaken"'), {
      everyMs: 5,
    });
    expect(conditions('younger')).toContain('LambdaFunction older is older and has the name hello');
    expect(conditions('younger')).toContain('["UrlServed","NameTaken"');
    expect(conditions('younger')).toContain('no worker is wanted');
    await waitFor('the holder', () => conditions('older').includes('"Served"'), { everyMs: 5 });
    expect(conditions('older')).not.toContain('NameTaken');
    scene.see();
    scene.remove('older');
    await waitFor('the name', () => conditions('younger').includes('"Served"'), { everyMs: 5 });
    expect(conditions('younger')).toContain('0 of 1 workers');
    expect(conditions('younger')).not.toContain('NameTaken');
  });
});
