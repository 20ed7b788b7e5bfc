import { expect, onTestFinished, test } from 'vitest';
import { sleep } from '../../../../src/common/deadline.ts';
import { foreignCode } from '../../../../src/common/error-codes.ts';
import { EsbError } from '../../../../src/common/errors.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import type { KubeObject } from '../../../../src/kube/api/types.ts';
import { createReconciler, type ReconcilerOptions, watchOf } from '../../../../src/kube/controller/reconciler.ts';
import { fakeInformer } from '../../../support/fake-informer.ts';
import { manualClock, settle } from '../../../support/manual-clock.ts';

function start(reconcile: ReconcilerOptions['reconcile'], options: Partial<ReconcilerOptions> = {}) {
  const clock = manualClock();
  const outcomes: string[] = [];
  const reconciler = createReconciler({
    name: 'test',
    reconcile,
    logger: silentLogger(),
    clock,
    random: () => 1,
    backoffFirstMs: 100,
    backoffMaxMs: 1000,
    metrics: { reconciled: (_, outcome) => outcomes.push(outcome) },
    ...options,
  });
  onTestFinished(() => reconciler.stop());
  reconciler.start();
  return { clock, outcomes, reconciler };
}

test('works on different keys at once and on one key never twice', async () => {
  const running: string[] = [];
  let most = 0;
  const ends: (() => void)[] = [];
  const { reconciler } = start(
    async (key) => {
      expect(running).not.toContain(key);
      running.push(key);
      most = Math.max(most, running.length);
      const end = Promise.withResolvers<void>();
      ends.push(end.resolve);
      await end.promise;
      running.splice(running.indexOf(key), 1);
      return undefined;
    },
    { workers: 2 },
  );
  for (const key of ['a', 'b', 'c', 'a']) {
    reconciler.add(key);
  }
  for (let turn = 0; turn < 6; turn++) {
    await settle();
    reconciler.add('a');
    ends.shift()?.();
  }
  await settle();
  for (const end of ends) {
    end();
  }
  expect(most).toBe(2);
});

test('a failed key comes again after a growing wait, a successful one does not', async () => {
  let rounds = 0;
  const { clock, outcomes, reconciler } = start(() => {
    rounds++;
    return rounds < 4 ? Promise.reject(new EsbError('no', { code: foreignCode('Nope') })) : Promise.resolve(undefined);
  });
  reconciler.add('a');
  await clock.advance(99);
  expect(rounds).toBe(1);
  await clock.advance(1 + 200);
  expect(rounds).toBe(3);
  await clock.advance(10_000);
  expect(rounds).toBe(4);
  expect(outcomes).toEqual(['error', 'error', 'error', 'success']);
});

test('the server is given the time that it asks for', async () => {
  let rounds = 0;
  const { clock, reconciler } = start(() => {
    rounds++;
    return rounds === 1 ? Promise.reject(ApiError.fromAnswer('patch', 429, '', '7')) : Promise.resolve(undefined);
  });
  reconciler.add('a');
  await clock.advance(6999);
  expect(rounds).toBe(1);
  await clock.advance(1);
  expect(rounds).toBe(2);
});

test('a key asks to be looked at later', async () => {
  let rounds = 0;
  const { clock, outcomes, reconciler } = start(() => {
    rounds++;
    return Promise.resolve(rounds === 1 ? { requeueAfterMs: 5000 } : undefined);
  });
  reconciler.add('a');
  await clock.advance(4999);
  expect(rounds).toBe(1);
  await clock.advance(1);
  expect(rounds).toBe(2);
  expect(outcomes).toEqual(['requeued', 'success']);
});

test('a throw that is no promise is an error like any other', async () => {
  const { clock, outcomes, reconciler } = start(() => {
    throw new TypeError('bug');
  });
  reconciler.add('a');
  await clock.advance(50);
  expect(outcomes).toEqual(['error']);
});

test('a round that takes too long is ended, and no other begins before it has', async () => {
  const log: string[] = [];
  const slow = Promise.withResolvers<void>();
  const { clock, outcomes, reconciler } = start(
    async (_, { signal }) => {
      log.push('begin');
      signal.addEventListener('abort', () => log.push('told to end'));
      await slow.promise;
      log.push('end');
      signal.throwIfAborted();
      return undefined;
    },
    { deadlineMs: 1000 },
  );
  reconciler.add('a');
  await clock.advance(1000);
  reconciler.add('a');
  await clock.advance(5000);
  expect(log).toEqual(['begin', 'told to end']);
  slow.resolve();
  await settle();
  expect(log.slice(0, 4)).toEqual(['begin', 'told to end', 'end', 'begin']);
  expect(outcomes[0]).toBe('error');
});

test('stopping ends the round that runs and waits for it', async () => {
  let ended = false;
  const { clock, reconciler } = start(async (_, { signal }) => {
    try {
      await sleep(clock, 1e9, signal);
    } finally {
      await settle();
      ended = true;
    }
    return undefined;
  });
  reconciler.add('a');
  reconciler.add('b');
  await settle();
  await reconciler.stop();
  expect(ended).toBe(true);
  reconciler.add('c');
  expect(reconciler.length()).toBe(0);
});

test('works on the keys of what it watches, from its start to its end', async () => {
  const caches = ['a', 'b'].map((name) => fakeInformer<KubeObject>([{ metadata: { name } }]));
  const keys: string[] = [];
  const watches = caches.map((cache) => watchOf(cache, ({ kind, object }) => [`${kind} ${object.metadata.name}`]));
  const { reconciler } = start(
    async (key) => {
      keys.push(key);
      return undefined;
    },
    { watches },
  );
  reconciler.start();
  caches[0]?.put({ metadata: { name: 'a', labels: {} } });
  caches[1]?.remove({ name: 'b' });
  await settle();
  expect(keys.toSorted()).toEqual(['added a', 'added b', 'deleted b', 'updated a']);
  await reconciler.stop();
  caches[0]?.put({ metadata: { name: 'c' } });
  await settle();
  expect(keys).toHaveLength(4);
});
