import { describe, expect, it, onTestFinished } from 'vitest';
import { AssignmentWatch } from '../../../../src/agent/sync/assignment-watch.ts';
import { ASSIGNED_NODE_FIELD, type LambdaWorker } from '../../../../src/api/lambda-worker.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import type { CacheEvent, Informer } from '../../../../src/kube/api/types.ts';
import { fakeFleet, viewFixture } from '../../../support/fake-fleet.ts';
import { manualClock, settle } from '../../../support/manual-clock.ts';
import { workerFixture } from '../../../support/worker-fixture.ts';

const here = { assignment: { nodeName: 'node-1', epoch: 1 } };
const elsewhere = { assignment: { nodeName: 'node-2', epoch: 2 } };

function world() {
  const clock = manualClock();
  const fleet = fakeFleet();
  const objects = new Map<string, LambdaWorker>();
  const listeners = new Set<(event: CacheEvent<LambdaWorker>) => void>();
  const synced = Promise.withResolvers<void>();
  let fault: Error | undefined;
  const failing = <T>(answer: () => T): Promise<T> =>
    fault === undefined ? Promise.resolve(answer()) : Promise.reject(fault);
  let held = <T>(answer: () => Promise<T>): Promise<T> => answer();
  const informer = {
    subscribe(listener: (event: CacheEvent<LambdaWorker>) => void) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async synced(signal: AbortSignal) {
      const given = Promise.withResolvers<void>();
      signal.addEventListener('abort', () => given.reject(signal.reason), { once: true });
      await Promise.race([synced.promise, given.promise]);
    },
    start: () => undefined,
    stop: async () => undefined,
  } as unknown as Informer<LambdaWorker>;
  const watch = new AssignmentWatch({
    informer,
    fleet,
    clock,
    nodeName: 'node-1',
    fieldSelector: `${ASSIGNED_NODE_FIELD}=node-1`,
    logger: silentLogger(),
    random: () => 0.5,
    client: {
      get: (_type, { name }) => held(() => failing(() => objects.get(name))) as never,
      list: () =>
        failing(() => ({
          resourceVersion: '1',
          items: [...objects.values()].filter(({ status }) => status?.assignment?.nodeName === 'node-1'),
        })) as never,
    },
  });
  onTestFinished(() => watch.stop());
  watch.start();
  return {
    clock,
    fleet,
    watch,
    objects,
    tell(event: CacheEvent<LambdaWorker>) {
      for (const listener of listeners) {
        listener(event);
      }
    },
    /** From now on reads of single workers wait until they are let go, those that wait now all at once. */
    holdReads() {
      const waiting: (() => void)[] = [];
      held = async (answer) => {
        const turn = Promise.withResolvers<void>();
        waiting.push(turn.resolve);
        await turn.promise;
        return answer();
      };
      return {
        waiting: () => waiting.length,
        answer() {
          for (const resolve of waiting.splice(0)) {
            resolve();
          }
        },
      };
    },
    setSynced: () => synced.resolve(),
    setFault(error: Error | undefined) {
      fault = error;
    },
  };
}

describe('the watch of the workers of a node', () => {
  it('applies what is assigned here', () => {
    const { tell, fleet } = world();
    tell({ kind: 'added', object: workerFixture({ status: here }) });
    tell({
      kind: 'updated',
      object: workerFixture({ status: here, metadata: { generation: 2 } }),
      old: workerFixture({ status: here }),
    });
    expect(fleet.applied.map(({ generation, epoch }) => [generation, epoch])).toEqual([
      [1, 1],
      [2, 1],
    ]);
  });

  it('releases a worker only after it has read that it is gone', async () => {
    const { tell, fleet, objects } = world();
    const worker = workerFixture({ status: here });
    objects.set('hello', worker);
    tell({ kind: 'deleted', object: worker });
    await settle();
    expect(fleet.asked).toEqual([]);
    expect(fleet.applied).toHaveLength(1);
    objects.delete('hello');
    tell({ kind: 'deleted', object: worker });
    await settle();
    expect(fleet.asked).toEqual(['release uid-of-hello']);
  });

  it.each([
    ['is another one of the same name', workerFixture({ uid: 'another', status: here })],
    ['is assigned elsewhere', workerFixture({ status: elsewhere })],
  ])('releases a worker whose resource %s', async (_, found) => {
    const { tell, fleet, objects } = world();
    objects.set('hello', found);
    tell({ kind: 'deleted', object: workerFixture({ status: here }) });
    await settle();
    expect(fleet.asked).toEqual(['release uid-of-hello']);
  });

  it('asks about eight workers at a time, however many have left at once', async () => {
    const { tell, fleet, holdReads } = world();
    const reads = holdReads();
    for (let number = 0; number < 1_000; number += 1) {
      tell({
        kind: 'deleted',
        object: workerFixture({ name: `w${number}`, uid: `u${number}`, status: here }),
      });
    }
    await settle();
    expect(reads.waiting()).toBe(8);
    while (fleet.asked.length < 1_000) {
      reads.answer();
      await settle();
      expect(reads.waiting()).toBeLessThanOrEqual(8);
    }
  });

  it('goes on asking while the server is away', async () => {
    const { tell, fleet, setFault, clock } = world();
    setFault(ApiError.unreachable('get', new Error('connection refused')));
    tell({ kind: 'deleted', object: workerFixture({ status: here }) });
    await clock.advance(60_000);
    expect(fleet.asked).toEqual([]);
    setFault(undefined);
    await clock.advance(40_000);
    expect(fleet.asked).toEqual(['release uid-of-hello']);
  });

  it('sweeps after the first list, after each list anew, and every few minutes', async () => {
    const { fleet, objects, setSynced, clock, watch } = world();
    fleet.show(viewFixture({ uid: 'left-over', name: 'old' }));
    objects.set('hello', workerFixture({ status: here }));
    await clock.advance(10_000);
    expect(fleet.asked).toEqual([]);
    setSynced();
    await clock.advance(0);
    expect(fleet.asked).toEqual(['sweep uid-of-hello', 'swept left-over']);
    watch.readSoon();
    await clock.advance(0);
    expect(fleet.asked).toHaveLength(4);
    await clock.advance(310_000);
    expect(fleet.asked).toHaveLength(6);
  });

  it('claims nothing to be gone that it could not read', async () => {
    const { fleet, setSynced, setFault, clock, objects } = world();
    fleet.show(viewFixture({ uid: 'left-over', name: 'old' }));
    objects.set('old', workerFixture({ name: 'old', uid: 'left-over', status: here }));
    setFault(ApiError.unreachable('list', new Error('connection refused')));
    setSynced();
    await clock.advance(60_000);
    expect(fleet.asked).toEqual([]);
    setFault(undefined);
    await clock.advance(40_000);
    expect(fleet.asked).toEqual(['sweep left-over']);
  });
});
