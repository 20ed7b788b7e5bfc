import { describe, expect, it, onTestFinished } from 'vitest';
import { StatusWriter } from '../../../../src/agent/sync/status-writer.ts';
import type { LambdaWorker, LambdaWorkerStatus } from '../../../../src/api/lambda-worker.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import { fakeFleet, viewFixture } from '../../../support/fake-fleet.ts';
import { manualClock, settle } from '../../../support/manual-clock.ts';
import { workerFixture } from '../../../support/worker-fixture.ts';

const assignment = { nodeName: 'node-1', epoch: 1 };

/** A server with one worker, that keeps what is written and whose cache follows only when told to. */
function world(status: LambdaWorkerStatus = { assignment }) {
  const clock = manualClock();
  const fleet = fakeFleet();
  let stored: LambdaWorker = workerFixture({ status });
  let cached: LambdaWorker | undefined = stored;
  let fault: (() => void) | undefined;
  let reads = 0;
  const writes: { readonly at: number; readonly status: LambdaWorkerStatus }[] = [];
  const began = clock.monotonic();
  const writer = new StatusWriter({
    fleet,
    cache: { get: () => cached },
    nodeName: 'node-1',
    clock,
    logger: silentLogger(),
    random: () => 0.5,
    client: {
      async get() {
        reads += 1;
        return stored as never;
      },
      async patch(_type, _key, patch) {
        const { status: own, metadata } = patch.body as LambdaWorker & {
          readonly status: LambdaWorkerStatus;
        };
        if (metadata.resourceVersion !== stored.metadata.resourceVersion) {
          throw ApiError.fromAnswer('patch', 409, JSON.stringify({ reason: 'Conflict' }));
        }
        writes.push({ at: clock.monotonic() - began, status: own });
        fault?.();
        stored = {
          ...stored,
          metadata: {
            ...stored.metadata,
            resourceVersion: String(Number(stored.metadata.resourceVersion) + 1),
          },
          status: { ...own, assignment: stored.status?.assignment ?? assignment },
        };
        return stored as never;
      },
    },
  });
  onTestFinished(async () => {
    const stopped = writer.stop();
    await clock.advance(10_000);
    await stopped;
  });
  return {
    clock,
    fleet,
    writer,
    writes,
    reads: () => reads,
    phases: () => writes.map(({ at, status: { phase } }) => `${phase} ${at}`),
    sync(change: (worker: LambdaWorker) => LambdaWorker = (same) => same) {
      stored = change(stored);
      cached = stored;
      writer.objectChanged(stored);
    },
    setCached(worker: LambdaWorker | undefined) {
      cached = worker;
    },
    setFault(next: (() => void) | undefined) {
      fault = next;
    },
  };
}

/** A server with any number of workers, which writes down who was written in which phase. */
function crowd() {
  const clock = manualClock();
  const fleet = fakeFleet();
  const objects = new Map<string, LambdaWorker>();
  const writes: string[] = [];
  const writer = new StatusWriter({
    fleet,
    cache: { get: ({ name }) => objects.get(name) },
    nodeName: 'node-1',
    clock,
    logger: silentLogger(),
    client: {
      get: ({ name }: never) => Promise.resolve(objects.get(name) as never),
      patch: (_type, { name }, { body }) => {
        const { status } = body as LambdaWorker;
        const before = objects.get(name);
        const resourceVersion = String(Number(before?.metadata.resourceVersion) + 1);
        const next = workerFixture({
          name,
          metadata: { resourceVersion },
          status: { ...status, assignment },
        });
        objects.set(name, next);
        writes.push(`${name} ${status?.phase}`);
        return Promise.resolve(next as never);
      },
    },
  });
  onTestFinished(async () => {
    const stopped = writer.stop();
    await clock.advance(10_000);
    await stopped;
  });
  return { clock, fleet, objects, writer, writes };
}

const paused = viewFixture({
  phase: 'Paused',
  conditions: { Ready: { status: 'True', reason: 'Paused', message: '' } },
});
const resuming = viewFixture({ phase: 'Resuming', transient: true });

