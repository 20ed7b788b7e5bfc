import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { type LambdaFunction, lambdaFunctions } from '../../../src/api/lambda-function.ts';
import { type LambdaVersion, lambdaVersions } from '../../../src/api/lambda-version.ts';
import { type LambdaWorker, lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { runController } from '../../../src/controller/main.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { controllerFlags } from '../../../src/options/controller.ts';
import type { ApiServer } from '../../support/api-server.ts';
import { clearObjects } from '../../support/clear-objects.ts';
import type { FakeNode } from '../../support/fake-node.ts';
import { fastClock } from '../../support/fast-clock.ts';
import { functionManifest } from '../../support/function-manifest.ts';
import { type FunctionServer, startFunctionServer } from '../../support/function-server.ts';
import { optionsOf } from '../../support/options.ts';
import { type Running, running } from '../../support/running.ts';
import { waitFor } from '../../support/wait-for.ts';

const clock = fastClock(4);

describe('the workers of a LambdaFunction, with the roles and policies of the manifests', () => {
  let lab: FunctionServer;
  let server: ApiServer;
  let admin: KubeClient;
  let controller: Running;
  let controllerConfig: string;
  let node: FakeNode;

  const startController = (identity: string): Running =>
    running((signal) => {
      const flags = [
        ...['--kubeconfig', controllerConfig, '--health', '127.0.0.1:0', '--identity', identity],
        '--function-url-domain=fn.example.com',
      ];
      return runController(optionsOf(controllerFlags, flags), { signal, logger: silentLogger() }, clock);
    });

  beforeAll(async () => {
    lab = await startFunctionServer();
    ({ admin, controllerConfig, node, server } = lab);
    controller = startController('first');
  });

  afterEach(async () => {
    await clearObjects(admin, lambdaFunctions);
    await clearObjects(admin, lambdaVersions);
    await clearObjects(admin, lambdaWorkers);
  });

  afterAll(async () => {
    await controller?.stop();
    await lab?.close();
  });

  const manifest = (name: string, scaling: object, spec: object = {}, more: object = {}) =>
    functionManifest(name, {
      scaling: { mode: 'Fixed', ...scaling },
      template: { spec: { image: 'hello:1', ...spec } },
      ...more,
    });
  const apply = (...given: Parameters<typeof manifest>) => server.kubectl(['apply', '-f', '-'], manifest(...given));
  const workers = async (): Promise<readonly LambdaWorker[]> =>
    (await admin.list(lambdaWorkers, { namespace: 'default' })).items;
  const names = async (): Promise<readonly string[]> =>
    (await workers()).map(({ metadata }) => metadata.name).toSorted();
  const named = async (name: string): Promise<LambdaWorker> => {
    const worker = (await workers()).find(({ metadata }) => metadata.name === name);
    if (worker === undefined) {
      throw new Error(`there is no worker ${name}`);
    }
    return worker;
  };
  const haveNames = (...wanted: readonly string[]) =>
    waitFor(`workers ${wanted.join(', ')}`, async () => (await names()).join() === wanted.join());
  const when = (name: string, what: string, test: (owner: LambdaFunction) => boolean) =>
    waitFor(`${name}: ${what}`, async () => {
      const owner = await admin.get(lambdaFunctions, { namespace: 'default', name });
      return owner !== undefined && test(owner) ? owner : undefined;
    });
  const says = (owner: LambdaFunction, type: string, reason: string): boolean =>
    owner.status?.conditions?.some((one) => one.type === type && one.reason === reason) === true &&
    owner.status.observedGeneration === owner.metadata.generation;
  /** Has the agent of all assigned workers, or of some, tell that they run. */
  const run = async (...chosen: readonly string[]): Promise<void> => {
    const present = (await workers()).filter(
      ({ metadata, status }) =>
        status?.assignment !== undefined && (chosen.length === 0 || chosen.includes(metadata.name)),
    );
    await Promise.all(present.map((worker) => node.report(worker, 'Running', { status: 'True', reason: 'Running' })));
  };
  const assigned = (count: number) =>
    waitFor(
      `${count} workers to have a node`,
      async () => (await workers()).filter(({ status }) => status?.assignment !== undefined).length === count,
    );
  /** Waits until as many workers have each image; returns the names of those with the first of them. */
  const haveImages = async (counts: Readonly<Record<string, number>>): Promise<readonly string[]> =>
    await waitFor(`workers of ${JSON.stringify(counts)}`, async () => {
      const found = Map.groupBy(await workers(), ({ spec }) => spec.image);
      const wanted = Object.entries(counts);
      const [image = ''] = Object.keys(counts);
      return found.size === wanted.length && wanted.every(([name, count]) => found.get(name)?.length === count)
        ? found.get(image)?.map(({ metadata }) => metadata.name)
        : undefined;
    });

  const versions = async (): Promise<readonly LambdaVersion[]> =>
    (await admin.list(lambdaVersions, { namespace: 'default' })).items.toSorted(
      (one, other) => one.spec.version - other.spec.version,
    );
  /** Has the agents of all workers tell that they run the image with these digits. */
  const runImage = async (digit: string): Promise<void> => {
    for (const worker of await workers()) {
      if (worker.status?.assignment !== undefined && worker.metadata.deletionTimestamp === undefined) {
        const body = { status: { image: `registry.example/hello@sha256:${digit.repeat(64)}` } };
        const key = { namespace: 'default', name: worker.metadata.name };
        await admin.patch(lambdaWorkers, key, { kind: 'merge', body }, { subresource: 'status' });
        await node.report(worker, 'Running', { status: 'True', reason: 'Running' });
      }
    }
  };
  const patchFunction = (name: string, spec: object) =>
    server.kubectl(['patch', 'lf', name, '--type=merge', '-p', JSON.stringify({ spec })]);

  it('tells the URL of a function for everybody while the namespace has the label, and why not without', async () => {
    await apply('open', { minWorkers: 0 }, {}, { url: { authType: 'NONE' } });
    const told = async () => {
      const { status } = (await admin.get(lambdaFunctions, { namespace: 'default', name: 'open' })) ?? {};
      const reason = status?.conditions?.find(({ type }) => type === 'UrlServed')?.reason;
      return `${reason} ${status?.url}`;
    };
    await waitFor('the refusal', async () => (await told()) === 'PublicForbidden undefined');
    await server.kubectl(['label', 'namespace', 'default', 'esb.dev/public-functions=true']);
    await waitFor('the URL', async () => (await told()) === 'Served https://open.default.fn.example.com/');
    await server.kubectl(['label', 'namespace', 'default', 'esb.dev/public-functions-']);
    await waitFor('its end', async () => (await told()) === 'PublicForbidden undefined');
  });

  it('tells the second function of a name which one has aliases, versions and the URL, until that is gone', async () => {
    const more = { functionName: 'shared', url: { authType: 'AWS_IAM' } };
    await apply('first', { minWorkers: 0 }, {}, more);
    await apply('second', { minWorkers: 0 }, {}, more);
    const second = await when('second', 'without the name', (owner) => says(owner, 'NameHeld', 'NameTaken'));
    expect(says(second, 'UrlServed', 'NameTaken')).toBe(true);
    expect(second.status?.url).toBeUndefined();
    const first = await when('first', 'served', (owner) => says(owner, 'UrlServed', 'Served'));
    expect(says(first, 'NameHeld', 'NameTaken')).toBe(false);
    await server.kubectl(['delete', 'lf', 'first']);
    const last = await when('second', 'served', (owner) => says(owner, 'UrlServed', 'Served'));
    expect(says(last, 'NameHeld', 'NameTaken')).toBe(false);
  });

  it('are made, shown and scaled by kubectl, beside workers that were made by hand', async () => {
    await server.kubectl(
      ['apply', '-f', '-'],
      stringify({
        apiVersion: 'esb.dev/v1alpha1',
        kind: 'LambdaWorker',
        metadata: { name: 'hello-latest-1', namespace: 'default' },
        spec: { image: 'hand:1', functionName: 'hello' },
      }),
    );
    await apply('hello', { minWorkers: 2 });
    await haveNames('hello-latest-0', 'hello-latest-1', 'hello-latest-2');
    await assigned(3);
    await when('hello', 'in progress', (owner) => says(owner, 'Reconciling', 'Progressing'));
    const made = await named('hello-latest-0');
    expect(made.spec).toMatchObject({ image: 'hello:1', functionName: 'hello' });
    expect(made.metadata.ownerReferences).toMatchObject([{ kind: 'LambdaFunction', name: 'hello', controller: true }]);
    expect((await named('hello-latest-1')).metadata.ownerReferences).toBeUndefined();
    await run('hello-latest-0', 'hello-latest-2');
    await when('hello', 'ready', (owner) => says(owner, 'Ready', 'UpToDate'));
    expect((await server.kubectl(['get', 'lf', '--no-headers'])).trim().split(/\s+/).slice(0, 7)).toEqual([
      'hello',
      'True',
      'Fixed',
      '2',
      '2',
      '2',
      '2',
    ]);
    // Exits with 1 where there is a difference.
    await server.kubectl(['diff', '-f', '-'], manifest('hello', { minWorkers: 2 }));
    await server.kubectl(['scale', 'lf/hello', '--replicas=4']);
    await haveNames('hello-latest-0', 'hello-latest-1', 'hello-latest-2', 'hello-latest-3', 'hello-latest-4');
    await assigned(5);
    await run();
    await when('hello', 'ready with four', ({ status }) => status?.readyWorkers === 4 && status.workers === 4);
    const scale = JSON.parse(
      await server.kubectl(['get', '--raw', '/apis/esb.dev/v1alpha1/namespaces/default/lambdafunctions/hello/scale']),
    ) as object;
    expect(scale).toMatchObject({
      spec: { replicas: 4 },
      status: { replicas: 4, selector: 'esb.dev/lambda-function=hello,!esb.dev/lambda-version' },
    });
    // Those that are told to leave are gone once their node has nothing of them any more.
    await server.kubectl(['scale', 'lf/hello', '--replicas=1']);
    const leaving = await waitFor('three workers to leave', async () => {
      const found = (await workers()).filter(({ metadata }) => metadata.deletionTimestamp !== undefined);
      return found.length === 3 ? found : undefined;
    });
    await Promise.all(leaving.map((worker) => node.cleanUp(worker)));
    const gone = new Set(leaving.map(({ metadata }) => metadata.name));
    expect(gone).not.toContain('hello-latest-1');
    await waitFor('one worker and the one made by hand', async () => {
      const left = await names();
      return left.length === 2 && left.every((name) => !gone.has(name));
    });
    await when('hello', 'ready with one', (owner) => says(owner, 'Ready', 'UpToDate') && owner.status?.workers === 1);
  });

  it('get a change one after the other, and no more once one fails; the next change goes on', async () => {
    await apply('rolled', { minWorkers: 3 });
    await assigned(3);
    await run();
    await when('rolled', 'ready', (owner) => says(owner, 'Ready', 'UpToDate'));
    await apply('rolled', { minWorkers: 3 }, { image: 'missing:2', env: [{ name: 'A', value: 'b' }] });
    const [first = ''] = await haveImages({ 'missing:2': 1, 'hello:1': 2 });
    // Nothing may happen meanwhile.
    await delay(500);
    await haveImages({ 'missing:2': 1, 'hello:1': 2 });
    const broken = await named(first);
    const time = { lastTransitionTime: '2026-11-01T00:00:00Z', message: 'no missing:2' };
    await admin.patch(
      lambdaWorkers,
      { namespace: 'default', name: first },
      {
        kind: 'apply',
        fieldManager: 'esb-agent',
        body: {
          status: {
            phase: 'Running',
            observedGeneration: broken.metadata.generation,
            conditions: [
              { type: 'Ready', status: 'False', reason: 'ImageNotFound', ...time },
              { type: 'Stalled', status: 'True', reason: 'ImageNotFound', ...time },
            ],
          },
        },
      },
      { subresource: 'status' },
    );
    const stalled = await when('rolled', 'stalled', (owner) => says(owner, 'Stalled', 'ImageNotFound'));
    expect(stalled.status?.conditions?.[0]?.message).toBe(`${first}: no missing:2`);
    await haveImages({ 'missing:2': 1, 'hello:1': 2 });

    await apply('rolled', { minWorkers: 3 }, { image: 'hello:3' });
    expect(await haveImages({ 'hello:3': 1, 'hello:1': 2 })).toEqual([first]);
    expect((await named(first)).spec.env).toBeUndefined();
    await run(first);
    const both = await haveImages({ 'hello:3': 2, 'hello:1': 1 });
    await run(...both);
    await haveImages({ 'hello:3': 3 });
    await run();
    await when('rolled', 'ready', (owner) => says(owner, 'Ready', 'UpToDate'));
  });

  it('go with their function, without a garbage collector, and others stay', async () => {
    await apply('gone', { minWorkers: 2 });
    await apply('stays', { minWorkers: 1 });
    await assigned(3);
    await server.kubectl(['delete', 'lf', 'gone']);
    const leaving = await waitFor('two workers to leave', async () => {
      const found = (await workers()).filter(({ metadata }) => metadata.deletionTimestamp !== undefined);
      return found.length === 2 ? found : undefined;
    });
    await Promise.all(leaving.map((worker) => node.cleanUp(worker)));
    await haveNames('stays-latest-0');
  });

  it('stay without their function where it is deleted as the owner of orphans, once a garbage collector has let them go', async () => {
    await apply('orphans', { minWorkers: 2 });
    await assigned(2);
    await server.kubectl(['delete', 'lf', 'orphans', '--cascade=orphan', '--wait=false']);
    await when('orphans', 'in deletion', (owner) => says(owner, 'Ready', 'Terminating'));
    const left = await workers();
    expect(left.map(({ metadata }) => metadata.deletionTimestamp)).toEqual([undefined, undefined]);
    const key = { namespace: 'default', name: 'orphans' };
    for (const { metadata } of left) {
      const body = { metadata: { ownerReferences: null } };
      await admin.patch(lambdaWorkers, { namespace: 'default', name: metadata.name }, { kind: 'merge', body });
    }
    await admin.patch(lambdaFunctions, key, { kind: 'merge', body: { metadata: { finalizers: null } } });
    // Another function of the name makes workers of its own.
    await apply('orphans', { minWorkers: 1 });
    await haveNames('orphans-latest-0', 'orphans-latest-1', 'orphans-latest-2');
    await assigned(3);
    expect((await workers()).map(({ metadata }) => metadata.deletionTimestamp)).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });

  it('are not written to where a newer definition has one field more, with a default, and publish nothing', async () => {
    const more = { publish: 'OnChange' };
    await apply('older', { minWorkers: 3 }, {}, more);
    await assigned(3);
    await runImage('a');
    const ready = (count: number) =>
      when(
        'older',
        'ready',
        (owner) =>
          says(owner, 'Ready', 'UpToDate') &&
          owner.status?.updatedWorkers === count &&
          owner.status?.latestVersion === 1,
      );
    // The worker that proves the version runs as well.
    await waitFor('the version', async () => (await versions()).length === 1);
    await assigned(4);
    await runImage('a');
    const before = await ready(3);
    const latest = async () =>
      (await workers())
        .filter(({ spec }) => spec.version === undefined)
        .map(({ metadata }) => [metadata.name, metadata.generation, metadata.annotations?.['esb.dev/template']])
        .toSorted((one, other) => one.join().localeCompare(other.join()));
    const known = await latest();
    const path = '/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties';
    const change = async (op: 'add' | 'remove') => {
      for (const [plural, members] of [
        ['lambdaworkers', path],
        ['lambdafunctions', `${path}/template/properties/spec/properties`],
        ['lambdaversions', `${path}/template/properties/spec/properties`],
      ]) {
        const value = { type: 'string', default: 'by default', description: 'Of a later release.' };
        const patch = [{ op, path: `${members}/laterField`, ...(op === 'add' ? { value } : {}) }];
        await server.kubectl(['patch', 'crd', `${plural}.esb.dev`, '--type=json', '-p', JSON.stringify(patch)]);
      }
    };
    await change('add');
    try {
      // The API server takes a definition in some time after it has it.
      await waitFor('the default in each object', async () => {
        const owner = await admin.get(lambdaFunctions, { namespace: 'default', name: 'older' });
        const specs: readonly unknown[] = [owner?.spec.template.spec, ...(await workers()).map(({ spec }) => spec)];
        return specs.every((spec) => JSON.stringify(spec).includes('by default'));
      });
      await controller.stop();
      controller = startController('upgraded');
      // Written back with its defaults, as by each change of another part, the function has another generation.
      await server.kubectl(['scale', 'lf/older', '--replicas=4']);
      await waitFor('one worker more', async () => (await latest()).length === 4);
      await waitFor('its node', async () => (await workers()).every(({ status }) => status?.assignment !== undefined));
      await runImage('a');
      const after = await ready(4);
      expect((await latest()).slice(0, 3)).toEqual(known);
      expect(after.status?.revisions).toEqual(before.status?.revisions);
      expect(await versions()).toHaveLength(1);
    } finally {
      await change('remove');
    }
  });

  it('are refused by the policy in a template, and where the policy came later the function tells so', async () => {
    const host = { network: { mode: 'Host' }, command: ['/usr/local/bin/aws-lambda-rie'] };
    await waitFor('the policy', () =>
      apply('bold', { minWorkers: 1 }, host).then(
        () => false,
        (error: unknown) => String(error).includes('spec.network.mode Host is the network of the node'),
      ),
    );
    const label = (value: string) => server.kubectl(['label', 'namespace', 'default', '--overwrite', value]);
    await label('esb.dev/privileged-workers=true');
    await waitFor('the namespace to be let', () =>
      apply('bold', { minWorkers: 1 }, host).then(
        () => true,
        () => false,
      ),
    );
    await haveNames('bold-latest-0');
    await label('esb.dev/privileged-workers-');
    await waitFor('the policy to hold again', async () => {
      const probe = apply('probe', { minWorkers: 0 }, host);
      return await probe.then(
        () => false,
        () => true,
      );
    });
    // A template that stays as it was is not judged, and makes no more workers.
    await apply('bold', { minWorkers: 2 }, host);
    const refused = await when('bold', 'refused', (owner) => says(owner, 'Stalled', 'WorkerRefused'));
    expect(refused.status?.conditions?.[0]?.message).toContain('spec.network.mode Host');
  });

  it('are never made twice, and are all made, by controllers that end in the middle of it', async () => {
    const created = new Set<string>();
    let kills = 0;
    await apply('storm', { minWorkers: 60 });
    await waitFor(
      'sixty workers',
      async () => {
        const present = await workers();
        for (const { metadata } of present) {
          created.add(metadata.uid ?? '');
        }
        if (kills < 5 && present.length > kills * 10) {
          await controller.stop();
          kills += 1;
          controller = startController(`next-${kills}`);
        }
        return present.length === 60;
      },
      { timeoutMs: 120_000 },
    );
    await assigned(60);
    for (const { metadata } of await workers()) {
      created.add(metadata.uid ?? '');
    }
    expect(created.size).toBe(60);
    expect(kills).toBeGreaterThan(0);
  }, 180_000);

  it('publishes versions, and an alias goes from one to the other once the workers of the next are ready', async () => {
    await apply('ver', { minWorkers: 1 }, {}, { publishToken: 'one', description: 'the first' });
    await assigned(1);
    await runImage('a');
    const [first] = await waitFor('a version', async () => {
      const found = await versions();
      return found.length === 1 ? found : undefined;
    });
    expect(first).toMatchObject({
      metadata: { name: 'ver-1', ownerReferences: [{ kind: 'LambdaFunction', name: 'ver' }] },
      spec: {
        functionName: 'ver',
        version: 1,
        description: 'the first',
        template: { spec: { image: `registry.example/hello@sha256:${'a'.repeat(64)}` } },
      },
    });
    // One worker proves it, though no alias names it, and goes then.
    await haveNames('ver-1-0', 'ver-latest-0');
    expect((await named('ver-1-0')).spec).toMatchObject({ version: 1, functionName: 'ver' });
    await assigned(2);
    await runImage('a');
    await waitFor('the version to be active', async () => (await versions())[0]?.status?.state === 'Active');
    const proofLeaves = async (name: string): Promise<void> => {
      const proof = await waitFor(`${name} to leave`, async () => {
        const worker = (await workers()).find(({ metadata }) => metadata.name === name);
        return worker?.metadata.deletionTimestamp === undefined ? undefined : worker;
      });
      await node.cleanUp(proof);
    };
    await proofLeaves('ver-1-0');
    await haveNames('ver-latest-0');

    // The same again is no version; another digest under the same tag is one.
    await patchFunction('ver', { publishToken: 'two' });
    await when('ver', 'two dealt with', ({ status }) => status?.publication?.token === 'two');
    expect(await versions()).toHaveLength(1);
    await runImage('b');
    await patchFunction('ver', {
      publishToken: 'three',
      aliases: [{ name: 'live', version: 1, provisionedWorkers: 2 }],
    });
    await waitFor('two versions', async () => (await versions()).length === 2);
    await haveNames('ver-1-0', 'ver-1-1', 'ver-2-0', 'ver-latest-0');
    const before = await admin.get(lambdaFunctions, { namespace: 'default', name: 'ver' });
    expect(before?.status?.aliases ?? []).toEqual([]);
    await assigned(4);
    await runImage('b');
    await when('ver', 'live in effect', ({ status }) => status?.aliases?.[0]?.version === 1);
    await proofLeaves('ver-2-0');
    await haveNames('ver-1-0', 'ver-1-1', 'ver-latest-0');

    const aliases = [{ name: 'live', version: 2, routing: [{ version: 1, permille: 250 }], provisionedWorkers: 2 }];
    await patchFunction('ver', { aliases });
    const ofTwo = await waitFor('the second worker of the second version', async () => {
      const found = (await workers()).filter(({ spec }) => spec.version === 2);
      return found.length === 2 ? found : undefined;
    });
    expect(ofTwo.map(({ spec }) => spec.image)).toEqual(
      Array(2).fill(`registry.example/hello@sha256:${'b'.repeat(64)}`),
    );
    expect((await when('ver', 'there', () => true)).status?.aliases?.[0]?.version).toBe(1);
    await assigned(5);
    await runImage('b');
    const switched = await when('ver', 'ready', (owner) => says(owner, 'Ready', 'UpToDate'));
    expect(switched.status).toMatchObject({
      latestVersion: 2,
      aliases: [{ name: 'live', version: 2, routing: [{ version: 1, permille: 250 }] }],
      workers: 1,
    });
    await patchFunction('ver', { aliases: [{ name: 'live', version: 2 }] });
    await waitFor('the workers of the first version to leave', async () => {
      const ofOne = (await workers()).filter(({ spec }) => spec.version === 1);
      return ofOne.every(({ metadata }) => metadata.deletionTimestamp !== undefined);
    });
    const remove = (name: string, ...more: readonly string[]) => server.kubectl(['delete', 'lv', name, ...more]);
    await expect(remove('ver-2')).rejects.toThrow('an alias of the LambdaFunction names this version');
    await remove('ver-1', '--dry-run=server');
    // As by a restore that leaves owners out.
    const key = { namespace: 'default', name: 'ver-2' };
    await admin.patch(lambdaVersions, key, { kind: 'merge', body: { metadata: { ownerReferences: null } } });
    await waitFor('its owner', async () => {
      const found = await admin.get(lambdaVersions, key);
      return found?.metadata.ownerReferences?.[0]?.name === 'ver';
    });
    await when('ver', 'ready still', (owner) => says(owner, 'Ready', 'UpToDate'));
    await patchFunction('ver', { aliases: [{ name: 'live', version: 9 }] });
    await when('ver', 'stalled', (owner) => says(owner, 'Stalled', 'VersionMissing'));
    expect((await server.kubectl(['get', 'lv', '--no-headers'])).trim().split('\n')).toHaveLength(2);
    await server.kubectl(['delete', 'lf', 'ver']);
    await waitFor('the versions to go', async () => (await versions()).length === 0);
  }, 120_000);

  it('lets versions that an alias names go with their namespace', async () => {
    const namespace = 'closing';
    await server.kubectl(['create', 'namespace', namespace]);
    const version = {
      apiVersion: 'esb.dev/v1alpha1',
      kind: 'LambdaVersion',
      metadata: { name: 'last-1', namespace, labels: { 'esb.dev/lambda-function': 'last' } },
      spec: { functionName: 'last', version: 1, template: { spec: { image: 'hello:1' } } },
    };
    await server.kubectl(['create', '-f', '-'], stringify(version));
    const scaling = { mode: 'Fixed', minWorkers: 0 };
    const spec = { scaling, template: { spec: { image: 'hello:1' } }, aliases: [{ name: 'live', version: 1 }] };
    await server.kubectl(['create', '-f', '-'], functionManifest('last', spec, { namespace }));
    const remove = () => server.kubectl(['delete', 'lv', 'last-1', '-n', namespace]);
    await waitFor('the version to be held', () =>
      server.kubectl(['delete', 'lv', 'last-1', '-n', namespace, '--dry-run=server']).then(
        () => false,
        (error: unknown) => String(error).includes('an alias of the LambdaFunction names this version'),
      ),
    );
    // The part that empties a namespace is no part of this API server.
    await server.kubectl(['delete', 'namespace', namespace, '--wait=false']);
    await waitFor('the version to be let go', () =>
      remove().then(
        () => true,
        () => false,
      ),
    );
    await server.kubectl(['delete', 'lf', 'last', '-n', namespace]);
  });

  it('publishes each change where that is wished, and never gives a number twice, however often controllers end', async () => {
    const bodies = new Map<string, string>();
    await apply('often', { minWorkers: 1 }, {}, { publish: 'OnChange' });
    let kills = 0;
    for (let change = 1; change <= 6; change += 1) {
      await apply('often', { minWorkers: 1 }, { image: `hello:${change}` }, { publish: 'OnChange' });
      const killer = (async () => {
        // Faults and calls come at any moment.
        await delay(change * 40);
        await controller.stop();
        kills += 1;
        controller = startController(`again-${change}`);
      })();
      await waitFor(
        `version of change ${change}`,
        async () => {
          await runImage(String(change)).catch(() => undefined);
          const found = await versions();
          for (const { metadata, spec } of found) {
            const body = JSON.stringify(spec.template);
            expect(bodies.get(metadata.name) ?? body).toBe(body);
            bodies.set(metadata.name, body);
          }
          return found.some(({ metadata, spec }) => {
            const isLatest = metadata.name === `often-${spec.version}`;
            return isLatest && spec.template.spec.image.endsWith(String(change).repeat(64));
          });
        },
        { timeoutMs: 60_000 },
      );
      await killer;
    }
    expect(kills).toBe(6);
    // One for each change: a number may be left out, and nothing is published twice.
    expect(new Set(bodies.values()).size).toBe(bodies.size);
    await when('often', 'the last number', ({ status }) => (status?.latestVersion ?? 0) >= bodies.size);
  }, 180_000);

  it('are of a version only where the controller makes them', async () => {
    const made = {
      apiVersion: 'esb.dev/v1alpha1',
      kind: 'LambdaWorker',
      metadata: { name: 'forged-1-0', namespace: 'default' },
      spec: { image: 'hello:1', functionName: 'forged', version: 1 },
    };
    await expect(
      server.kubectl(['create', '-f', '-', '--as=somebody', '--as-group=editors'], stringify(made)),
    ).rejects.toThrow(/forbidden/i);
    await server.kubectl(['create', 'clusterrolebinding', 'editors', '--clusterrole=esb-edit', '--group=editors']);
    await waitFor('the policy', () =>
      server
        .kubectl(['create', '-f', '-', '--as=somebody', '--as-group=editors', '--dry-run=server'], stringify(made))
        .then(
          () => false,
          (error: unknown) => String(error).includes('spec.version is written by the controller alone'),
        ),
    );
    await server.kubectl(['delete', 'clusterrolebinding', 'editors']);
  });
});
