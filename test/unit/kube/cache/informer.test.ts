import fc from 'fast-check';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { silentLogger } from '../../../../src/common/logger.ts';
import { type ConfigMap, configMaps } from '../../../../src/kube/api/resource-types.ts';
import type { CacheEvent, Informer, KubeClient, ListParameters } from '../../../../src/kube/api/types.ts';
import { type InformerOptions, ListWatchInformer } from '../../../../src/kube/cache/informer.ts';
import { createKubeClient } from '../../../../src/kube/client/client.ts';
import { type FakeApiServer, listsOf, startFakeApiServer, watchesOf } from '../../../support/fake-api-server.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { recordingLogger } from '../../../support/recording-logger.ts';
import { waitFor } from '../../../support/wait-for.ts';

const key = (name: string) => ({ namespace: 'default', name });
const configMap = (name: string, value = '1'): ConfigMap => ({ metadata: key(name), data: { value } });

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

interface Watched {
  readonly informer: Informer<ConfigMap>;
  /** `added one`, `updated one`, ... in order. */
  readonly told: string[];
}

function watchThem(
  options: Partial<InformerOptions<ConfigMap>> = {},
  parameters: ListParameters = { namespace: 'default' },
): Watched {
  const informer = new ListWatchInformer(client, configMaps, parameters, {
    logger: silentLogger(),
    backoffFirstMs: 1,
    backoffMaxMs: 10,
    relistSpreadMs: 10,
    ...options,
  });
  const told: string[] = [];
  informer.subscribe(({ kind, object }) => told.push(`${kind} ${object.metadata.name}`));
  informer.start();
  onTestFinished(() => informer.stop());
  return { informer, told };
}

const soon = { timeoutMs: 5000, everyMs: 2 };

function agrees(informer: Informer<ConfigMap>): boolean {
  const versions = (objects: readonly ConfigMap[]) =>
    objects.map(({ metadata }) => `${metadata.name} ${metadata.uid} ${metadata.resourceVersion}`).sort();
  return JSON.stringify(versions(informer.cache.list())) === JSON.stringify(versions(server.all(configMaps)));
}

describe('listing', () => {
  test('everything is in the cache when the first listener hears of anything', async () => {
    server.put(configMaps, configMap('one'));
    server.put(configMaps, configMap('two'));
    const informer = new ListWatchInformer(client, configMaps, {}, { logger: silentLogger() });
    onTestFinished(() => informer.stop());
    const sizes: number[] = [];
    informer.subscribe(() => sizes.push(informer.cache.list().length));
    expect(informer.hasSynced()).toBe(false);
    expect(informer.lastSuccessAt()).toBeUndefined();
    informer.start();
    await informer.synced();
    expect(informer.hasSynced()).toBe(true);
    expect(sizes).toEqual([2, 2]);
    expect(informer.lastSuccessAt()).toBeGreaterThan(0);
  });

  test('what is in the cache counts as current, but not from a failure until the server is heard again', async () => {
    const { informer } = watchThem({ backoffFirstMs: 20 });
    expect(informer.isCurrent()).toBe(false);
    await informer.synced();
    expect(informer.isCurrent()).toBe(true);
    await waitFor('the watch', () => server.openWatches() === 1, soon);
    server.inject(watchesOf(configMaps), { kind: 'status', status: 503 }, 3);
    server.cutWatches();
    await waitFor('the loss', () => !informer.isCurrent(), soon);
    server.put(configMaps, configMap('one'));
    await waitFor('the server to be back', () => informer.isCurrent(), soon);
    expect(informer.cache.get(key('one'))).toBeDefined();
  });

  test('the first watch after a failure is short, so that its end soon tells of the server', async () => {
    const { informer } = watchThem();
    await informer.synced();
    await waitFor('the watch', () => server.openWatches() === 1, soon);
    server.cutWatches();
    const watches = () => server.requests.filter(watchesOf(configMaps));
    await waitFor('the next watch', () => watches().length === 2 && server.openWatches() === 1, soon);
    const seconds = watches().map(({ query }) => Number(query.get('timeoutSeconds')));
    expect(seconds[0]).toBeGreaterThan(30);
    expect(seconds[1]).toBe(2);
    expect(informer.isCurrent()).toBe(false);
  });

  test('a late listener is first told of what is there', async () => {
    server.put(configMaps, configMap('one'));
    const { informer } = watchThem();
    await informer.synced();
    const told: string[] = [];
    const unsubscribe = informer.subscribe(({ kind, object }) => told.push(`${kind} ${object.metadata.name}`));
    expect(told).toEqual(['added one']);
    unsubscribe();
    server.remove(configMaps, key('one'));
    await waitFor('the removal', () => informer.cache.list().length === 0, soon);
    expect(told).toEqual(['added one']);
  });

  test('a list that fails is tried again, and the wait ends with the first that works', async () => {
    server.inject(listsOf(configMaps), { kind: 'status', status: 500 }, 3);
    const { logger, lines } = recordingLogger();
    const { informer } = watchThem({ logger });
    await informer.synced();
    expect(lines.map(({ code }) => code)).toEqual(['InternalError', 'InternalError', 'InternalError']);
  });

  test('Retry-After is honoured', async () => {
    server.inject(listsOf(configMaps), { kind: 'status', status: 503, retryAfterSeconds: 0.2 });
    const start = performance.now();
    const { informer } = watchThem();
    await informer.synced();
    expect(performance.now() - start).toBeGreaterThanOrEqual(199);
  });

  test('a wait ends with its signal, and with the informer', async () => {
    server.inject(listsOf(configMaps), { kind: 'hang' }, 9);
    const { informer } = watchThem();
    await expect(informer.synced(AbortSignal.timeout(10))).rejects.toMatchObject({ code: 'Aborted' });
    const waiting = informer.synced(new AbortController().signal);
    await informer.stop();
    await expect(waiting).rejects.toMatchObject({ code: 'Aborted' });
  });
});

