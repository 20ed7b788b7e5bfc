import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { type LambdaNode, lambdaNodes } from '../../src/api/lambda-node.ts';
import { type LambdaWorker, lambdaWorkers } from '../../src/api/lambda-worker.ts';
import { checkDefinitions } from '../../src/api/schema-revision.ts';
import { silentLogger } from '../../src/common/logger.ts';
import type { KubeClient, KubeObject, ResourceType } from '../../src/kube/api/types.ts';
import { ListWatchInformer } from '../../src/kube/cache/informer.ts';
import { createKubeClient } from '../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../src/kube/client/kube-config.ts';
import { type ApiServer, startApiServer } from '../support/api-server.ts';
import { waitFor } from '../support/wait-for.ts';
import { manifestList } from '../support/worker-manifests.ts';

const root = join(import.meta.dirname, '../..');

/** A definition as far as versions are concerned. */
interface Definition {
  readonly metadata: { readonly name: string };
  readonly spec: { readonly versions: readonly Version[]; readonly [field: string]: unknown };
}

interface Version {
  readonly name: string;
  readonly served: boolean;
  readonly storage: boolean;
  readonly [field: string]: unknown;
}

const definitions = readdirSync(join(root, 'crds'))
  .filter((name) => name.endsWith('.yaml'))
  .map((name) => parse(readFileSync(join(root, 'crds', name), 'utf8')) as Definition);

/** The definition with a version of the same schema beside the present one, as a release would have it. */
function withNext(definition: Definition, { served, storage }: { readonly served: boolean; readonly storage: string }) {
  const [present] = definition.spec.versions;
  const named = (name: string, isServed: boolean) => ({
    ...present,
    name,
    served: isServed,
    storage: name === storage,
  });
  return {
    ...definition,
    spec: {
      ...definition.spec,
      conversion: { strategy: 'None' },
      versions: [named('v1alpha1', served), named('v1beta1', true)],
    },
  };
}

const next = <T extends KubeObject>(type: ResourceType<T>): ResourceType<T> => ({ ...type, version: 'v1beta1' });
const key = (name: string) => ({ namespace: 'default', name });

