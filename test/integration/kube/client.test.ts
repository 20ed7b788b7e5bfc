import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { silentLogger } from '../../../src/common/logger.ts';
import { type ConfigMap, configMaps, leases, namespaces } from '../../../src/kube/api/resource-types.ts';
import type { KubeClient, KubeObject, ResourceType } from '../../../src/kube/api/types.ts';
import { ListWatchInformer } from '../../../src/kube/cache/informer.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../../src/kube/client/kube-config.ts';
import { type ApiServer, startApiServer } from '../../support/api-server.ts';
import { waitFor } from '../../support/wait-for.ts';
import { installWidgets, widgets } from './support/widget.ts';

const namespace = 'default';
const configMap = (name: string, value: string): ConfigMap => ({
  metadata: { namespace, name, labels: { test: name.split('-')[0] ?? '' } },
  data: { value },
});

let server: ApiServer;
let client: KubeClient;

beforeAll(async () => {
  server = await startApiServer();
  client = createKubeClient({
    source: createKubeConnectionSource({ kubeconfig: server.adminKubeconfig }),
    pageSize: 7,
  });
  await installWidgets(client);
});

afterAll(async () => {
  await client?.close();
  await server?.stop();
});

function informerOf<T extends KubeObject>(
  type: ResourceType<T>,
  selector: { readonly labelSelector?: string; readonly fieldSelector?: string },
  watchSeconds = 20,
) {
  const informer = new ListWatchInformer(
    client,
    type,
    { namespace, ...selector },
    {
      logger: silentLogger(),
      backoffFirstMs: 100,
      backoffMaxMs: 1000,
      listDeadlineMs: 2000,
      watchSeconds,
    },
  );
  onTestFinished(() => informer.stop());
  informer.start();
  return informer;
}

describe('objects', () => {
  test('are created, applied, read and deleted', async () => {
    const key = { namespace, name: 'objects-one' };
    const created = await client.create(configMaps, configMap('objects-one', '1'));
    await expect(client.create(configMaps, configMap('objects-one', '1'))).rejects.toMatchObject({
      code: 'AlreadyExists',
    });
    const applied = await client.patch(configMaps, key, {
      kind: 'apply',
      body: { data: { value: '2' } },
      fieldManager: 'test',
    });
    expect(applied.data).toEqual({ value: '2' });
    await expect(client.update(configMaps, created)).rejects.toMatchObject({ code: 'Conflict' });
    await client.patch(configMaps, key, { kind: 'json', body: [{ op: 'remove', path: '/data/value' }] });
    expect((await client.get(configMaps, key))?.data).toBeUndefined();
    await client.delete(configMaps, key, { uid: 'somebody-else' });
    expect(await client.get(configMaps, key)).toBeDefined();
    await client.delete(configMaps, key, { uid: created.metadata.uid ?? '' });
    expect(await client.get(configMaps, key)).toBeUndefined();
    await client.delete(configMaps, key);
  });

  test('are not written to by what names an earlier version of them, also where nothing would change', async () => {
    const key = { namespace, name: 'versions' };
    const { metadata } = await client.create(widgets, { metadata: key });
    const { resourceVersion, uid } = metadata;
    const status = { subresource: 'status' } as const;
    const body = { metadata: { uid, resourceVersion } };
    const touch = () => client.patch(widgets, key, { kind: 'merge', body }, status);
    const replace = { op: 'replace', path: '/metadata/resourceVersion', value: resourceVersion };
    const label = { op: 'add', path: '/metadata/labels', value: { team: 'a' } };
    const mark = () => client.patch(widgets, key, { kind: 'json', body: [replace, label] });
    expect((await touch()).metadata).toEqual(metadata);
    await client.patch(widgets, key, { kind: 'merge', body: { status: { place: 'a' } } }, status);
    await expect(touch()).rejects.toMatchObject({ code: 'Conflict' });
    await expect(mark()).rejects.toMatchObject({ code: 'Conflict' });
    // A JSON patch is applied before versions are compared.
    const nested = { op: 'add', path: '/metadata/labels/team', value: 'a' };
    const misplaced = client.patch(widgets, key, { kind: 'json', body: [replace, nested] });
    await expect(misplaced).rejects.toMatchObject({ code: 'Invalid', status: 422 });
    await expect(client.delete(widgets, key, { uid, resourceVersion })).rejects.toMatchObject({ code: 'Conflict' });
    await client.delete(widgets, key, { uid });
    await expect(touch()).rejects.toMatchObject({ code: 'NotFound' });
  });

  test('errors carry the reason of the server', async () => {
    await expect(client.list({ ...widgets, plural: 'gadgets' })).rejects.toMatchObject({ status: 404 });
    await expect(client.get({ ...widgets, plural: 'gadgets' }, { namespace, name: 'x' })).rejects.toMatchObject({
      status: 404,
    });
    await expect(
      client.create(leases, { metadata: { namespace, name: 'bad' }, spec: { renewTime: '2026-01-01' } }),
    ).rejects.toMatchObject({ code: 'BadRequest', retryable: false });
    const stranger = createKubeClient({
      source: createKubeConnectionSource({ kubeconfig: await server.kubeconfig('stranger') }),
    });
    onTestFinished(() => stranger.close());
    await expect(stranger.list(configMaps)).rejects.toMatchObject({ code: 'Forbidden', status: 403 });
  });

  test('lists come in pages, and are counted with one object read', async () => {
    await Promise.all(
      Array.from({ length: 20 }, (_, number) => client.create(configMaps, configMap(`pages-${number}`, '1'))),
    );
    const listed = await client.list(configMaps, { namespace, labelSelector: 'test=pages' });
    expect(new Set(listed.items.map(({ metadata }) => metadata.name)).size).toBe(20);
    expect(await client.count(configMaps)).toBe((await client.list(configMaps)).items.length);
  });
});