describe('the cache', () => {
  test('objects are frozen and without managed fields', async () => {
    const managedFields = [{ manager: 'somebody' }];
    const metadata = { ...key('one'), managedFields };
    server.put(configMaps, { metadata, data: { value: '1' } });
    const { informer } = watchThem();
    await informer.synced();
    const cached = informer.cache.get(key('one'));
    expect(cached?.metadata).not.toHaveProperty('managedFields');
    expect(Object.isFrozen(cached?.data)).toBe(true);
  });

  test('indexes follow changes', async () => {
    server.put(configMaps, configMap('one', 'a'));
    server.put(configMaps, configMap('two', 'a'));
    const { informer } = watchThem({ indexes: { value: ({ data }) => [data?.value ?? ''] } });
    await informer.synced();
    const names = (value: string) => informer.cache.byIndex('value', value).map(({ metadata }) => metadata.name);
    expect(names('a').sort()).toEqual(['one', 'two']);
    server.put(configMaps, configMap('one', 'b'));
    server.remove(configMaps, key('two'));
    await waitFor('the removal', () => agrees(informer), soon);
    expect([names('a'), names('b')]).toEqual([[], ['one']]);
    expect(() => informer.cache.byIndex('none', '')).toThrow('no index none');
  });

  test('a listener that throws disturbs nobody', async () => {
    const { informer, told } = watchThem();
    informer.subscribe(() => {
      throw new Error('listener');
    });
    await informer.synced();
    server.put(configMaps, configMap('one'));
    await waitFor('the change', () => told.length === 1, soon);
    expect(agrees(informer)).toBe(true);
  });
});

