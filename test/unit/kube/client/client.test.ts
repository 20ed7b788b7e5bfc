import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { configMaps } from '../../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../../src/kube/api/types.ts';
import { createKubeClient, type KubeClientOptions } from '../../../../src/kube/client/client.ts';
import { type FakeApiServer, listsOf, requestFor, startFakeApiServer } from '../../../support/fake-api-server.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { waitFor } from '../../../support/wait-for.ts';

const key = { namespace: 'default', name: 'one' };
const configMap = (name: string, value = '1') => ({
  metadata: { namespace: 'default', name },
  data: { value },
});

let server: FakeApiServer;
let client: KubeClient;

async function start(options: Partial<KubeClientOptions> = {}): Promise<void> {
  server = await startFakeApiServer();
  client = createKubeClient({ source: server.source, ...options });
}

function clientOf(options: Partial<KubeClientOptions>): KubeClient {
  const other = createKubeClient({ source: server.source, ...options });
  onTestFinished(() => other.close());
  return other;
}

beforeEach(async () => {
  await start();
  return async () => {
    await client.close();
    await server.stop();
  };
});

describe('objects', () => {
  test('are created, read, changed and deleted', async () => {
    const created = await client.create(configMaps, configMap('one'));
    expect(created.metadata.uid).toBeDefined();
    expect(JSON.parse(server.requests.at(-1)?.body ?? '')).toMatchObject({
      apiVersion: 'v1',
      kind: 'ConfigMap',
    });
    await client.update(configMaps, { ...created, data: { value: '2' } });
    await client.patch(configMaps, key, { kind: 'merge', body: { data: { more: 'x' } } });
    expect((await client.get(configMaps, key))?.data).toEqual({ value: '2', more: 'x' });
    await client.delete(configMaps, key);
    expect(await client.get(configMaps, key)).toBeUndefined();
    await client.delete(configMaps, key);
  });

  test('a stale version is a conflict', async () => {
    const created = await client.create(configMaps, configMap('one'));
    server.put(configMaps, configMap('one', '2'));
    await expect(client.update(configMaps, created)).rejects.toMatchObject({ code: 'Conflict', status: 409 });
    await expect(client.create(configMaps, configMap('one'))).rejects.toMatchObject({
      code: 'AlreadyExists',
    });
  });

  test('a delete by uid leaves a successor alone', async () => {
    server.put(configMaps, configMap('one'));
    await client.delete(configMaps, key, { uid: 'another' });
    expect(server.get(configMaps, key)).toBeDefined();
    await client.delete(configMaps, key, { uid: server.get(configMaps, key)?.metadata.uid ?? '' });
    expect(server.get(configMaps, key)).toBeUndefined();
  });

  test('an apply names its owner, kind and object', async () => {
    await client.patch(configMaps, key, {
      kind: 'apply',
      body: { data: { a: 'b' } },
      fieldManager: 'tester',
    });
    const request = server.requests.at(-1);
    expect(request?.headers['content-type']).toBe('application/apply-patch+yaml');
    expect(Object.fromEntries(request?.query ?? [])).toEqual({ fieldManager: 'tester', force: 'true' });
    expect(JSON.parse(request?.body ?? '')).toEqual({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: key,
      data: { a: 'b' },
    });
  });

  test('a kind that the server does not know is an error, not a missing object', async () => {
    server.inject(requestFor('GET', configMaps, key), { kind: 'status', status: 404, reason: 'NotFound' });
    await expect(client.get(configMaps, key)).rejects.toMatchObject({ status: 404 });
  });
});

describe('lists', () => {
  test('come in pages', async () => {
    for (let number = 0; number < 7; number++) {
      server.put(configMaps, configMap(`map-${number}`));
    }
    const paging = clientOf({ pageSize: 3 });
    const listed = await paging.list(configMaps, { namespace: 'default' });
    expect(listed.items).toHaveLength(7);
    expect(listed.resourceVersion).toBe(String(server.resourceVersion()));
    expect(server.requests.filter(listsOf(configMaps))).toHaveLength(3);
  });

  test('are counted by the server, with one object read', async () => {
    expect(await client.count(configMaps)).toBe(0);
    for (let number = 1; number <= 7; number++) {
      server.put(configMaps, configMap(`map-${number}`));
      expect(await client.count(configMaps)).toBe(number);
    }
    expect(server.requests.filter(listsOf(configMaps)).every(({ query }) => query.get('limit') === '1')).toBe(true);
    const answer = { metadata: { resourceVersion: '1', continue: 'more' }, items: [configMap('one')] };
    server.inject(listsOf(configMaps), { kind: 'text', text: JSON.stringify(answer) });
    expect(await client.count(configMaps)).toBeUndefined();
  });

  test('change each object before the next page is asked for', async () => {
    for (let number = 0; number < 5; number++) {
      server.put(configMaps, configMap(`map-${number}`));
    }
    const lists: number[] = [];
    const listed = await clientOf({ pageSize: 2 }).list(
      configMaps,
      { namespace: 'default' },
      {
        transform({ metadata }) {
          lists.push(server.requests.filter(listsOf(configMaps)).length);
          return { metadata: { name: metadata.name } };
        },
      },
    );
    expect(lists).toEqual([1, 1, 2, 2, 3]);
    expect(listed.items[4]).toEqual({ metadata: { name: 'map-4' } });
  });

  test('start over in one piece when the snapshot expires between pages', async () => {
    for (let number = 0; number < 5; number++) {
      server.put(configMaps, configMap(`map-${number}`));
    }
    const second = (request: Parameters<ReturnType<typeof listsOf>>[0]) => request.query.get('continue') !== null;
    server.inject(second, { kind: 'status', status: 410, reason: 'Expired' });
    const listed = await clientOf({ pageSize: 2 }).list(configMaps);
    expect(listed.items).toHaveLength(5);
    expect(server.requests.at(-1)?.query.get('limit')).toBeNull();
  });
});