/** The steps of docs/how-to/upgrade.md, "When the version of the resources changes", on the definitions as they are. */
describe('the next version of the resources', () => {
  let server: ApiServer;
  let client: KubeClient;

  const kubectl = (...args: readonly string[]): Promise<string> => server.kubectl(args);
  const install = async (shape: Parameters<typeof withNext>[1]): Promise<void> => {
    const items = definitions.map((definition) => withNext(definition, shape));
    await server.kubectl(['apply', '--server-side', '-f', '-'], manifestList(items));
    await kubectl('wait', '--for=condition=Established', '--all', 'crd');
  };
  const names = (): readonly string[] => definitions.map(({ metadata }) => metadata.name);
  /** The version in which etcd has a worker. */
  const storedAs = async (name: string): Promise<string> => {
    const etcdKey = `/registry/esb.dev/lambdaworkers/default/${name}`;
    return /"apiVersion":"esb\.dev\/(\w+)"/.exec(await server.stored(etcdKey))?.[1] ?? '';
  };
  const patchStatus = (type: ResourceType<LambdaWorker>, name: string, manager: string, status: object) =>
    client.patch(
      type,
      key(name),
      { kind: 'apply', fieldManager: manager, body: { status } },
      { subresource: 'status' },
    );

  beforeAll(async () => {
    server = await startApiServer();
    client = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: server.adminKubeconfig }) });
    await kubectl('apply', '--server-side', '-f', join(root, 'crds'));
    await kubectl('wait', '--for=condition=Established', '--all', 'crd');
    for (const name of ['one', 'two']) {
      await client.create(lambdaWorkers, { metadata: key(name), spec: { image: 'hello:1' } } as LambdaWorker);
      await patchStatus(lambdaWorkers, name, 'esb-controller', {
        assignment: { nodeName: 'node-1', epoch: 1 },
        lastEpoch: 1,
      });
    }
    await client.create(lambdaNodes, { metadata: { name: 'node-1' } } as LambdaNode);
  });

  afterAll(async () => {
    await client.close();
    await server.stop();
  });

  it('comes beside the present one, is stored from then on, and leaves once nothing is stored in the present one', {
    timeout: 120_000,
  }, async () => {
    const selector = { fieldSelector: 'status.assignment.nodeName=node-1' };
    const old = new ListWatchInformer<LambdaWorker>(client, lambdaWorkers, selector, { logger: silentLogger() });
    old.start();
    try {
      await waitFor('the old watch', () => old.hasSynced() && old.cache.list().length === 2);

      // 1. Both are served; the present one is stored. A rollback loses nothing.
      await install({ served: true, storage: 'v1alpha1' });
      expect(await checkDefinitions(client, {})).toEqual({ ok: true });
      await patchStatus(next(lambdaWorkers), 'one', 'esb-agent', { phase: 'Running' });
      await waitFor('the old watch to hear of it', () => old.cache.get(key('one'))?.status?.phase === 'Running');
      expect(old.cache.get(key('one'))?.status?.lastEpoch).toBe(1);
      expect(await storedAs('one')).toBe('v1alpha1');

      // 2. The next one is stored.
      await install({ served: true, storage: 'v1beta1' });
      expect(await storedAs('two')).toBe('v1alpha1');
      await waitFor('the next one to be stored', async () => {
        await patchStatus(lambdaWorkers, 'one', 'esb-agent', { phase: 'Paused' });
        await patchStatus(lambdaWorkers, 'one', 'esb-agent', { phase: 'Running' });
        return (await storedAs('one')) === 'v1beta1';
      });
      // An agent that knows the old version alone goes on, by watch, list, and server-side apply.
      await waitFor('the old watch to go on', () => old.cache.get(key('one'))?.status?.phase === 'Running');
      expect((await client.list(lambdaWorkers, selector)).items.map(({ metadata }) => metadata.name)).toEqual([
        'one',
        'two',
      ]);
      expect((await client.list(next(lambdaWorkers), selector)).items).toHaveLength(2);

      // 3. Objects stored in the old version are written again.
      for (const name of names()) {
        const text = await kubectl('get', name, '--all-namespaces', '-o', 'json');
        await server.kubectl(['replace', '-f', '-'], text);
      }
      expect(await storedAs('two')).toBe('v1beta1');
      const two = await client.get(next(lambdaWorkers), key('two'));
      expect(two?.status).toMatchObject({ assignment: { nodeName: 'node-1', epoch: 1 }, lastEpoch: 1 });
      expect(two?.metadata.uid).toBe(old.cache.get(key('two'))?.metadata.uid);

      // 4. No definition claims any more that something is stored in the old one.
      const storedVersions = '{"status":{"storedVersions":["v1beta1"]}}';
      for (const name of names()) {
        expect(await kubectl('get', 'crd', name, '-o', 'jsonpath={.status.storedVersions}')).toBe(
          '["v1alpha1","v1beta1"]',
        );
        await kubectl('patch', 'crd', name, '--subresource=status', '--type=merge', '-p', storedVersions);
      }
    } finally {
      await old.stop();
    }

    // 5. A later release serves the next one alone. The old one stays named: the fields of server-side apply name it, and
    // where the definition does not, the API server answers each apply with 500.
    await install({ served: false, storage: 'v1beta1' });
    await waitFor('the old one to be served no more', () =>
      client.list(lambdaWorkers, {}).then(
        () => false,
        () => true,
      ),
    );
    await patchStatus(next(lambdaWorkers), 'two', 'esb-agent', { phase: 'Running' });
    expect((await client.get(next(lambdaWorkers), key('two')))?.status?.phase).toBe('Running');
    // An agent's fields that were applied in the old version are its own still: what is applied no more goes.
    await patchStatus(next(lambdaWorkers), 'one', 'esb-agent', { restartCount: 1 });
    const one = await client.get(next(lambdaWorkers), key('one'));
    expect(one?.status).toMatchObject({ restartCount: 1, lastEpoch: 1 });
    expect(one?.status?.phase).toBeUndefined();
  });
});
