import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type LambdaFunction, TEMPLATE_ANNOTATION, templateHashOf } from '../../../../src/api/lambda-function.ts';
import type { LambdaVersion } from '../../../../src/api/lambda-version.ts';
import type { LambdaWorker } from '../../../../src/api/lambda-worker.ts';
import { unreachable } from '../../../../src/common/errors.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { FunctionController } from '../../../../src/controller/functions/function-controller.ts';
import {
  CALLED_INDEX,
  calledIndex,
  OWNER_INDEX,
  ownerIndex,
} from '../../../../src/controller/functions/owner-index.ts';
import { isUpdated, isWorkerReady } from '../../../../src/controller/functions/readiness.ts';
import { serves } from '../../../../src/controller/functions/rollout.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import type {
  CacheEvent,
  KubeClient,
  KubeObject,
  ObjectKey,
  PatchBody,
  ResourceType,
} from '../../../../src/kube/api/types.ts';
import { createObjectCache } from '../../../../src/kube/cache/object-cache.ts';
import { fakeInformer } from '../../../support/fake-informer.ts';
import { condition, functionFixture, ownedFixture } from '../../../support/function-fixture.ts';
import { manualClock } from '../../../support/manual-clock.ts';

/** The next write of a kind gets no answer, and is carried out at once, never, or when it arrives. */
interface Fault {
  readonly kind: 'fault';
  readonly of: Write;
  readonly carriedOut: 'at once' | 'late' | 'never';
}

type Write = 'create' | 'delete' | 'patch' | 'update';

type Move =
  | { readonly kind: 'look' }
  /** A cache takes in so many of the changes that it lacks. */
  | { readonly kind: 'show' | 'showFunctions'; readonly count: number }
  /** A worker becomes ready, is deleted by somebody else, or is gone at last. */
  | { readonly kind: 'ready' | 'end' | 'gone'; readonly at: number }
  /** A worker is away for a moment. */
  | { readonly kind: 'away'; readonly at: number }
  /** A setting changes, which all workers get at once. */
  | { readonly kind: 'reserve'; readonly reserved: number | undefined }
  | { readonly kind: 'scale'; readonly to: number }
  | { readonly kind: 'change'; readonly image: string }
  | { readonly kind: 'leader' }
  | Fault
  /** Writes that are under way arrive, those of leaders before included. */
  | { readonly kind: 'arrive' };

const lost = new ApiError('no answer', { code: 'Unreachable' });

const SURGE = 2;
const rollout = { maxSurge: SURGE, maxUnavailable: 0, progressDeadlineSeconds: 600 };

/** An API server whose changes reach the cache of the controller late. */
class World {
  readonly stored = new Map<string, LambdaWorker>();
  /** Workers that served and got another template, whose agents have not told that they run with it. */
  readonly beside = new Set<string>();
  /** Uids of workers that somebody else has deleted, and that the cache shows as living. */
  readonly #endedUnseen = new Set<string | undefined>();
  readonly #functions = fakeInformer<LambdaFunction>([], { [CALLED_INDEX]: calledIndex });
  readonly #cache = createObjectCache<LambdaWorker>({ [OWNER_INDEX]: ownerIndex });
  readonly #late: (() => readonly CacheEvent<LambdaWorker>[])[] = [];
  readonly #lateFunctions: (() => void)[] = [];
  /** Writes that were begun and have not arrived. */
  readonly #underWay: (() => void)[] = [];
  readonly clock = manualClock();
  owner = functionFixture({ spec: { rollout } });
  #hasChangedLeaders = false;
  #fault: Fault | undefined;
  #version = 0;
  #controller = this.#start();

  constructor() {
    this.put({});
    this.showFunctions();
  }

  put(change: { readonly image?: string; readonly minWorkers?: number; readonly reserved?: number | undefined }): void {
    const { metadata, spec, status = {} } = this.owner;
    const reserved = 'reserved' in change ? change.reserved : spec.reservedConcurrency;
    const next = functionFixture({
      image: change.image ?? spec.template.spec.image,
      minWorkers: change.minWorkers ?? spec.scaling.minWorkers,
      spec: { rollout, ...(reserved === undefined ? {} : { reservedConcurrency: reserved }) },
    });
    this.#setOwner({ ...next, metadata: { ...metadata, generation: (metadata.generation ?? 0) + 1 }, status });
  }

  showFunctions(count?: number): void {
    for (const take of this.#lateFunctions.splice(0, count ?? this.#lateFunctions.length)) {
      take();
    }
  }