describe('connections', () => {
  test('are shared by calls one after the other', async () => {
    for (let number = 0; number < 20; number++) {
      await client.get(configMaps, key);
    }
    // The second is opened when a call comes before the first one has quite been freed.
    expect(server.connections()).toBeLessThanOrEqual(2);
  });

  test('are made anew now and then, so that a server that came back gets its part of the clients', async () => {
    const clock = manualClock();
    const patient = clientOf({ clock, random: () => 0 });
    const connection = async (afterMs: number) => {
      await clock.advance(afterMs);
      await patient.get(configMaps, key);
      return server.requests.at(-1)?.connection;
    };
    const [first, ...others] = [await connection(0), await connection(599_000), await connection(1_000)];
    expect(others.map((other) => other === first)).toEqual([true, false]);
  });

  test('calls do not wait behind watches', async () => {
    const narrow = clientOf({ maxInFlight: 2 });
    const ended = new AbortController();
    const watching = Array.from({ length: 6 }, async () => {
      const frames = narrow.watch(configMaps, { resourceVersion: '1', timeoutSeconds: 60 }, { signal: ended.signal });
      for await (const frame of frames) {
        expect(frame.kind).toBe('added');
      }
    });
    await waitFor('six watches', () => server.openWatches() === 6);
    await Promise.all(Array.from({ length: 20 }, (_, number) => narrow.create(configMaps, configMap(`m-${number}`))));
    expect(server.all(configMaps)).toHaveLength(20);
    ended.abort();
    for (const result of await Promise.allSettled(watching)) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'Aborted' } });
    }
    await waitFor('no watch', () => server.openWatches() === 0);
  });

  test('no more than the allowed number of calls runs at a time', async () => {
    const narrow = clientOf({ maxInFlight: 3 });
    server.inject(() => true, { kind: 'hang' }, 3);
    const calls = Array.from({ length: 12 }, () => narrow.get(configMaps, key, { deadlineMs: 500 }));
    // After their deadline there are more.
    await waitFor('three requests', () => server.requests.length === 3, { everyMs: 5 });
    const results = await Promise.allSettled(calls);
    expect(results.filter(({ status }) => status === 'rejected').length).toBeGreaterThanOrEqual(3);
    expect(await narrow.get(configMaps, key)).toBeUndefined();
  });

  test('a frozen server ends calls at their deadline, and calls after it use new connections', async () => {
    await client.get(configMaps, key);
    server.freeze();
    await expect(client.get(configMaps, key, { deadlineMs: 50 })).rejects.toMatchObject({
      code: 'DeadlineExceeded',
    });
    await expect(client.create(configMaps, configMap('one'), { deadlineMs: 50 })).rejects.toMatchObject({
      code: 'DeadlineExceeded',
    });
    server.thaw();
    const before = server.connections();
    await client.get(configMaps, key);
    expect(server.requests.at(-1)?.connection).toBeGreaterThan(1);
    expect(server.connections()).toBeGreaterThanOrEqual(before);
  });

  test('a call that its caller gives up leaves no place taken', async () => {
    const narrow = clientOf({ maxInFlight: 1 });
    server.inject(() => true, { kind: 'hang' });
    const caller = new AbortController();
    const given = narrow.get(configMaps, key, { signal: caller.signal });
    await waitFor('the request', () => server.requests.length === 1);
    const waiting = narrow.get(configMaps, key);
    caller.abort();
    await expect(given).rejects.toMatchObject({ code: 'Aborted' });
    expect(await waiting).toBeUndefined();
  });

  test('nothing is there: Unreachable', async () => {
    await server.stop();
    await expect(client.get(configMaps, key)).rejects.toMatchObject({ code: 'Unreachable', retryable: true });
  });
});