describe('the status writer', () => {
  it('writes a resting state at once and only once', async () => {
    const { clock, fleet, writer, phases } = world();
    writer.start();
    fleet.show(viewFixture());
    await clock.advance(0);
    expect(phases()).toEqual(['Running 0']);
    fleet.show(viewFixture({ inFlight: 1 }));
    fleet.show(viewFixture({ inFlight: 0 }));
    await clock.advance(5_000);
    expect(phases()).toEqual(['Running 0']);
  });

  it('publishes a transient phase only when it lasts for a second', { tags: ['P7'] }, async () => {
    const { clock, fleet, writer, phases } = world();
    writer.start();
    fleet.show(paused);
    await clock.advance(100);
    fleet.show(resuming);
    await clock.advance(900);
    fleet.show(viewFixture());
    await clock.advance(0);
    expect(phases()).toEqual(['Paused 0', 'Running 1000']);
    fleet.show(viewFixture({ phase: 'Pausing', transient: true }));
    await clock.advance(1_500);
    expect(phases()).toEqual(['Paused 0', 'Running 1000', 'Pausing 2000']);
  });

  it('tells little of many workers that calls start as soon as they are made', async () => {
    const { clock, fleet, objects, writer, writes } = crowd();
    const show = (each: number, phase: 'Absent' | 'Creating' | 'Running'): void => {
      const name = `w${each}`;
      fleet.show(viewFixture({ name, uid: `uid-of-${name}`, phase, transient: phase === 'Creating' }));
    };
    writer.start();
    for (let each = 0; each < 40; each += 1) {
      objects.set(`w${each}`, workerFixture({ name: `w${each}`, status: { assignment } }));
      show(each, 'Absent');
      // No other starts yet.
      await clock.advance(each === 0 ? 0 : 50);
      show(each, 'Creating');
    }
    for (let each = 0; each < 38; each += 1) {
      await clock.advance(100);
      show(each, 'Running');
    }
    await clock.advance(0);
    expect(writes).toEqual(['w0 Absent', ...Array.from({ length: 38 }, (_, each) => `w${each} Running`)]);
    // The last two are told to start all the same.
    await clock.advance(5_000);
    expect(writes.slice(39)).toEqual(['w38 Creating', 'w39 Creating']);
    show(39, 'Running');
    await clock.advance(0);
    expect(writes.at(-1)).toBe('w39 Running');
  });

  it('writes nothing for a phase that came back to what is there', async () => {
    const { clock, fleet, writer, phases } = world();
    writer.start();
    fleet.show(paused);
    await clock.advance(100);
    fleet.show(resuming);
    await clock.advance(500);
    fleet.show(paused);
    await clock.advance(5_000);
    expect(phases()).toEqual(['Paused 0']);
  });

  it('compares with its own last write where the cache lags behind', { tags: ['P26'] }, async () => {
    const { clock, fleet, writer, phases } = world();
    writer.start();
    fleet.show(viewFixture());
    await clock.advance(0);
    fleet.show(paused);
    await clock.advance(0);
    // The cache still shows the object before both writes.
    fleet.show(viewFixture());
    await clock.advance(0);
    expect(phases()).toEqual(['Running 0', 'Paused 0', 'Running 0']);
  });

  it('holds back a worker that flaps', async () => {
    const { clock, fleet, writer, phases } = world();
    writer.start();
    for (let turn = 0; turn < 20; turn += 1) {
      fleet.show(turn % 2 === 0 ? viewFixture() : paused);
      await clock.advance(100);
    }
    await clock.advance(2_000);
    expect(phases().length).toBeLessThanOrEqual(6);
    expect(phases().at(-1)).toMatch(/^Paused/);
  });

  it('writes stamps with the phase, and alone only when they are old', async () => {
    const { clock, fleet, writer, writes } = world();
    writer.start();
    fleet.show(viewFixture());
    await clock.advance(0);
    fleet.show(viewFixture({ lastInvocationTime: 'a' }));
    await clock.advance(10_000);
    expect(writes).toHaveLength(1);
    fleet.show({ ...paused, lastInvocationTime: 'b' });
    await clock.advance(0);
    expect(writes[1]?.status).toMatchObject({
      phase: 'Paused',
      lastInvocationTime: 'b',
      observedInvocationTime: 'b',
    });
    fleet.show(viewFixture({ lastInvocationTime: 'b' }));
    await clock.advance(0);
    for (let call = 0; call < 100; call += 1) {
      fleet.show(viewFixture({ lastInvocationTime: `c${call}` }));
      await clock.advance(1_000);
    }
    expect(writes).toHaveLength(3);
    await clock.advance(60_000);
    expect(writes.slice(3)).toMatchObject([{ status: { phase: 'Running', lastInvocationTime: 'c99' } }]);
  });

  it('acknowledges at once the stamp of another that a resting worker was not woken by', async () => {
    const { clock, fleet, writer, writes, sync } = world();
    writer.start();
    fleet.show(paused);
    await clock.advance(0);
    sync((worker) => ({
      ...worker,
      metadata: { ...worker.metadata, resourceVersion: '9' },
      status: { ...worker.status, lastInvocationTime: 'foreign' },
    }));
    await clock.advance(1_000);
    expect(writes).toHaveLength(1);
    fleet.show({ ...paused, observedInvocationTime: 'foreign' });
    await clock.advance(0);
    expect(writes[1]?.status).toMatchObject({ lastInvocationTime: 'foreign', observedInvocationTime: 'foreign' });
  });

  it('takes no stamp of another away that the watch has yet to tell of', async () => {
    const { clock, fleet, writer, writes, sync, setCached } = world();
    writer.start();
    fleet.show(viewFixture());
    await clock.advance(0);
    sync((worker) => ({
      ...worker,
      metadata: { ...worker.metadata, resourceVersion: '9' },
      status: { ...worker.status, lastInvocationTime: 'foreign' },
    }));
    setCached(workerFixture({ status: { assignment } }));
    fleet.show({ ...paused, lastInvocationTime: 'own' });
    await clock.advance(1_000);
    expect(writes.slice(1)).toMatchObject([{ status: { phase: 'Paused', lastInvocationTime: 'foreign' } }]);
    expect(writes[1]?.status.observedInvocationTime).toBeUndefined();
  });

  it('lets workers that are paused and woken all the time wait, and first changes and errors pass them', async () => {
    const { clock, fleet, objects, writer, writes } = crowd();
    const showAll = (phase: 'Running' | 'Paused', stamp: string): void => {
      for (let each = 0; each < 50; each += 1) {
        const { identity } = viewFixture({ name: `w${each}`, uid: `uid-of-w${each}` });
        fleet.show({
          ...(phase === 'Running' ? viewFixture() : paused),
          identity,
          lastInvocationTime: stamp,
        });
      }
    };
    writer.start();
    writer.shareAmong(100);
    for (let each = 0; each <= 50; each += 1) {
      objects.set(`w${each}`, workerFixture({ name: `w${each}`, status: { assignment } }));
    }
    showAll('Running', '0');
    await clock.advance(0);
    // Becoming Running the first time is no activity.
    expect(writes).toHaveLength(50);
    writes.length = 0;
    for (let turn = 1; turn <= 90; turn += 1) {
      showAll(turn % 2 === 1 ? 'Paused' : 'Running', String(turn));
      await clock.advance(20_000);
    }
    // Ten at once, then one in 12.5 s or each in five minutes.
    expect(writes.length).toBeLessThanOrEqual(10 + 1_800 / 12.5 + (50 * 1_800) / 300);
    expect(new Set(writes.map((each) => each.split(' ')[0]))).toHaveLength(50);
    expect(writer.waiting).toBeGreaterThan(0);
    writes.length = 0;
    fleet.show(viewFixture({ name: 'w50', uid: 'uid-of-w50' }));
    const failed = { Ready: { status: 'False', reason: 'CrashLoopBackOff', message: '' } } as const;
    fleet.show(viewFixture({ name: 'w7', uid: 'uid-of-w7', phase: 'Failed', conditions: failed }));
    await clock.advance(0);
    expect(writes).toEqual(['w50 Running', 'w7 Failed']);
    // The latest state of each is written in the end.
    await clock.advance(300_000);
    expect(writer.waiting).toBe(0);
    expect(objects.get('w3')?.status).toMatchObject({ phase: 'Running', lastInvocationTime: '90' });
  });

  it('puts right what others changed', async () => {
    const { clock, fleet, writer, phases, sync } = world();
    writer.start();
    fleet.show(viewFixture());
    await clock.advance(0);
    sync();
    await clock.advance(5_000);
    sync((worker) => ({
      ...worker,
      metadata: { ...worker.metadata, resourceVersion: '9' },
      status: { ...worker.status, phase: 'Unknown' },
    }));
    await clock.advance(0);
    expect(phases()).toEqual(['Running 0', 'Running 5000']);
  });

  it('writes nothing of a worker that the server has not, or that is another one or of another node', async () => {
    const { clock, fleet, writer, writes, setCached } = world();
    writer.start();
    setCached(undefined);
    fleet.show(viewFixture());
    await clock.advance(2_000);
    setCached(workerFixture({ uid: 'another', status: { assignment } }));
    fleet.show(paused);
    await clock.advance(2_000);
    setCached(workerFixture({ status: { assignment: { nodeName: 'node-2', epoch: 2 } } }));
    fleet.show(viewFixture());
    await clock.advance(2_000);
    setCached(workerFixture({ status: { assignment: { nodeName: 'node-1', epoch: 2 } } }));
    fleet.show(paused);
    await clock.advance(2_000);
    expect(writes).toEqual([]);
  });

  it('writes nothing to a new worker of the same name, or to one assigned anew, that the cache does not know of yet', async () => {
    const successors: readonly ((worker: LambdaWorker) => LambdaWorker)[] = [
      (worker) => ({ ...worker, metadata: { ...worker.metadata, uid: 'another', resourceVersion: '5' } }),
      (worker) => ({
        ...worker,
        metadata: { ...worker.metadata, resourceVersion: '5' },
        status: { assignment: { nodeName: 'node-2', epoch: 2 } },
      }),
    ];
    for (const change of successors) {
      const { clock, fleet, writer, writes, reads, sync, setCached } = world();
      writer.start();
      sync(change);
      setCached(workerFixture({ status: { assignment } }));
      fleet.show(viewFixture());
      await clock.advance(5_000);
      expect(writes).toEqual([]);
      expect(reads()).toBe(1);
    }
  });

  it('reads a worker only when somebody else has written it meanwhile, and tells of it once', async () => {
    const { clock, fleet, writer, writes, reads, sync, setCached } = world();
    writer.start();
    fleet.show(viewFixture());
    await clock.advance(0);
    fleet.show(paused);
    await clock.advance(0);
    expect(reads()).toBe(0);
    const before = workerFixture({ status: { assignment } });
    sync((worker) => ({
      ...worker,
      metadata: { ...worker.metadata, resourceVersion: '9' },
      status: { ...worker.status, assignment, lastInvocationTime: '2026-11-01T00:00:00.000001Z' },
    }));
    setCached(before);
    await clock.advance(1_000);
    fleet.show(viewFixture());
    await clock.advance(5_000);
    expect(reads()).toBe(1);
    expect(writes.map(({ status }) => status.phase)).toEqual(['Running', 'Paused', 'Running']);
  });

  it('tries one write ever more seldom while the server is away, and then writes what is so by then', async () => {
    const { clock, fleet, writer, phases, setFault } = world();
    writer.start();
    setFault(() => {
      throw ApiError.unreachable('patch', new Error('connection refused'));
    });
    fleet.show(viewFixture());
    await clock.advance(20_000);
    const tries = phases().length;
    expect(tries).toBeGreaterThan(3);
    expect(tries).toBeLessThan(9);
    fleet.show(paused);
    setFault(undefined);
    await clock.advance(20_000);
    expect(
      phases()
        .slice(tries)
        .map((each) => each.split(' ')[0]),
    ).toEqual(['Paused']);
  });

  it('waits as long as the server asks for', async () => {
    const { clock, fleet, writer, phases, setFault } = world();
    writer.start();
    setFault(() => {
      throw ApiError.fromAnswer('patch', 429, '', '7');
    });
    fleet.show(viewFixture());
    await clock.advance(6_900);
    expect(phases()).toEqual(['Running 0']);
    setFault(undefined);
    await clock.advance(200);
    expect(phases()).toEqual(['Running 0', 'Running 7000']);
  });

  it('does not hammer a server that refuses', async () => {
    const { clock, fleet, writer, phases, setFault } = world();
    writer.start();
    setFault(() => {
      throw ApiError.fromAnswer('patch', 422, '');
    });
    fleet.show(viewFixture());
    await clock.advance(29_000);
    expect(phases()).toHaveLength(1);
    await clock.advance(2_000);
    expect(phases()).toHaveLength(2);
  });

  it('writes what is due before it stops, and forgets workers that are gone', async () => {
    const { clock, fleet, writer, phases } = world();
    writer.start();
    fleet.show(viewFixture());
    fleet.remove('uid-of-hello');
    await clock.advance(2_000);
    expect(phases()).toEqual([]);
    fleet.show(viewFixture());
    await writer.stop();
    await settle();
    expect(phases()).toEqual(['Running 2000']);
  });

  it('writes before it stops of a worker that a call started, beside others that start', async () => {
    const { clock, fleet, objects, writer, writes } = crowd();
    objects.set('w0', workerFixture({ name: 'w0', status: { assignment } }));
    writer.start();
    for (let each = 1; each <= 50; each += 1) {
      fleet.show(viewFixture({ name: `w${each}`, uid: `uid-of-w${each}`, phase: 'Creating', transient: true }));
    }
    fleet.show(viewFixture({ name: 'w0', uid: 'uid-of-w0', inFlight: 1 }));
    await clock.advance(1_000);
    expect(writes).toEqual([]);
    await writer.stop();
    expect(writes).toEqual(['w0 Running']);
  });

  it('writes activity that waits before it stops, since the next agent does not know the stamps', async () => {
    const { clock, fleet, writer, writes } = world();
    writer.start();
    fleet.show(viewFixture());
    await clock.advance(0);
    fleet.show(viewFixture({ lastInvocationTime: 'a' }));
    await clock.advance(10_000);
    expect(writes).toHaveLength(1);
    await writer.stop();
    expect(writes.slice(1)).toMatchObject([{ status: { lastInvocationTime: 'a', observedInvocationTime: 'a' } }]);
  });

  it('asks a server that was too slow for little at first, and for more with each round that succeeds', async () => {
    const clock = manualClock();
    const fleet = fakeFleet();
    const names = Array.from({ length: 30 }, (_, index) => `w-${index}`);
    const objects = new Map(names.map((name) => [name, workerFixture({ name, status: { assignment } })]));
    const running: { readonly end: (error?: Error) => void }[] = [];
    const writer = new StatusWriter({
      fleet,
      cache: { get: ({ name }) => objects.get(name) },
      nodeName: 'node-1',
      clock,
      logger: silentLogger(),
      random: () => 0.5,
      client: {
        get: () => Promise.resolve(undefined),
        patch: (_type, { name }) => {
          const done = Promise.withResolvers<never>();
          running.push({
            end: (error) => (error === undefined ? done.resolve(objects.get(name) as never) : done.reject(error)),
          });
          return done.promise;
        },
      },
    });
    /** Ends every write that runs; gives how many they were. */
    const round = async (error?: Error): Promise<number> => {
      const ended = running.splice(0);
      for (const { end } of ended) {
        end(error);
      }
      await settle();
      return ended.length;
    };
    writer.start();
    for (const name of names) {
      fleet.show(viewFixture({ name, uid: `uid-of-${name}` }));
    }
    await clock.advance(0);
    expect(await round(ApiError.unreachable('patch', new Error('too slow')))).toBe(8);
    await clock.advance(1_000);
    const rounds: number[] = [];
    for (let count = await round(); count > 0; count = await round()) {
      rounds.push(count);
      expect(running.length).toBeLessThanOrEqual(8);
    }
    expect(rounds.slice(0, 3)).toEqual([1, 2, 2]);
    expect(rounds.reduce((sum, count) => sum + count, 0)).toBe(30);
    expect(Math.max(...rounds)).toBeGreaterThan(4);
    await writer.stop();
  });
});