  #setOwner(owner: LambdaFunction): void {
    this.#version += 1;
    const next = { ...owner, metadata: { ...owner.metadata, resourceVersion: String(this.#version) } };
    this.owner = next;
    this.#lateFunctions.push(() => this.#functions.put(next));
  }

  living(): readonly LambdaWorker[] {
    return [...this.stored.values()].filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  }

  #start(): FunctionController {
    return new FunctionController({
      client: this.#client(),
      functions: this.#functions,
      workers: { cache: this.#cache },
      versions: fakeInformer<LambdaVersion>(),
      events: { record: () => undefined },
      load: { calls: () => 0, isHeard: () => false },
      clock: this.clock,
      logger: silentLogger(),
      metrics: {},
    });
  }

  set(worker: LambdaWorker): void {
    const { name } = worker.metadata;
    const { resourceVersion: _one, ...before } = this.stored.get(name)?.metadata ?? {};
    const { resourceVersion: _other, ...after } = worker.metadata;
    if (isDeepStrictEqual({ ...this.stored.get(name), metadata: before }, { ...worker, metadata: after })) {
      return;
    }
    if (isWorkerReady(worker) || worker.metadata.deletionTimestamp !== undefined) {
      this.beside.delete(name);
    }
    this.#version += 1;
    const next = { ...worker, metadata: { ...worker.metadata, resourceVersion: String(this.#version) } };
    this.stored.set(name, next);
    this.#late.push(() => this.#cache.set(structuredClone(next)));
  }

  remove(worker: LambdaWorker): void {
    this.stored.delete(worker.metadata.name);
    this.beside.delete(worker.metadata.name);
    this.#late.push(() => this.#cache.remove(worker));
  }

  /** Has somebody else end a worker. */
  endElsewhere(worker: LambdaWorker): void {
    const { uid } = worker.metadata;
    this.#endedUnseen.add(uid);
    this.end(worker);
    this.#late.push(() => {
      this.#endedUnseen.delete(uid);
      return [];
    });
  }

  /** Ends a worker, which goes at once where it has no node. */
  end(worker: LambdaWorker): void {
    if (worker.status?.assignment === undefined) {
      this.remove(worker);
    } else {
      this.set({ ...worker, metadata: { ...worker.metadata, deletionTimestamp: '2026-11-01T01:00:00Z' } });
    }
  }

  show(count: number): void {
    for (const take of this.#late.splice(0, count)) {
      for (const change of take()) {
        this.#controller.noteWorker(change);
      }
    }
  }

  async #write<T>(kind: Write, work: (isLate: boolean) => T): Promise<T> {
    if (this.#fault?.of !== kind) {
      return work(false);
    }
    const { carriedOut } = this.#fault;
    this.#fault = undefined;
    if (carriedOut === 'at once') {
      work(false);
    } else if (carriedOut === 'late') {
      this.#underWay.push(() => work(true));
    }
    throw lost;
  }

  arrive(): void {
    for (const work of this.#underWay.splice(0)) {
      try {
        work();
      } catch (error) {
        // Refused: its caller is gone.
        if (!(error instanceof ApiError)) {
          throw error;
        }
      }
    }
  }

  #client(): KubeClient {
    const wanted = (): number => this.owner.spec.scaling.minWorkers;
    const client = {
      get: async (type: ResourceType<KubeObject>, { name }: ObjectKey) =>
        type.plural === 'lambdaworkers' ? this.stored.get(name) : this.owner,
      list: async () => ({ items: [...this.stored.values()], resourceVersion: String(this.#version) }),
      create: (_type: unknown, worker: LambdaWorker) =>
        this.#write('create', (isLate) => {
          if (this.stored.has(worker.metadata.name)) {
            throw new ApiError('there', { code: 'AlreadyExists', status: 409 });
          }
          this.#version += 1;
          this.set({
            ...worker,
            metadata: { ...worker.metadata, uid: `uid-${this.#version}`, generation: 1, creationTimestamp: '2026' },
          });
          // The next leader knows no names that the last one has used.
          if (!this.#hasChangedLeaders && !isLate) {
            expect(this.living().length).toBeLessThanOrEqual(wanted());
          }
        }),
      update: (_type: unknown, worker: LambdaWorker) =>
        this.#write('update', () => {
          const before = this.stored.get(worker.metadata.name);
          if (before?.metadata.resourceVersion !== worker.metadata.resourceVersion) {
            throw new ApiError('other', { code: 'Conflict', status: 409 });
          }
          const isChange = !isDeepStrictEqual(before?.spec, worker.spec);
          if (before !== undefined && before.spec.image !== worker.spec.image && serves(before)) {
            this.beside.add(worker.metadata.name);
            expect(this.beside.size).toBeLessThanOrEqual(SURGE);
          }
          const generation = (before?.metadata.generation ?? 0) + Number(isChange);
          this.set({ ...worker, metadata: { ...worker.metadata, generation }, status: before?.status } as LambdaWorker);
          return this.stored.get(worker.metadata.name);
        }),
      delete: (_type: unknown, { name }: ObjectKey, { uid }: { uid?: string }) =>
        this.#write('delete', (isLate) => {
          const worker = this.stored.get(name);
          if (worker !== undefined && worker.metadata.uid === uid && worker.metadata.deletionTimestamp === undefined) {
            this.end(worker);
            // A wish of a moment ago is carried out as well.
            const shown = this.#functions.cache.list()[0]?.spec.scaling.minWorkers ?? 0;
            const counted = this.living().length + this.#endedUnseen.size;
            expect(isLate || counted >= Math.min(shown, wanted())).toBe(true);
          }
        }),
      patch: async (type: ResourceType<KubeObject>, _key: unknown, { body }: PatchBody) => {
        const { metadata, status } = body as Pick<LambdaFunction, 'metadata' | 'status'>;
        if (type.plural === 'lambdafunctions') {
          await this.#write('patch', () => {
            if (metadata.resourceVersion !== this.owner.metadata.resourceVersion) {
              throw new ApiError('other', { code: 'Conflict', status: 409 });
            }
            const merged = { ...this.owner.status, ...status };
            const entries = Object.entries(merged).filter(([, value]) => (value as unknown) !== null);
            this.#setOwner({ ...this.owner, status: Object.fromEntries(entries) });
          });
        }
        return this.owner;
      },
    };
    return client as unknown as KubeClient;
  }

  async move(move: Move): Promise<void> {
    const worker = 'at' in move ? [...this.stored.values()].at(move.at % Math.max(1, this.stored.size)) : undefined;
    const isEnding = worker?.metadata.deletionTimestamp !== undefined;
    switch (move.kind) {
      case 'look':
        await this.look();
        return;
      case 'show':
        this.show(move.count);
        return;
      case 'showFunctions':
        this.showFunctions(move.count);
        return;
      case 'away':
        if (worker !== undefined) {
          this.away(worker);
        }
        return;
      case 'reserve':
        this.put({ reserved: move.reserved });
        return;
      case 'ready':
        if (worker !== undefined) {
          this.ready(worker);
        }
        return;
      case 'end':
        if (worker !== undefined && !isEnding) {
          this.endElsewhere(worker);
        }
        return;
      case 'gone':
        if (worker !== undefined && isEnding) {
          this.remove(worker);
        }
        return;
      case 'scale':
        this.put({ minWorkers: move.to });
        return;
      case 'change':
        this.put({ image: move.image });
        return;
      case 'leader':
        this.#hasChangedLeaders = true;
        this.#controller = this.#start();
        return;
      case 'fault':
        this.#fault = move;
        return;
      case 'arrive':
        this.arrive();
        return;
      default:
        unreachable(move);
    }
  }

  /** Has so many workers, all of them ready and seen. */
  async begin(count: number): Promise<void> {
    this.put({ minWorkers: count });
    this.showFunctions();
    await this.look();
    this.settle();
    this.show(1_000);
    await this.look();
    this.showFunctions();
  }

  /** Has another controller, whose cache is newer, give workers a turn. */
  changeElsewhere(names: readonly string[]): void {
    const { spec, status } = this.owner;
    const annotations = { [TEMPLATE_ANNOTATION]: templateHashOf(spec.template) };
    for (const worker of this.living().filter(({ metadata }) => names.includes(metadata.name))) {
      const { generation = 0, ...metadata } = worker.metadata;
      const changed = { ...metadata, annotations, generation: generation + 1 };
      this.set({ ...worker, metadata: changed, spec: { ...worker.spec, image: spec.template.spec.image } });
      this.beside.add(metadata.name);
    }
    this.#setOwner({ ...this.owner, status: { ...status, changing: [...names] } });
  }

  /** Has agents do all that is to be done. */
  settle(): void {
    for (const worker of [...this.stored.values()]) {
      if (worker.metadata.deletionTimestamp !== undefined) {
        this.remove(worker);
      } else if (!isWorkerReady(worker)) {
        this.ready(worker);
      }
    }
  }

  ready(worker: LambdaWorker): void {
    const { status } = ownedFixture(functionFixture(), 0);
    this.set({ ...worker, status: { ...status, observedGeneration: worker.metadata.generation ?? 1 } } as LambdaWorker);
  }

  away(worker: LambdaWorker): void {
    const { status } = ownedFixture(functionFixture(), 0);
    const conditions = [condition('Ready', 'False', 'Restarting')];
    this.set({
      ...worker,
      status: { ...status, conditions, observedGeneration: worker.metadata.generation ?? 1 },
    } as LambdaWorker);
  }

  async look(): Promise<void> {
    await this.#controller.reconcile('default/hello', {}).catch((error: unknown) => {
      if (error !== lost) {
        throw error;
      }
    });
  }
}