describe('errors', () => {
  test('a read waits as the server asks and is tried again', async () => {
    server.put(configMaps, configMap('one'));
    server.inject(requestFor('GET', configMaps, key), { kind: 'status', status: 429, retryAfterSeconds: 0 }, 2);
    expect(await client.get(configMaps, key)).toBeDefined();
    expect(server.requests).toHaveLength(3);
  });

  test('a read is not tried for ever, nor beyond its deadline', async () => {
    server.inject(() => true, { kind: 'status', status: 429, retryAfterSeconds: 0 }, 10);
    await expect(client.get(configMaps, key)).rejects.toMatchObject({
      code: 'TooManyRequests',
      retryAfterMs: 0,
    });
    expect(server.requests).toHaveLength(4);
    server.clearFaults();
    server.inject(() => true, { kind: 'status', status: 429, retryAfterSeconds: 60 });
    await expect(client.get(configMaps, key)).rejects.toMatchObject({ retryAfterMs: 60_000 });
  });

  test('a write is sent once', async () => {
    server.inject(() => true, { kind: 'status', status: 429, retryAfterSeconds: 0 });
    await expect(client.create(configMaps, configMap('one'))).rejects.toMatchObject({ status: 429 });
    server.inject(() => true, { kind: 'cut', applied: true });
    await expect(client.create(configMaps, configMap('one'))).rejects.toMatchObject({ code: 'Unreachable' });
    expect(server.requests).toHaveLength(2);
  });

  test('a read survives a connection that the server has closed', async () => {
    server.put(configMaps, configMap('one'));
    server.inject(() => true, { kind: 'cut' });
    expect(await client.get(configMaps, key)).toBeDefined();
  });

  test('an answer that makes no sense', async () => {
    server.inject(() => true, { kind: 'text', text: '<html>' });
    await expect(client.get(configMaps, key)).rejects.toMatchObject({
      code: 'InvalidAnswer',
      retryable: true,
    });
  });

  test('refused credentials are read again', async () => {
    let token = 'old';
    let known: string | undefined;
    const { source } = server;
    const renewing = clientOf({
      source: {
        async current() {
          known ??= token;
          return { ...(await source.current()), headers: { authorization: `Bearer ${known}` } };
        },
        invalidate() {
          known = undefined;
        },
      },
    });
    await renewing.get(configMaps, key);
    token = 'new';
    server.inject((request) => request.headers.authorization === 'Bearer old', { kind: 'status', status: 401 }, 9);
    expect(await renewing.get(configMaps, key)).toBeUndefined();
  });
});

describe('fence', () => {
  test('a fence that throws keeps the request off the wire', async () => {
    const fence = () => {
      throw new TypeError('not the leader');
    };
    await client.get(configMaps, key);
    await expect(client.create(configMaps, configMap('one'), { fence })).rejects.toThrow('not the leader');
    await expect(client.delete(configMaps, key, { fence })).rejects.toThrow(TypeError);
    expect(server.requests).toHaveLength(1);
    expect(await client.get(configMaps, key)).toBeUndefined();
  });

  test('it is asked after the wait for a place, not before', async () => {
    const narrow = clientOf({ maxInFlight: 1 });
    server.inject(() => true, { kind: 'slow', delayMs: 30 });
    const first = narrow.get(configMaps, key);
    let allowed = true;
    const second = narrow.create(configMaps, configMap('one'), {
      fence: () => {
        if (!allowed) {
          throw new TypeError('not the leader');
        }
      },
    });
    allowed = false;
    await first;
    await expect(second).rejects.toThrow('not the leader');
    expect(server.get(configMaps, key)).toBeUndefined();
  });
});

describe('watch', () => {
  const follow = () => client.watch(configMaps, { resourceVersion: '1', timeoutSeconds: 60 });
  const firstFrame = () => follow()[Symbol.asyncIterator]().next();

  test('tells changes and bookmarks, and ends when the server ends it', async () => {
    server.put(configMaps, configMap('one'));
    server.put(configMaps, configMap('one', '2'));
    server.remove(configMaps, key);
    const kinds: string[] = [];
    for await (const frame of follow()) {
      kinds.push(frame.kind);
      if (frame.kind === 'deleted') {
        server.bookmark();
      }
      if (frame.kind === 'bookmark') {
        server.endWatches();
      }
    }
    expect(kinds).toEqual(['added', 'modified', 'deleted', 'bookmark']);
  });

  test('a version that is too old throws Expired', async () => {
    server.compact();
    await expect(firstFrame()).rejects.toMatchObject({ code: 'Expired' });
  });

  test('a cut connection throws, and half a frame is not taken for a whole one', async () => {
    const next = firstFrame();
    await waitFor('the watch', () => server.openWatches() === 1);
    server.cutWatches({ midFrame: true });
    await expect(next).rejects.toMatchObject({ code: 'Unreachable' });
  });

  test('a reader that stops closes the connection', async () => {
    server.put(configMaps, configMap('one'));
    for await (const frame of follow()) {
      expect(frame.kind).toBe('added');
      break;
    }
    await waitFor('the end of the watch', () => server.openWatches() === 0);
  });
});
