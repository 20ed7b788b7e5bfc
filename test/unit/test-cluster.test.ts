import { expect, it } from 'vitest';
import { ApiError } from '../../src/kube/api/api-error.ts';
import { type Pod, pods } from '../../src/kube/api/resource-types.ts';
import { TestCluster } from '../support/test-cluster.ts';

const key = { namespace: 'default', name: 'one' };
const pod: Pod = { metadata: { ...key, finalizers: ['a', 'b'], annotations: { 'x/y': '1' } } };

it('refuses what matches until that ends, reads included, and shows what was asked', async () => {
  const cluster = new TestCluster();
  const { client, requests } = cluster;
  const error = new ApiError('no', { code: 'Forbidden', status: 403 });
  const ends = [
    cluster.refuse(({ body }) => (body as Pod | undefined)?.metadata.name === 'one', error),
    cluster.refuse(({ verb }) => verb === 'get' || verb === 'list', error),
  ];
  for (const request of [
    () => client.create(pods, pod),
    () => client.get(pods, key),
    () => client.list(pods, { namespace: 'default' }),
  ]) {
    await expect(request()).rejects.toBe(error);
    await expect(request()).rejects.toBe(error);
  }
  await client.create(pods, { metadata: { ...key, name: 'two' } });
  for (const end of ends) {
    end();
  }
  await client.create(pods, pod);
  await client.delete(pods, key, { uid: 'other', gracePeriodSeconds: 1 });
  expect(await client.get(pods, key)).toBeDefined();
  expect(requests.at(-2)).toMatchObject({ verb: 'delete', options: { uid: 'other', gracePeriodSeconds: 1 } });
  expect(requests[4]).toEqual({ verb: 'list', plural: 'pods', name: '', options: { namespace: 'default' } });
});

it('takes JSON patches, and none whose test fails or whose place is not there', async () => {
  const cluster = new TestCluster();
  cluster.put(pods, pod);
  const patch = (...body: readonly object[]) => cluster.client.patch(pods, key, { kind: 'json', body });
  await patch(
    { op: 'test', path: '/metadata/finalizers/0', value: 'a' },
    { op: 'remove', path: '/metadata/finalizers/0' },
    { op: 'replace', path: '/metadata/annotations/x~1y', value: '2' },
    { op: 'add', path: '/metadata/labels', value: { z: '3' } },
  );
  const metadata = { finalizers: ['b'], annotations: { 'x/y': '2' }, labels: { z: '3' } };
  expect(cluster.get(pods, key)).toMatchObject({ metadata });
  const wrong = [
    { op: 'test', path: '/metadata/uid', value: 'other' },
    { op: 'remove', path: '/metadata/labels/other' },
    { op: 'replace', path: '/spec/other', value: 1 },
  ];
  for (const operation of wrong) {
    await expect(patch(operation)).rejects.toMatchObject({ code: 'Invalid' });
  }
  expect(cluster.get(pods, key)).toMatchObject({ metadata });
});

it('takes no write that names an earlier version, also where the write would change nothing', async () => {
  const cluster = new TestCluster();
  const { resourceVersion = '' } = cluster.put(pods, { ...pod, status: { phase: 'Running' } }).metadata;
  const touch = () =>
    cluster.client.patch(
      pods,
      key,
      { kind: 'merge', body: { metadata: { resourceVersion } } },
      { subresource: 'status' },
    );
  expect(await touch()).toMatchObject({ metadata: { resourceVersion }, status: { phase: 'Running' } });
  cluster.put(pods, pod);
  const stale = { code: 'Conflict' };
  await expect(touch()).rejects.toMatchObject(stale);
  await expect(cluster.client.delete(pods, key, { resourceVersion })).rejects.toMatchObject(stale);
  expect(cluster.get(pods, key)?.metadata).not.toHaveProperty('deletionTimestamp');
});