describe('an informer', () => {
  test('follows changes, and a delete and re-create is told as both', async () => {
    const informer = informerOf(configMaps, { labelSelector: 'test=follow' });
    const told: string[] = [];
    informer.subscribe(({ kind, object }) => told.push(`${kind} ${object.metadata.name}`));
    await informer.synced();
    await client.create(configMaps, configMap('follow-one', '1'));
    await client.patch(
      configMaps,
      { namespace, name: 'follow-one' },
      { kind: 'merge', body: { data: { value: '2' } } },
    );
    await client.delete(configMaps, { namespace, name: 'follow-one' });
    await client.create(configMaps, configMap('follow-one', '3'));
    await waitFor('five events', () => told.length === 4);
    expect(told).toEqual(['added follow-one', 'updated follow-one', 'deleted follow-one', 'added follow-one']);
  });

  test('by a selectable field sees objects come and go', async () => {
    await client.create(widgets, { metadata: { namespace, name: 'here' } });
    const informer = informerOf(widgets, { fieldSelector: 'status.place=a' });
    await informer.synced();
    expect(informer.cache.list()).toEqual([]);
    const move = (place: string) =>
      client.patch(
        widgets,
        { namespace, name: 'here' },
        { kind: 'merge', body: { status: { place } } },
        { subresource: 'status' },
      );
    await move('a');
    await waitFor('the widget', () => informer.cache.list().length === 1);
    await move('b');
    await waitFor('its leaving', () => informer.cache.list().length === 0);
  });

  test('outlives an API server that is gone for a while, and objects made again meanwhile', async () => {
    const informer = informerOf(configMaps, { labelSelector: 'test=gone' });
    await client.create(configMaps, configMap('gone-one', '1'));
    await waitFor('the object', () => informer.cache.list().length === 1);
    await server.takeDown();
    await expect(client.get(namespaces, { name: 'default' })).rejects.toMatchObject({ code: 'Unreachable' });
    await server.bringUp();
    await client.create(configMaps, configMap('gone-two', '1'));
    await waitFor('the second object', () => informer.cache.list().length === 2);
  });

  test('and the client outlive an API server that is frozen', async () => {
    const informer = informerOf(configMaps, { labelSelector: 'test=frozen' });
    await informer.synced();
    server.pause();
    try {
      // A process of many threads does not stop all of them at once.
      await waitFor('the freeze', () =>
        client.get(namespaces, { name: 'default' }, { deadlineMs: 500 }).then(
          () => false,
          () => true,
        ),
      );
      const calls = Array.from({ length: 40 }, (_, number) =>
        client.create(configMaps, configMap(`frozen-${number}`, '1'), { deadlineMs: 1000 }),
      );
      for (const result of await Promise.allSettled(calls)) {
        expect(result).toMatchObject({ status: 'rejected', reason: { code: 'DeadlineExceeded' } });
      }
    } finally {
      server.continue();
    }
    await client.patch(
      configMaps,
      { namespace, name: 'frozen-after' },
      { kind: 'apply', fieldManager: 'test', body: { metadata: { labels: { test: 'frozen' } } } },
    );
    await waitFor('the object', () => informer.cache.get({ namespace, name: 'frozen-after' }));
    const listed = await client.list(configMaps, { namespace, labelSelector: 'test=frozen' });
    await waitFor('agreement', () => informer.cache.list().length === listed.items.length);
  });

  test('of a quiet kind still hears from the server', async () => {
    const informer = informerOf(widgets, { labelSelector: 'test=quiet' }, 3);
    await informer.synced();
    const listedAt = informer.lastSuccessAt() ?? 0;
    await waitFor('an answer', () => (informer.lastSuccessAt() ?? 0) > listedAt, { timeoutMs: 60_000 });
    expect(informer.cache.list()).toEqual([]);
  });
});
