import { describe, expect, it, onTestFinished } from 'vitest';
import { type LambdaFunction, lambdaFunctions } from '../../../../src/api/lambda-function.ts';
import { lambdaVersions } from '../../../../src/api/lambda-version.ts';
import { lambdaWorkers } from '../../../../src/api/lambda-worker.ts';
import { controllerRevisions, namespaces } from '../../../../src/kube/api/resource-types.ts';
import { condition, digestImage, functionFixture, ownedFixture } from '../../../support/function-fixture.ts';
import { apiError, FunctionLab } from '../../../support/function-lab.ts';
import { settle } from '../../../support/manual-clock.ts';
import { waitFor } from '../../../support/wait-for.ts';

describe('FunctionController', () => {
  it('makes the workers of a function once, however far its watch is behind', async () => {
    const lab = new FunctionLab();
    lab.apply(functionFixture());
    lab.lag('functions', 'workers');
    await lab.look();
    expect(lab.written()).toEqual(['create hello-latest-0', 'create hello-latest-1']);
    lab.requests();
    // So that the assignment is their next write.
    expect(lab.worker('hello-latest-0').metadata.finalizers).toEqual(['esb.dev/worker']);
    const look = lab.look();
    lab.settle();
    lab.caches.workers.show();
    await look;
    expect(await lab.look()).toEqual({});
    expect(lab.requests()).toEqual(['patch lambdafunctions']);
    expect(lab.told.at(-1)).toMatchObject({ workers: 2, readyWorkers: 2, conditions: [{ reason: 'UpToDate' }] });
    expect(lab.events).toEqual(['Scaled: created hello-latest-0, hello-latest-1']);
  });

  it('has as many workers of a function with the mode Auto as its calls need, and fewer after the delay', async () => {
    const lab = new FunctionLab();
    const scaling = { mode: 'Auto', minWorkers: 0, maxWorkers: 4, scaleDownDelaySeconds: 60 } as const;
    lab.apply(functionFixture({ spec: { scaling } }));
    await lab.look();
    expect(lab.written()).toEqual(['create hello-latest-0']);
    lab.settle();
    await lab.look();
    expect(lab.told.at(-1)).toMatchObject({ conditions: [{ type: 'Ready', status: 'True', reason: 'UpToDate' }] });
    const { length } = lab.told;
    lab.calls = 7;
    await lab.look();
    expect(lab.written()).toEqual(['create hello-latest-1', 'create hello-latest-2', 'create hello-latest-3']);
    // Load is no reason not to be Ready, and numbers wait for their turn.
    expect(lab.told).toHaveLength(length);
    lab.settle();
    lab.calls = 0;
    expect(await lab.look()).toEqual({ requeueAfterMs: 30_000 });
    await lab.clock.advance(60_000);
    await lab.look();
    expect(lab.written()).toEqual(['delete hello-latest-3', 'delete hello-latest-2', 'delete hello-latest-1']);
  });

  it('makes one worker in place of one that ends, under a name that is free', async () => {
    const lab = new FunctionLab();
    await lab.begin(functionFixture());
    await lab.cluster.client.delete(lambdaWorkers, lab.worker('hello-latest-0').metadata);
    lab.written();
    lab.lag('workers');
    await lab.look();
    expect(lab.written()).toEqual(['create hello-latest-2']);
    lab.cluster.remove(lambdaWorkers, lab.worker('hello-latest-0').metadata);
    await lab.look();
    lab.show();
    await lab.look();
    expect(lab.written()).toEqual([]);
  });

  it('gives a worker the whole template, and keeps what others have written on the object', async () => {
    const lab = new FunctionLab();
    await lab.begin(functionFixture({ minWorkers: 1 }));
    const made = lab.worker('hello-latest-0');
    lab.cluster.put(lambdaWorkers, {
      ...made,
      metadata: { ...made.metadata, labels: { ...made.metadata.labels, team: 'a' } },
      spec: { ...made.spec, env: [{ name: 'LEFT', value: 'over' }] },
    });
    await lab.look();
    // A change by hand stays until the template changes.
    expect(lab.written()).toEqual([]);
    lab.lag('workers');
    lab.apply(functionFixture({ minWorkers: 1, image: 'registry.example/hello:2' }));
    await lab.look();
    expect(lab.written()).toEqual(['patch hello-latest-0']);
    const changed = lab.worker('hello-latest-0');
    expect(changed.spec).toMatchObject({ image: 'registry.example/hello:2', functionName: 'hello' });
    expect(changed.spec).not.toHaveProperty('env');
    expect(changed.metadata).toMatchObject({
      finalizers: ['esb.dev/worker'],
      labels: { team: 'a', 'esb.dev/lambda-function': 'hello' },
    });
    // The watch still shows the template before.
    await lab.look();
    expect(lab.written()).toEqual([]);
  });

  it('gives its workers the reserved concurrency of the function at once, and no template with it', async () => {
    const lab = new FunctionLab();
    await lab.begin(functionFixture());
    lab.lag('workers');
    lab.apply(functionFixture({ spec: { reservedConcurrency: 4 } }));
    await lab.look();
    expect(lab.written()).toEqual(['patch hello-latest-0', 'patch hello-latest-1']);
    expect(lab.workers.map(({ spec }) => spec.concurrency?.reserved)).toEqual([4, 4]);
    // The watch shows the workers as they were.
    await lab.look();
    expect(lab.written()).toEqual([]);
    lab.settle();
    lab.show();
    lab.apply(functionFixture({ spec: { reservedConcurrency: 4 }, image: 'registry.example/hello:2' }));
    await lab.look();
    expect(lab.written()).toEqual(['patch hello-latest-0']);
    expect(lab.worker('hello-latest-0').spec).toMatchObject({ concurrency: { reserved: 4 } });
  });

  it.each([
    ['settings', { spec: { reservedConcurrency: 4 } }],
    ['template', { image: 'registry.example/hello:2' }],
  ])(
    'gives no %s to a worker that the garbage collector has let go, and that its watch still shows',
    async (_, change) => {
      const lab = new FunctionLab();
      await lab.begin(functionFixture({ minWorkers: 1 }));
      lab.lag('workers');
      const worker = lab.worker('hello-latest-0');
      lab.cluster.put(lambdaWorkers, { ...worker, metadata: { ...worker.metadata, ownerReferences: [] } });
      lab.apply(functionFixture({ minWorkers: 1, ...change }));
      expect(await lab.look()).toEqual({ requeueAfterMs: 500 });
      expect(lab.written()).toEqual([]);
    },
  );

  it.each(['labels', 'annotations'] as const)(
    'takes no worker for refused whose %s somebody has taken away, before its watch shows it',
    async (field) => {
      const lab = new FunctionLab();
      await lab.begin(functionFixture({ minWorkers: 1 }));
      lab.lag('workers');
      const worker = lab.worker('hello-latest-0');
      lab.cluster.put(lambdaWorkers, { ...worker, metadata: { ...worker.metadata, [field]: undefined } });
      lab.apply(functionFixture({ minWorkers: 1, image: 'registry.example/hello:2' }));
      expect(await lab.look()).toEqual({ requeueAfterMs: 500 });
      expect(lab.owner.status?.conditions).not.toContainEqual(expect.objectContaining({ reason: 'WorkerRefused' }));
      lab.show();
      await lab.look();
      expect(lab.worker('hello-latest-0').spec.image).toBe('registry.example/hello:2');
    },
  );

  it('changes workers with one request for each, and one for the turns of each look', async () => {
    const lab = new FunctionLab();
    const image = 'registry.example/hello:2';
    await lab.begin(functionFixture({ minWorkers: 40 }));
    lab.requests();
    for (const change of [{ image }, { image, spec: { reservedConcurrency: 4 } }]) {
      lab.apply(functionFixture({ minWorkers: 40, ...change }));
      for (let look = 0; look < 4; look += 1) {
        await lab.look();
        lab.settle();
      }
    }
    const counts = Map.groupBy(lab.requests(), (request) => request);
    expect(counts.get('patch lambdaworkers')).toHaveLength(2 * 40);
    expect(counts.has('get lambdaworkers')).toBe(false);
    expect(lab.told.filter((status) => 'changing' in status && Object.keys(status).length === 1)).toHaveLength(4);
  });

  it.each([
    ['the template', { image: 'registry.example/hello:2', minWorkers: 4 }],
    ['their end', { minWorkers: 2 }],
  ])('sends a worker that gets %s and the settings in one look no second request', async (_what, change) => {
    const lab = new FunctionLab();
    const rollout = { maxSurge: 4, maxUnavailable: 0, progressDeadlineSeconds: 600 };
    await lab.begin(functionFixture({ minWorkers: 4, spec: { rollout } }));
    lab.requests();
    lab.apply(functionFixture({ ...change, spec: { rollout, reservedConcurrency: 4 } }));
    expect(await lab.look()).not.toEqual({ requeueAfterMs: 500 });
    expect(lab.requests().filter((each) => each.endsWith('lambdaworkers'))).toHaveLength(4);
    expect(new Set(lab.workers.map(({ spec }) => spec.concurrency?.reserved))).toEqual(new Set([4]));
  });

  it.each([
    ['settings', { spec: { reservedConcurrency: 4 } }],
    ['template', { image: 'registry.example/hello:2' }],
    ['end of the function', undefined],
  ])('tries the %s at few of its workers in a look while the watch shows none as it is', async (_what, change) => {
    const lab = new FunctionLab();
    const wish = (more: Parameters<typeof functionFixture>[0] = {}) => {
      const made = functionFixture({ minWorkers: 100, ...more });
      const rollout = { maxSurge: 100, maxUnavailable: 0, progressDeadlineSeconds: 600 };
      return { ...made, spec: { ...made.spec, rollout } };
    };
    await lab.begin(wish());
    lab.lag('workers');
    for (const worker of lab.workers) {
      lab.report(worker, { phase: 'Paused' });
    }
    lab.requests();
    if (change === undefined) {
      lab.remove('hello');
    } else {
      lab.apply(wish(change));
    }
    expect(await lab.look()).toEqual({ requeueAfterMs: 500 });
    expect(lab.requests().filter((each) => each.endsWith('lambdaworkers'))).toHaveLength(16);
    lab.show();
    await lab.look();
    expect(lab.requests().filter((each) => each.endsWith('lambdaworkers'))).toHaveLength(100);
  });

  it('takes workers away with one request for each, however late its watch is, under the next leader too', async () => {
    const lab = new FunctionLab();
    await lab.begin(functionFixture({ minWorkers: 100 }));
    lab.lag('workers');
    lab.requests();
    for (const left of [99, 90, 50]) {
      lab.apply(functionFixture({ minWorkers: left }));
      await lab.look();
      // Another one would leave first now.
      lab.report(lab.worker(`hello-latest-${left - 50}`), { phase: 'Paused' });
      await lab.look();
      expect(lab.workers).toHaveLength(left);
    }
    lab.changeLeader();
    lab.apply(functionFixture({ minWorkers: 49 }));
    await lab.look();
    const requests = lab.requests().filter((each) => each.endsWith('lambdaworkers'));
    expect(requests).toEqual(Array.from({ length: 51 }, () => 'delete lambdaworkers'));
  });

  it('makes and ends workers in steps, be the function Fixed or Auto', async () => {
    const lab = new FunctionLab();
    lab.apply(functionFixture({ minWorkers: 250 }));
    const sizes: number[] = [];
    for (let second = 0; second < 4; second += 1) {
      await lab.look();
      lab.settle();
      // Another look of the same second changes nothing.
      await lab.look();
      lab.settle();
      sizes.push(lab.workers.length);
      await lab.clock.advance(1_000);
    }
    expect(sizes).toEqual([100, 200, 250, 250]);
    lab.apply(functionFixture({ minWorkers: 0 }));
    expect((await lab.look()).requeueAfterMs).toBeLessThanOrEqual(1_000);
    expect(lab.workers).toHaveLength(150);
    await lab.clock.advance(1_000);
    await lab.look();
    expect(lab.workers).toHaveLength(50);
  });

  it('deletes no other worker for one whose deletion had no answer, and that one again where it is there', async () => {
    const lab = new FunctionLab();
    await lab.begin(functionFixture({ minWorkers: 3 }));
    lab.cluster.inject(({ verb }) => verb === 'delete', { kind: 'lost', carriedOut: 'never' });
    lab.apply(functionFixture({ minWorkers: 2 }));
    await expect(lab.look()).rejects.toThrow('no answer');
    lab.requests();
    await lab.look();
    expect(lab.written()).toEqual(['delete hello-latest-2']);
    expect(lab.requests().filter((each) => each === 'get lambdaworkers')).toHaveLength(1);
  });

  it('makes a worker in place of one that is gone by the time that a change of it has no answer', async () => {
    const lab = new FunctionLab();
    await lab.begin(functionFixture({ minWorkers: 1 }));
    lab.lag('workers');
    lab.apply(functionFixture({ minWorkers: 1, image: 'registry.example/hello:2' }));
    lab.cluster.inject(({ name, verb }) => `${verb} ${name}` === 'patch hello-latest-0', {
      kind: 'lost',
      carriedOut: 'never',
    });
    await expect(lab.look()).rejects.toMatchObject({ code: 'Unreachable' });
    lab.cluster.remove(lambdaWorkers, lab.worker('hello-latest-0').metadata);
    await lab.look();
    expect(lab.written()).toEqual(['create hello-latest-0']);
  });

  it('leaves a worker alone that serves another function, whatever its owner reference says', async () => {
    const lab = new FunctionLab();
    const owner = functionFixture({ minWorkers: 1 });
    const other = ownedFixture(owner, 7);
    lab.cluster.put(lambdaWorkers, { ...other, spec: { ...other.spec, functionName: 'other' } });
    lab.apply(owner);
    await lab.look();
    lab.settle();
    await lab.look();
    lab.apply(functionFixture({ minWorkers: 0 }));
    await lab.look();
    expect(lab.written()).toEqual(['create hello-latest-0', 'delete hello-latest-0']);
    expect(lab.told).toMatchObject([{ workers: 0 }, { workers: 1 }, { workers: 1 }]);
  });

  it.each([
    ['why the API server takes no worker', apiError('Forbidden', 403)],
    ['the no of a webhook for what it is', apiError('BadRequest', 400)],
  ])('tells %s, and tries again after half a minute', async (_what, refusal) => {
    const lab = new FunctionLab();
    const end = lab.refuse('create lambdaworkers', refusal);
    lab.apply(functionFixture());
    expect(await lab.look()).toEqual({ requeueAfterMs: 30_000 });
    expect(lab.told).toMatchObject([
      { workers: 0, conditions: [{ reason: 'WorkerRefused', message: refusal.message }, { type: 'Stalled' }] },
    ]);
    expect(lab.events).toEqual([`WorkerRefused: ${refusal.message}`]);
    end();
    await lab.look();
    expect(lab.written()).toEqual([]);
    await lab.clock.advance(30_000);
    await lab.look();
    await lab.look();
    expect(lab.written()).toHaveLength(2);
  });

  it('tries a creation that is refused with growing waits, whatever its calls do, and at once for another spec', async () => {
    const lab = new FunctionLab();
    const scaling = { mode: 'Auto', minWorkers: 1, maxWorkers: 1_000 } as const;
    await lab.begin(functionFixture({ spec: { scaling } }));
    const end = lab.refuse('create lambdaworkers');
    let tries = 0;
    const pass = async (seconds: number): Promise<void> => {
      for (let second = 0; second < seconds; second += 1) {
        lab.calls = 30 + (second % 7);
        expect((await lab.look()).requeueAfterMs).toBeGreaterThan(0);
        tries += lab.requests().filter((each) => each === 'create lambdaworkers').length;
        await lab.clock.advance(1_000);
      }
    };
    lab.requests();
    await pass(1);
    expect(tries).toBe(16);
    const before = lab.events.length;
    await pass(29 + 60);
    expect(tries).toBe(17);
    await pass(1);
    expect(tries).toBe(18);
    expect(lab.events).toHaveLength(before + 2);
    expect(lab.owner.status?.conditions).toMatchObject([
      { type: 'Ready', status: 'False', reason: 'WorkerRefused', message: 'not so: Forbidden' },
      {},
    ]);
    // The function does not go by it any more.
    end();
    lab.apply(functionFixture({ spec: { scaling, description: 'another' } }));
    await lab.look();
    expect(lab.workers.length).toBeGreaterThan(30);
  });

  it('tells of a creation that is refused until it is taken, and makes the others once one is', async () => {
    const lab = new FunctionLab();
    const end = lab.refuse('create lambdaworkers');
    lab.apply(functionFixture({ minWorkers: 40 }));
    await lab.look();
    const reasons = new Set<string | undefined>();
    for (let look = 0; look < 20; look += 1) {
      await lab.look();
      reasons.add(lab.owner.status?.conditions?.[0]?.reason);
      await lab.clock.advance(5);
    }
    expect([...reasons]).toEqual(['WorkerRefused']);
    end();
    await lab.clock.advance(30_000);
    expect(await lab.look()).toEqual({ requeueAfterMs: 500 });
    expect(lab.workers).toHaveLength(1);
    await lab.look();
    expect(lab.workers).toHaveLength(40);
  });

  it('tells why the API server takes no settings for a worker, and tries again after half a minute', async () => {
    const lab = new FunctionLab();
    await lab.begin(functionFixture({ minWorkers: 1 }));
    const end = lab.refuse('patch hello-latest-0');
    lab.apply(functionFixture({ minWorkers: 1, spec: { reservedConcurrency: 2 } }));
    expect(await lab.look()).toEqual({ requeueAfterMs: 30_000 });
    const [ready, stalled] = lab.owner.status?.conditions ?? [];
    expect(ready).toMatchObject({ status: 'False', reason: 'SettingsRefused', message: 'not so: Forbidden' });
    expect(stalled).toMatchObject({ type: 'Stalled', reason: 'SettingsRefused' });
    expect(lab.events).toContain('SettingsRefused: not so: Forbidden');
    end();
    await lab.clock.advance(30_000);
    await lab.look();
    expect(lab.worker('hello-latest-0').spec.concurrency?.reserved).toBe(2);
    lab.settle();
    await lab.look();
    expect(lab.owner.status?.conditions).toMatchObject([{ reason: 'UpToDate' }]);
  });

  it('ends with none of its writes under way, and tells of those that came through', async () => {
    const lab = new FunctionLab();
    lab.refuse('create hello-latest-0', apiError('Unreachable'));
    lab.cluster.inject(({ name }) => name === 'hello-latest-1', { kind: 'slow' });
    lab.apply(functionFixture());
    const end = expect(lab.look()).rejects.toMatchObject({ code: 'Unreachable' });
    await settle();
    expect(lab.told).toEqual([]);
    lab.cluster.answer();
    await end;
    expect(lab.written()).toEqual(['create hello-latest-1']);
    expect(lab.events).toEqual(['Scaled: created hello-latest-1']);
    expect(lab.told).toMatchObject([{ observedGeneration: 1, conditions: [{ reason: 'Progressing' }, {}] }]);
  });

  it('makes the workers of a function also where one of a function before it cannot be deleted', async () => {
    const lab = new FunctionLab();
    lab.cluster.put(lambdaWorkers, ownedFixture(functionFixture(), 0));
    lab.refuse('delete hello-latest-0');
    lab.apply(functionFixture({ metadata: { uid: 'another' }, minWorkers: 1 }));
    expect(await lab.look()).toEqual({ requeueAfterMs: 30_000 });
    expect(lab.written()).toEqual(['create hello-latest-1']);
  });

  it('deletes the workers of a function that is gone, or was made again, and leaves orphans and others', async () => {
    const lab = new FunctionLab();
    const owner = functionFixture();
    const [mine, orphan, foreign] = [ownedFixture(owner, 0), ownedFixture(owner, 1), ownedFixture(owner, 2)];
    const hand = { ...foreign, metadata: { ...foreign.metadata, ownerReferences: [] } };
    for (const worker of [mine, orphan, hand]) {
      lab.cluster.put(lambdaWorkers, worker);
    }
    lab.lag('workers');
    // The garbage collector has taken the reference away since.
    lab.cluster.put(lambdaWorkers, { ...orphan, metadata: { ...orphan.metadata, ownerReferences: [] } });
    expect(await lab.look()).toEqual({ requeueAfterMs: 500 });
    expect(lab.written()).toEqual(['delete hello-latest-0']);
    expect(lab.requests()).toEqual(['get lambdafunctions', 'delete lambdaworkers', 'delete lambdaworkers']);

    lab.settle();
    lab.cluster.put(lambdaWorkers, { ...mine, metadata: { ...mine.metadata, uid: 'made-again' } });
    lab.show();
    lab.apply(functionFixture({ metadata: { uid: 'another' }, minWorkers: 0 }));
    await lab.look();
    expect(lab.written()).toEqual(['delete hello-latest-0']);
  });

  it('deletes nothing while its cache alone does not know the function', async () => {
    const lab = new FunctionLab();
    const owner = functionFixture({ minWorkers: 1 });
    lab.cluster.put(lambdaWorkers, ownedFixture(owner, 0));
    lab.lag('functions');
    lab.apply(owner);
    expect(await lab.look()).toEqual({ requeueAfterMs: 500 });
    expect(lab.written()).toEqual([]);
    lab.remove('hello');
    await lab.look();
    expect(lab.written()).toEqual(['delete hello-latest-0']);
  });

  it('writes numbers at most every half minute, and a condition at once', async () => {
    const lab = new FunctionLab();
    lab.apply(functionFixture({ minWorkers: 4 }));
    await lab.look();
    expect(lab.told).toHaveLength(1);
    lab.settle(({ metadata }) => metadata.name === 'hello-latest-0');
    expect(await lab.look()).toEqual({ requeueAfterMs: 30_000 });
    expect(lab.told).toHaveLength(1);
    await lab.clock.advance(30_000);
    await lab.look();
    expect(lab.told.at(-1)).toMatchObject({ readyWorkers: 1 });
    lab.settle();
    await lab.look();
    expect(lab.told.at(-1)).toMatchObject({ readyWorkers: 4, conditions: [{ status: 'True' }] });
    await lab.look();
    expect(lab.told).toHaveLength(3);
  });

  it('stops a change after the deadline, and goes on with the next template', async () => {
    const lab = new FunctionLab();
    const of = (image: number) => functionFixture({ minWorkers: 2, image: `registry.example/hello:${image}` });
    const state = () => lab.owner.status?.rollout?.state;
    await lab.begin(of(1));
    expect(state()).toBe('Complete');
    lab.apply(of(2));
    await lab.look();
    expect(lab.written()).toEqual(['patch hello-latest-0']);
    // Its new container does not come.
    const { status: hung } = lab.worker('hello-latest-0');
    const conditions = [condition('Ready', 'False', 'NodeFull', 'no room'), condition('Callable', 'True')];
    lab.cluster.put(lambdaWorkers, { ...lab.worker('hello-latest-0'), status: { ...hung, conditions } });
    await lab.clock.advance(300_000);
    expect(await lab.look()).toMatchObject({ requeueAfterMs: expect.any(Number) as number });
    expect(state()).toBe('Progressing');
    // Another leader counts on.
    lab.changeLeader();
    await lab.clock.advance(300_000);
    await lab.look();
    expect(state()).toBe('Stopped');
    expect(lab.told.at(-1)).toMatchObject({
      conditions: [
        { type: 'Ready', status: 'False', reason: 'ProgressDeadlineExceeded' },
        { type: 'Stalled', message: expect.stringContaining('hello-latest-0: NodeFull: no room') as string },
      ],
    });
    await lab.look();
    expect(lab.written()).toEqual([]);
    const stops = lab.events.filter((event) => event.startsWith('ProgressDeadlineExceeded'));
    expect(stops).toEqual([expect.stringContaining('hello-latest-0: NodeFull: no room')]);
    lab.apply(of(1));
    await lab.look();
    expect(lab.written()).toEqual(['patch hello-latest-0']);
    expect(state()).toBe('Progressing');
  });

  it('goes on with a change that had stopped once a further worker is ready with it', async () => {
    const lab = new FunctionLab();
    await lab.begin(functionFixture({ minWorkers: 4 }));
    lab.apply(functionFixture({ minWorkers: 4, image: 'registry.example/hello:2' }));
    await lab.look();
    // The registry is away.
    lab.tell(':2', [condition('Ready', 'False', 'ImagePullFailed'), condition('Callable', 'True')]);
    await lab.look();
    await lab.clock.advance(601_000);
    await lab.look();
    expect(lab.owner.status?.rollout).toMatchObject({ state: 'Stopped' });
    for (let worker = 1; worker <= 4; worker += 1) {
      lab.settle();
      await lab.look();
    }
    expect(lab.images()).toEqual({ ':2': 4 });
    lab.settle();
    await lab.look();
    expect(lab.owner.status?.rollout).toMatchObject({ state: 'Complete' });
  });

  it('tells by an Event that a change has stopped, also where the deadline passes in the middle of a look', async () => {
    const lab = new FunctionLab();
    const of = (image: number, more: Partial<LambdaFunction['spec']> = {}) =>
      functionFixture({ minWorkers: 1, image: `registry.example/hello:${image}`, spec: more });
    await lab.begin(of(1));
    lab.apply(of(2));
    await lab.look();
    await lab.clock.advance(599_000);
    // A setting is written while the last second goes by.
    lab.apply(of(2, { reservedConcurrency: 1 }));
    lab.cluster.inject(({ verb }) => verb === 'patch', { kind: 'slow' });
    const look = lab.look();
    await lab.clock.advance(2_000);
    lab.cluster.answer();
    await look;
    await lab.look();
    expect(lab.owner.status?.rollout?.state).toBe('Stopped');
    expect(lab.events.filter((event) => event.startsWith('ProgressDeadlineExceeded'))).toHaveLength(1);
  });

  it('writes nothing where a newer definition adds a default to the template, or a field that it does not know', async () => {
    const lab = new FunctionLab();
    const spec = { publish: 'OnChange', aliases: [{ name: 'live', version: 1 }] } as const;
    lab.apply(functionFixture({ spec }));
    for (let round = 0; round < 6; round += 1) {
      await lab.look();
      lab.settle(undefined, { image: digestImage(1) });
    }
    expect(lab.owner.status).toMatchObject({ latestVersion: 1, conditions: [{ status: 'True' }] });
    lab.written();
    const { length } = lab.told;
    const added = { newField: false, runtimeInterface: 'Lambda' } as const;
    // A definition changes no generation.
    const { owner, versions } = lab;
    const defaulted = { spec: { ...owner.spec.template.spec, ...added } };
    lab.caches.functions.written({
      ...owner,
      metadata: { ...owner.metadata, resourceVersion: '100000' },
      spec: { ...owner.spec, template: defaulted },
    });
    for (const version of versions) {
      const template = { spec: { ...version.spec.template.spec, ...added } };
      lab.cluster.put(lambdaVersions, { ...version, spec: { ...version.spec, template } });
    }
    // The image of the tag is another by now.
    lab.settle(undefined, { image: digestImage(2) });
    await lab.look();
    await lab.look();
    expect(lab.written()).toEqual([]);
    expect(lab.told.slice(length)).toEqual([]);
    // A user changes another part of the spec: fields that this release does not know make no other template.
    const template = { spec: { ...owner.spec.template.spec, newField: false } };
    lab.apply({ ...owner, spec: { ...owner.spec, description: 'words', template } });
    await lab.look();
    expect(lab.written()).toEqual([]);
  });

  describe('a function in the mode Auto', () => {
    const scaling = { mode: 'Auto', minWorkers: 0, maxWorkers: 50, spareWorkers: 1 } as const;
    const types = (lab: FunctionLab): readonly string[] =>
      (lab.owner.status?.conditions ?? []).map(({ status, type }) => `${type}: ${status}`);
    const failed = (lab: FunctionLab) => {
      const lastTransitionTime = new Date(lab.clock.now()).toISOString();
      return [
        condition('Ready', 'False', 'CrashLoopBackOff'),
        { ...condition('Stalled', 'True', 'CrashLoopBackOff', 'exit 1'), lastTransitionTime },
      ];
    };

    it('says that workers have failed, and has others in their place as far as some work', async () => {
      const lab = new FunctionLab();
      await lab.begin(functionFixture({ spec: { scaling } }));
      lab.calls = 9;
      await lab.look();
      lab.settle();
      await lab.look();
      expect(lab.workers).toHaveLength(10);
      lab.tell(':1', failed(lab));
      const working = new Set(['hello-latest-0', 'hello-latest-1']);
      lab.settle(({ metadata }) => working.has(metadata.name));
      await lab.look();
      expect(types(lab)).toEqual(['Ready: True', 'Degraded: True']);
      expect(lab.owner.status?.conditions?.[1]).toMatchObject({
        reason: 'WorkersFailed',
        message: '8 of 10 workers have failed; hello-latest-2: exit 1',
      });
      // They may come back by themselves.
      expect(lab.workers).toHaveLength(10);
      await lab.clock.advance(60_000);
      const sizes: number[] = [];
      for (let round = 0; round < 5; round += 1) {
        await lab.look();
        sizes.push(lab.workers.length);
        lab.settle(({ metadata, status }) => working.has(metadata.name) || status === undefined);
      }
      expect(sizes).toEqual([12, 14, 16, 18, 18]);
      lab.settle();
      await lab.look();
      expect(types(lab)).toEqual(['Ready: True']);
      expect(lab.workers).toHaveLength(10);
    });

    it('has no worker in place of failed ones where none works', async () => {
      const lab = new FunctionLab();
      await lab.begin(functionFixture({ spec: { scaling } }));
      lab.tell(':1', failed(lab));
      await lab.clock.advance(61_000);
      await lab.look();
      expect(types(lab)).toEqual(['Ready: False', 'Stalled: True', 'Degraded: True']);
      expect(lab.workers).toHaveLength(1);
    });

    it('says after a minute that it hears of no calls, at once under the next leader, and no more once it does', async () => {
      const lab = new FunctionLab();
      await lab.begin(functionFixture({ spec: { scaling } }));
      lab.isHeard = false;
      lab.calls = 40;
      expect((await lab.look()).requeueAfterMs).toBeLessThanOrEqual(60_000);
      expect(types(lab)).toEqual(['Ready: True']);
      await lab.clock.advance(60_000);
      await lab.look();
      expect(types(lab)).toEqual(['Ready: True', 'ScalingActive: False']);
      expect(lab.workers).toHaveLength(1);
      lab.changeLeader();
      await lab.look();
      expect(types(lab)).toEqual(['Ready: True', 'ScalingActive: False']);
      lab.isHeard = true;
      await lab.look();
      expect(types(lab)).not.toContain('ScalingActive: False');
      const fixed = new FunctionLab();
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
      const lab = new FunctionLab();
      await lab.begin(of('1'));
      // Two bad ones, and no history but what is needed.
      for (const image of ['bad', 'worse']) {
        lab.apply(of(image));
        await lab.look();
        if (conditions !== undefined) {
          lab.tell(`:${image}`, conditions);
        }
        await lab.look();
        await lab.clock.advance(ms);
        await lab.look();
      }
      expect(lab.images()[':1']).toBe(3);
      lab.changeLeader();
      lab.calls = 40;
      await lab.look();
      const further = (): readonly string[] => lab.workers.slice(4).map(({ spec }) => spec.image);
      expect(further()).toEqual(Array.from({ length: 37 }, () => 'registry.example/hello:1'));
      // They come up with what they were made with.
      await lab.look();
      expect(new Set(further())).toEqual(new Set(['registry.example/hello:1']));
      lab.settle(({ spec }) => spec.image.endsWith(':1'));
      // One that works again is what further workers get.
      lab.tell(':worse', [condition('Ready', 'True')]);
      lab.calls = 60;
      await lab.look();
      expect(lab.images()).toMatchObject({ ':worse': expect.toSatisfy((count: number) => count > 20) as number });
    });

    it('have the one of before in place of a worker of a Fixed function that is lost', async () => {
      const lab = new FunctionLab();
      const fixed = (image: string): LambdaFunction =>
        functionFixture({ image: `registry.example/hello:${image}`, minWorkers: 4 });
      await lab.begin(fixed('1'));
      lab.apply(fixed('bad'));
      await lab.look();
      lab.tell(':bad', hangs);
      await lab.look();
      await lab.clock.advance(601_000);
      await lab.look();
      lab.cluster.remove(lambdaWorkers, lab.worker('hello-latest-3').metadata);
      await lab.look();
      expect(lab.images()).toEqual({ ':1': 3, ':bad': 1 });
    });

    it('begin with the present one where the API server takes the one of before no more', async () => {
      const lab = new FunctionLab();
      await lab.begin(of('1'));
      lab.cluster.refuse(
        ({ body, verb }) => verb === 'create' && JSON.stringify(body).includes('"registry.example/hello:1"'),
        apiError('Forbidden', 403),
      );
      lab.clear(lambdaWorkers);
      await lab.look();
      lab.apply(of('2'));
      await lab.look();
      expect(lab.images()).toEqual({});
      await lab.clock.advance(30_000);
      await lab.look();
      expect(lab.images()).toEqual({ ':2': 1 });
      lab.settle();
      await lab.clock.advance(30_000);
      await lab.look();
      await lab.look();
      expect(lab.images()).toEqual({ ':2': 4 });
    });

    it('have the present one where none of before has worked, or is kept any more', async () => {
      const lab = new FunctionLab();
      lab.apply(of('bad'));
      await lab.look();
      lab.tell(':bad', failed);
      lab.calls = 9;
      await lab.look();
      expect(lab.images()).toEqual({ ':bad': 10 });

      const gone = new FunctionLab();
      await gone.begin(of('1'));
      gone.apply(of('bad'));
      await gone.look();
      gone.tell(':bad', failed);
      await gone.look();
      gone.clear(controllerRevisions);
      gone.calls = 9;
      await gone.look();
      expect(gone.images()).toEqual({ ':1': 3, ':bad': 7 });
    });
  });

  it('looks at the URLs of a namespace again when its label changes', async () => {
    const lab = new FunctionLab();
    const label = (labels: Readonly<Record<string, string>>): unknown =>
      lab.cluster.put(namespaces, { metadata: { name: 'default', labels } });
    const told = async (what: string): Promise<unknown> =>
      await waitFor(what, () => JSON.stringify(lab.told.at(-1)).includes(what), { everyMs: 5 });
    label({});
    lab.apply(functionFixture({ minWorkers: 0, spec: { url: { authType: 'NONE', invokeMode: 'BUFFERED' } } }));
    lab.controller.start();
    onTestFinished(() => lab.controller.stop());
    await told('PublicForbidden');
    label({ 'esb.dev/public-functions': 'true' });
    await told('"url":"https://hello.default.fn.example.com/"');
    label({});
    await told('"url":null');
  });

  it('tells a function that an older one has its name, and publishes none of its versions until that is gone', async () => {
    const lab = new FunctionLab();
    const called = (name: string, second: number) =>
      functionFixture({
        name,
        minWorkers: 0,
        metadata: { creationTimestamp: `2026-11-01T00:00:0${second}Z` },
        spec: { functionName: 'hello', publishToken: 'one', url: { authType: 'AWS_IAM', invokeMode: 'BUFFERED' } },
      });
    const conditions = (name: string): string =>
      JSON.stringify(
        lab.cluster
          .get(lambdaFunctions, { namespace: 'default', name })
          ?.status?.conditions?.map(({ message, reason, type }) => [type, reason, message]),
      );
    const says = async (name: string, what: string): Promise<unknown> =>
      await waitFor(`${what} of ${name}`, () => conditions(name).includes(what), { everyMs: 5 });
    lab.apply(called('younger', 2));
    lab.controller.start();
    onTestFinished(() => lab.controller.stop());
    await says('younger', '"Served"');
    // A version is made of what a worker has run.
    expect(conditions('younger')).toContain('0 of 1 workers');
    lab.apply(called('older', 1));
    await says('younger', '["NameHeld","NameTaken"');
    expect(conditions('younger')).toContain('LambdaFunction older is older and has the name hello');
    expect(conditions('younger')).toContain('["UrlServed","NameTaken"');
    expect(conditions('younger')).toContain('no worker is wanted');
    await says('older', '"Served"');
    expect(conditions('older')).not.toContain('NameTaken');
    lab.remove('older');
    await says('younger', '"Served"');
    expect(conditions('younger')).toContain('0 of 1 workers');
    expect(conditions('younger')).not.toContain('NameTaken');
  });
});