const at = fc.nat(20);
const moves = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.constant<Move>({ kind: 'look' }) },
    { weight: 6, arbitrary: fc.integer({ min: 1, max: 4 }).map((count): Move => ({ kind: 'show', count })) },
    { weight: 5, arbitrary: at.map((one): Move => ({ kind: 'ready', at: one })) },
    { weight: 4, arbitrary: fc.integer({ min: 1, max: 4 }).map((count): Move => ({ kind: 'showFunctions', count })) },
    { weight: 1, arbitrary: at.map((one): Move => ({ kind: 'away', at: one })) },
    {
      weight: 1,
      arbitrary: fc.option(fc.nat(3), { nil: undefined }).map((reserved): Move => ({ kind: 'reserve', reserved })),
    },
    { weight: 1, arbitrary: at.map((one): Move => ({ kind: 'end', at: one })) },
    { weight: 1, arbitrary: at.map((one): Move => ({ kind: 'gone', at: one })) },
    { weight: 1, arbitrary: fc.nat(5).map((to): Move => ({ kind: 'scale', to })) },
    { weight: 2, arbitrary: fc.constantFrom('a:1', 'b:1').map((image): Move => ({ kind: 'change', image })) },
    { weight: 1, arbitrary: fc.constant<Move>({ kind: 'leader' }) },
    {
      weight: 2,
      arbitrary: fc.record<Fault>({
        kind: fc.constant('fault'),
        of: fc.constantFrom('create', 'delete', 'patch', 'update'),
        carriedOut: fc.constantFrom('at once', 'late', 'never'),
      }),
    },
    { weight: 1, arbitrary: fc.constant<Move>({ kind: 'arrive' }) },
  ),
  { maxLength: 60 },
);