describe('watching', () => {
  test('goes on from the last version when the server ends a watch', async () => {
    const { informer, told } = watchThem();
    await waitFor('the watch', () => server.openWatches() === 1, soon);
    server.put(configMaps, configMap('one'));
    await waitFor('the change', () => told.length === 1, soon);
    server.endWatches();
    await waitFor(
      'another watch',
      () => server.openWatches() === 1 && server.requests.filter(watchesOf(configMaps)).length === 2,
      soon,
    );
    server.put(configMaps, configMap('two'));
    await waitFor('the change', () => told.length === 2, soon);
    expect(told).toEqual(['added one', 'added two']);
    expect(server.requests.filter(listsOf(configMaps))).toHaveLength(1);
    expect(agrees(informer)).toBe(true);
  });

  test('a bookmark moves the version that a watch goes on from', async () => {
    watchThem();
    await waitFor('the watch', () => server.openWatches() === 1, soon);
    server.put(configMaps, {
      ...configMap('elsewhere'),
      metadata: { namespace: 'other', name: 'elsewhere' },
    });
    const version = server.resourceVersion();
    server.bookmark();
    server.endWatches();
    const second = await waitFor('the next watch', () => server.requests.filter(watchesOf(configMaps))[1], soon);
    expect(second.query.get('resourceVersion')).toBe(String(version));
  });

  test('lists anew when the version is too old, and tells only what changed', async () => {
    server.put(configMaps, configMap('one'));
    server.put(configMaps, configMap('two'));
    const { informer, told } = watchThem();
    await waitFor('the watch', () => server.openWatches() === 1, soon);
    told.length = 0;
    server.inject(watchesOf(configMaps), { kind: 'cut' });
    server.silenceWatches();
    server.put(configMaps, configMap('two', '2'));
    server.put(configMaps, configMap('three'));
    server.compact();
    server.cutWatches();
    await waitFor('agreement', () => agrees(informer), soon);
    expect(told.sort()).toEqual(['added three', 'updated two']);
  });

  test('an object deleted and made again unseen is told as both', async () => {
    server.put(configMaps, configMap('one'));
    const { informer, told } = watchThem();
    await waitFor('the watch', () => server.openWatches() === 1, soon);
    server.silenceWatches();
    server.remove(configMaps, key('one'));
    server.put(configMaps, configMap('one'));
    server.compact();
    server.endWatches();
    await waitFor('agreement', () => agrees(informer), soon);
    expect(told).toEqual(['added one', 'deleted one', 'added one']);
  });

  test('a silent watch is opened anew', async () => {
    const { logger, lines } = recordingLogger();
    const { informer } = watchThem({ watchSilenceMs: 60, logger });
    await waitFor('the watch', () => server.openWatches() === 1, soon);
    server.silenceWatches();
    server.put(configMaps, configMap('one'));
    await waitFor('agreement', () => agrees(informer), soon);
    expect(lines.map(({ code }) => code)).toContain('WatchSilent');
  });

  test.each([
    ['an ERROR frame', '{"type":"ERROR","object":{"kind":"Status","code":500,"reason":"InternalError"}}'],
    ['a line that is no frame', 'what?'],
    ['an unknown frame', '{"type":"NEWS","object":{}}'],
  ])('%s does not stop it', async (_, line) => {
    const { informer } = watchThem();
    await waitFor('the watch', () => server.openWatches() === 1, soon);
    server.sendLine(line);
    server.put(configMaps, configMap('one'));
    await waitFor('agreement', () => agrees(informer), soon);
  });

  test('clients whose watches the server drops all at once list one after the other', async () => {
    const clock = manualClock();
    const informers = [0.2, 0.4, 0.6, 0.8].map((share) =>
      watchThem({ clock, relistSpreadMs: 10_000, random: () => share }),
    );
    await Promise.all(informers.map(({ informer }) => informer.synced()));
    await waitFor('the watches', () => server.openWatches() === 4, soon);
    const lists = () => server.requests.filter(listsOf(configMaps)).length - 4;
    server.sendLine('{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}');
    await waitFor('the end of the watches', () => server.openWatches() === 0, soon);
    await clock.advance(1_000);
    for (const done of [1, 2, 3, 4]) {
      expect(lists()).toBe(done - 1);
      await clock.advance(2_000);
      await waitFor('one list', () => lists() === done && server.openWatches() === done, soon);
    }
    expect(lists()).toBe(4);
  });

  test('watches that end at once do not turn into a storm', async () => {
    server.inject(watchesOf(configMaps), { kind: 'text', text: '' }, 1000);
    watchThem({ backoffFirstMs: 20, backoffMaxMs: 1000 });
    await waitFor('some watches', () => server.requests.filter(watchesOf(configMaps)).length >= 3, soon);
    const before = server.requests.length;
    // The time is what is tested.
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(server.requests.length - before).toBeLessThan(5);
  });
});

