import { beforeEach, describe, expect, test } from 'vitest';
import type { KubeClient, KubeObject, ResourceType } from '../../../../src/kube/api/types.ts';
import { createKubeClient } from '../../../../src/kube/client/client.ts';
import { FencedError, fencedClient } from '../../../../src/kube/client/fenced-client.ts';
import { createStatusApplier, type StatusOwnership, statusDiffers } from '../../../../src/kube/client/status-apply.ts';
import { type FakeApiServer, requestFor, startFakeApiServer } from '../../../support/fake-api-server.ts';

interface Widget extends KubeObject {
  readonly status?: {
    readonly phase?: string;
    readonly place?: string;
    readonly pausedAt?: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
  };
}

const widgets: ResourceType<Widget> = {
  group: 'test.dev',
  version: 'v1',
  kind: 'Widget',
  plural: 'widgets',
  namespaced: true,
};
const key = { namespace: 'default', name: 'one' };
const owned: StatusOwnership = {
  fieldManager: 'agent',
  fields: ['phase', 'pausedAt'],
  conditions: ['Ready'],
};

let server: FakeApiServer;
let client: KubeClient;

beforeEach(async () => {
  server = await startFakeApiServer();
  client = createKubeClient({ source: server.source });
  return async () => {
    await client.close();
    await server.stop();
  };
});

const patches = () => server.requests.filter(({ method }) => method === 'PATCH');

describe('the difference', () => {
  const current = {
    phase: 'Running',
    place: 'a',
    conditions: [
      { type: 'Ready', status: 'True' },
      { type: 'Scheduled', status: 'True' },
    ],
  };

  test.each([
    ['the same', { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] }, false],
    ['another value', { phase: 'Paused', conditions: [{ type: 'Ready', status: 'True' }] }, true],
    ['a field that is gone', { conditions: [{ type: 'Ready', status: 'True' }] }, true],
    ['a new field', { phase: 'Running', pausedAt: 'now', conditions: [{ type: 'Ready', status: 'True' }] }, true],
    ['a condition that is gone', { phase: 'Running' }, true],
    ['a condition that changed', { phase: 'Running', conditions: [{ type: 'Ready', status: 'False' }] }, true],
    [
      'an undefined field',
      { phase: 'Running', pausedAt: undefined, conditions: [{ type: 'Ready', status: 'True' }] },
      false,
    ],
  ])('%s', (_, wished, differs) => {
    expect(statusDiffers(current, wished, owned)).toBe(differs);
  });
});

describe('applying', () => {
  test('a status that is there already costs no request', async () => {
    const object = server.put(widgets, { metadata: key, status: { phase: 'Running', place: 'a' } });
    const applier = createStatusApplier(client, widgets, owned);
    expect((await applier.apply(object, { phase: 'Running' })).kind).toBe('unchanged');
    expect(server.requests).toEqual([]);
  });

  test('a status is compared with our own last write while the cache is older', async () => {
    const object = server.put(widgets, { metadata: key });
    const applier = createStatusApplier(client, widgets, owned);
    expect((await applier.apply(object, { phase: 'Running' })).kind).toBe('written');
    expect((await applier.apply(object, { phase: 'Running' })).kind).toBe('unchanged');
    expect((await applier.apply(object, { phase: 'Paused' })).kind).toBe('written');
    expect(patches()).toHaveLength(2);
    expect(patches()[0]?.path.endsWith('/status')).toBe(true);
    expect(server.get(widgets, key)?.status?.phase).toBe('Paused');
  });

  test('after a conflict the object is read and compared again', async () => {
    const object = server.put(widgets, { metadata: key });
    server.put(widgets, { metadata: key, status: { place: 'b' } });
    const applier = createStatusApplier(client, widgets, owned);
    expect((await applier.apply(object, { phase: 'Running' })).kind).toBe('written');
    expect(server.get(widgets, key)?.status).toEqual({ place: 'b', phase: 'Running' });
    const stale = createStatusApplier(client, widgets, owned);
    expect((await stale.apply(object, { phase: 'Running' })).kind).toBe('unchanged');
  });

  test('a status can be made for each version that it is written to', async () => {
    const object = server.put(widgets, { metadata: key });
    server.put(widgets, { metadata: key, status: { place: 'b' } });
    const applier = createStatusApplier(client, widgets, owned);
    await applier.apply(object, ({ status }) => ({ phase: `Running at ${status?.place ?? 'none'}` }));
    expect(server.get(widgets, key)?.status).toEqual({ place: 'b', phase: 'Running at b' });
    expect(applier.latest(object).status).toEqual({ place: 'b', phase: 'Running at b' });
  });

  test('an object that was made again under the name is not told its predecessor’s story', async () => {
    const object = server.put(widgets, { metadata: key });
    server.remove(widgets, key);
    const applier = createStatusApplier(client, widgets, owned);
    server.inject(requestFor('PATCH', widgets, key), { kind: 'status', status: 404, reason: 'NotFound' });
    expect(await applier.apply(object, { phase: 'Running' })).toEqual({ kind: 'gone' });
    server.put(widgets, { metadata: key });
    expect(await applier.apply(object, { phase: 'Running' })).toEqual({ kind: 'gone' });
    expect(server.get(widgets, key)?.status).toBeUndefined();
  });

  test('a status that is no longer ours to write is not written, though the cache still says it is', async () => {
    const object = server.put(widgets, { metadata: key, status: { place: 'a' } });
    server.put(widgets, { metadata: key, status: { place: 'b' } });
    const applier = createStatusApplier(client, widgets, owned);
    const result = await applier.apply(
      object,
      { phase: 'Running' },
      { mayWrite: ({ status }) => status?.place === 'a' },
    );
    expect(result.kind).toBe('refused');
    expect(server.get(widgets, key)?.status).toEqual({ place: 'b' });
  });

  test('a field that is not ours is a mistake of the caller', async () => {
    const object = server.put(widgets, { metadata: key });
    const applier = createStatusApplier(client, widgets, owned);
    await expect(applier.apply(object, { place: 'c' })).rejects.toThrow('does not own place');
    await expect(applier.apply(object, { conditions: [{ type: 'Scheduled' }] })).rejects.toThrow(
      'does not own Scheduled',
    );
  });
});

describe('a fenced client', () => {
  test('reads always, and writes only while it may', async () => {
    let may = true;
    const fenced = fencedClient(client, () => may);
    await fenced.create(widgets, { metadata: key });
    may = false;
    const applier = createStatusApplier(fenced, widgets, owned);
    const object = await fenced.get(widgets, key);
    expect(object).toBeDefined();
    const writes = [
      fenced.create(widgets, { metadata: { ...key, name: 'two' } }),
      fenced.update(widgets, object ?? { metadata: key }),
      fenced.patch(widgets, key, { kind: 'merge', body: {} }),
      fenced.delete(widgets, key),
      applier.apply(object ?? { metadata: key }, { phase: 'Running' }),
    ];
    for (const result of await Promise.allSettled(writes)) {
      expect(result).toMatchObject({ status: 'rejected', reason: expect.any(FencedError) });
    }
    expect(server.requests.map(({ method }) => method)).toEqual(['POST', 'GET']);
  });

  test('a fence of the caller counts too', async () => {
    const fenced = fencedClient(client, () => true);
    const fence = () => {
      throw new TypeError('no');
    };
    await expect(fenced.create(widgets, { metadata: key }, { fence })).rejects.toThrow(TypeError);
  });
});