describe('FunctionController on a cache that is late', () => {
  const first = functionFixture().spec.template.spec.image;

  it.each([
    ['in the middle of the next one', 'c:1', ['b:1', 'c:1', 'c:1', first]],
    ['once it is taken back', first, [first, first, first, first]],
  ])('has a change refused that the leader before has begun, and that arrives %s', async (_when, image, images) => {
    const world = new World();
    const all = async (...given: readonly Move[]): Promise<void> => {
      for (const move of given) {
        await world.move(move);
        if (move.kind !== 'look' && move.kind !== 'fault') {
          world.showFunctions();
        }
      }
    };
    await world.begin(4);
    await all({ kind: 'change', image: 'b:1' }, { kind: 'look' });
    // One of two is ready, and the change of a third is on its way when the leader ends.
    await all({ kind: 'ready', at: 0 }, { kind: 'show', count: 100 });
    await all({ kind: 'fault', of: 'update', carriedOut: 'late' }, { kind: 'look' });
    await all({ kind: 'leader' }, { kind: 'change', image });
    for (let round = 0; round < 5; round += 1) {
      await all({ kind: 'show', count: 100 }, { kind: 'look' });
    }
    world.arrive();
    expect([...world.stored.values()].map(({ spec }) => spec.image)).toEqual(images);
  });

  it('gives no turn before its cache shows the workers that had one with the leader before', async () => {
    const world = new World();
    await world.begin(4);
    world.put({ image: 'b:1' });
    world.changeElsewhere(['hello-latest-2', 'hello-latest-3']);
    const images = () => [...world.stored.values()].map(({ spec }) => spec.image);
    for (let round = 0; round < 4; round += 1) {
      world.showFunctions();
      await world.look();
      expect(images()).toEqual([first, first, 'b:1', 'b:1']);
    }
    world.settle();
    world.show(100);
    world.showFunctions();
    await world.look();
    expect(images()).toEqual(['b:1', 'b:1', 'b:1', 'b:1']);
  });

  it('changes no worker at once that has come to serve, and that its cache shows as away', async () => {
    const world = new World();
    await world.begin(4);
    for (let at = 0; at < 4; at += 1) {
      await world.move({ kind: 'away', at });
    }
    world.show(100);
    world.settle();
    world.put({ image: 'b:1' });
    world.showFunctions();
    await world.look();
    expect([...world.stored.values()].map(({ spec }) => spec.image)).toEqual([first, first, first, first]);
    world.show(100);
    world.showFunctions();
    await world.look();
    expect([...world.stored.values()].map(({ spec }) => spec.image)).toEqual(['b:1', 'b:1', first, first]);
  });

  it('counts a worker whose turn is not over beside the next turns, when settings and another template come', async () => {
    const world = new World();
    const images = () => [...world.stored.values()].map(({ spec }) => spec.image);
    const look = async (): Promise<void> => {
      world.show(100);
      world.showFunctions();
      await world.look();
    };
    await world.begin(4);
    world.put({ image: 'b:1' });
    await look();
    await world.move({ kind: 'ready', at: 0 });
    await look();
    expect(images()).toEqual(['b:1', 'b:1', 'b:1', first]);
    world.put({ reserved: 1 });
    await look();
    world.put({ image: 'c:1' });
    await look();
    // Agents have seen nothing since: the second and the third have two containers.
    expect(images()).toEqual(['b:1', 'c:1', 'c:1', first]);
  });

  it('takes the turns of the leader before out of the status once they are over', async () => {
    const world = new World();
    await world.begin(2);
    world.put({ image: 'b:1' });
    world.showFunctions();
    await world.look();
    expect(world.owner.status?.changing).toEqual(['hello-latest-0', 'hello-latest-1']);
    await world.move({ kind: 'leader' });
    world.settle();
    for (let round = 0; round < 3; round += 1) {
      world.show(100);
      world.showFunctions();
      await world.look();
    }
    expect(world.owner.status).not.toHaveProperty('changing');
  });

  it('gives nobody a turn that is over by what the cache of functions still shows', async () => {
    const world = new World();
    const all = async (...given: readonly Move[]): Promise<void> => {
      for (const move of given) {
        await world.move(move);
      }
    };
    const look: Move = { kind: 'look' };
    const see: Move = { kind: 'show', count: 100 };
    const seeFunctions: Move = { kind: 'showFunctions', count: 100 };
    await world.begin(4);
    await all({ kind: 'change', image: 'b:1' }, seeFunctions, look);
    world.settle();
    await all(see, seeFunctions, look);
    world.settle();
    // The turns of the last two are over. Two changes of the function come before that is written down.
    await all(see, seeFunctions, { kind: 'reserve', reserved: 1 }, look);
    await all(seeFunctions, { kind: 'change', image: 'c:1' }, look);
    expect(world.owner.status?.changing).toEqual(['hello-latest-2', 'hello-latest-3']);
    await all({ kind: 'ready', at: 2 }, { kind: 'ready', at: 3 }, see, seeFunctions);
    // The first two, whose agents have not seen the setting yet, are changed first.
    await all(look, look);
    expect([...world.stored.values()].map(({ spec }) => spec.image)).toEqual(['c:1', 'c:1', 'b:1', 'b:1']);
  });

  it.each([
    ['makes no worker too many, takes none too many, and comes to the wish', 0],
    ['changes no more workers at once than the surge, and comes to the wish', 4],
  ])(
    '%s',
    async (_what, count) => {
      await fc.assert(
        fc.asyncProperty(moves, async (given) => {
          const world = new World();
          if (count > 0) {
            await world.begin(count);
          }
          for (const move of given) {
            await world.move(move);
          }
          world.arrive();
          for (let round = 0; round < 30; round += 1) {
            world.show(1_000);
            world.showFunctions();
            await world.look();
            world.settle();
            if (round === 20 && world.owner.status?.changing !== undefined) {
              // Numbers are written now and then.
              await world.clock.advance(30_000);
            }
          }
          expect(world.owner.status?.changing ?? []).toEqual([]);
          const template = templateHashOf(world.owner.spec.template);
          const living = world.living();
          expect(living).toHaveLength(world.owner.spec.scaling.minWorkers);
          expect(living.filter((worker) => !isUpdated(worker, template))).toEqual([]);
        }),
        { numRuns: 250 },
      );
    },
    60_000,
  );
});