type Step =
  | { readonly kind: 'put' | 'remove' | 'recreate'; readonly name: string }
  | {
      readonly kind:
        | 'compact'
        | 'bookmark'
        | 'end'
        | 'cut'
        | 'cut mid-frame'
        | 'silence'
        | 'error frame'
        | 'wait'
        | 'agree';
    }
  | { readonly kind: 'fault'; readonly on: 'list' | 'watch'; readonly status: number };

const name = fc.constantFrom('a', 'b', 'c');
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constantFrom('put', 'remove', 'recreate'), name }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom('compact', 'bookmark', 'end', 'cut', 'cut mid-frame', 'silence', 'error frame'),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom('wait', 'agree') }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('fault'),
      on: fc.constantFrom('list', 'watch'),
      status: fc.constantFrom(410, 429, 500, 503),
    }),
  },
) as fc.Arbitrary<Step>;

async function perform(one: Step, informer: Informer<ConfigMap>): Promise<void> {
  switch (one.kind) {
    case 'put':
      server.put(configMaps, configMap(one.name));
      break;
    case 'remove':
      server.remove(configMaps, key(one.name));
      break;
    case 'recreate':
      server.remove(configMaps, key(one.name));
      server.put(configMaps, configMap(one.name));
      break;
    case 'compact':
      server.compact();
      break;
    case 'bookmark':
      server.bookmark();
      break;
    case 'end':
      server.endWatches();
      break;
    case 'cut':
      server.cutWatches();
      break;
    case 'cut mid-frame':
      server.cutWatches({ midFrame: true });
      break;
    case 'silence':
      server.silenceWatches();
      break;
    case 'error frame':
      server.sendLine('{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}');
      break;
    case 'fault':
      server.inject(one.on === 'list' ? listsOf(configMaps) : watchesOf(configMaps), {
        kind: 'status',
        status: one.status,
        retryAfterSeconds: 0,
      });
      break;
    case 'wait':
      await waitFor('a watch', () => server.openWatches() > 0, soon);
      break;
    case 'agree':
      await waitFor('agreement', () => informer.hasSynced() && agrees(informer), soon);
      break;
  }
}

/** Replays what a listener was told; throws where the story makes no sense. */
function retell(events: readonly CacheEvent<ConfigMap>[]): Map<string, ConfigMap> {
  const known = new Map<string, ConfigMap>();
  for (const event of events) {
    const { name: which } = event.object.metadata;
    const before = known.get(which);
    switch (event.kind) {
      case 'added':
        expect(before).toBeUndefined();
        known.set(which, event.object);
        break;
      case 'updated':
        expect(before).toBe(event.old);
        expect(event.object.metadata.uid).toBe(event.old.metadata.uid);
        known.set(which, event.object);
        break;
      case 'deleted':
        expect(before?.metadata.uid).toBe(event.object.metadata.uid);
        known.delete(which);
        break;
    }
  }
  return known;
}

test('whatever happens, the cache comes to agree with the server, and what was told adds up to the cache', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25, size: 'max' }), async (steps) => {
      server.clearFaults();
      for (const { metadata } of server.all(configMaps)) {
        server.remove(configMaps, { namespace: 'default', name: metadata.name });
      }
      const informer = new ListWatchInformer(
        client,
        configMaps,
        { namespace: 'default' },
        {
          logger: silentLogger(),
          backoffFirstMs: 0.2,
          backoffMaxMs: 1,
          watchSilenceMs: 25,
          indexes: { uid: ({ metadata }) => [metadata.uid ?? ''] },
        },
      );
      const events: CacheEvent<ConfigMap>[] = [];
      informer.subscribe((event) => events.push(event));
      informer.start();
      try {
        for (const one of steps) {
          await perform(one, informer);
        }
        await waitFor('agreement', () => informer.hasSynced() && agrees(informer), soon);
        const known = retell(events);
        expect(new Set(known.values())).toEqual(new Set(informer.cache.list()));
        for (const object of informer.cache.list()) {
          expect(informer.cache.byIndex('uid', object.metadata.uid ?? '')).toEqual([object]);
        }
      } finally {
        await informer.stop();
      }
    }),
    { numRuns: 40, interruptAfterTimeLimit: 40_000, markInterruptAsFailure: true },
  );
}, 60_000);
