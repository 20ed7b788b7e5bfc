import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type LambdaFunction, templateHashOf } from '../../../../src/api/lambda-function.ts';
import { type LambdaWorker, lambdaWorkers } from '../../../../src/api/lambda-worker.ts';
import { unreachable } from '../../../../src/common/errors.ts';
import { isLiving, isUpdated, isWorkerReady } from '../../../../src/controller/functions/readiness.ts';
import { serves } from '../../../../src/controller/functions/rollout.ts';
import { objectKey } from '../../../../src/kube/api/object-key.ts';
import { condition, functionFixture } from '../../../support/function-fixture.ts';
import { FunctionLab, KEY } from '../../../support/function-lab.ts';
import { type CarriedOut, noAnswer } from '../../../support/test-cluster.ts';

/** The next write of a kind gets no answer, and is carried out at once, never, or when it arrives. */
interface Fault {
  readonly kind: 'fault';
  readonly of: Write;
  readonly carriedOut: 'at once' | 'late' | 'never';
}

type Write = 'create' | 'delete' | 'patch';

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

const SURGE = 2;
const rollout = { maxSurge: SURGE, maxUnavailable: 0, progressDeadlineSeconds: 600 };

/** A function controller whose watches are late. */
class World {
  readonly lab = new FunctionLab();
  readonly cluster = this.lab.cluster;
  /** Workers that served and got another template, whose agents have not told that they run with it. */
  readonly beside = new Set<string>();
  /** Uids of workers that somebody else has deleted. */
  readonly #ended = new Set<string | undefined>();

  constructor() {
    this.cluster.onWritten = (write) => this.#check(write);
    this.put({});
    this.lab.lag('functions', 'workers');
  }

  get owner(): LambdaFunction {
    return this.lab.owner;
  }

  get stored(): readonly LambdaWorker[] {
    return this.cluster.all(lambdaWorkers);
  }

  put(change: { readonly image?: string; readonly minWorkers?: number; readonly reserved?: number | undefined }): void {
    const { spec } = this.owner;
    const reserved = 'reserved' in change ? change.reserved : spec.reservedConcurrency;
    const more = { rollout, ...(reserved === undefined ? {} : { reservedConcurrency: reserved }) };
    const { image = spec.template.spec.image, minWorkers = spec.scaling.minWorkers } = change;
    this.lab.apply(functionFixture({ image, minWorkers, spec: more }));
  }

  showFunctions(count?: number): void {
    this.lab.caches.functions.show(count);
  }

  show(count?: number): void {
    this.lab.caches.workers.show(count);
  }

  images(): readonly string[] {
    return this.stored.map(({ spec }) => spec.image);
  }

  #check({ after, before, isLate, request }: CarriedOut): void {
    if (request.plural !== lambdaWorkers.plural) {
      return;
    }
    const [old, present] = [before, after] as readonly (LambdaWorker | undefined)[];
    // A wish of a moment ago is carried out as well.
    const wishes = [this.owner, ...this.lab.caches.functions.cache.list()].map(({ spec }) => spec.scaling.minWorkers);
    if (request.verb === 'create' && !isLate) {
      expect(this.lab.workers.length).toBeLessThanOrEqual(Math.max(...wishes));
    }
    if (request.verb === 'patch' && old !== undefined && old.spec.image !== present?.spec.image && serves(old)) {
      this.beside.add(request.name);
      expect(this.beside.size).toBeLessThanOrEqual(SURGE);
    }
    if (request.verb === 'delete' && !isLate) {
      this.beside.delete(request.name);
      // Workers count that the controller cannot know to be ended.
      const unseen = this.lab.caches.workers.cache
        .list()
        .filter((each) => isLiving(each) && this.#ended.has(each.metadata.uid));
      expect(this.lab.workers.length + unseen.length).toBeGreaterThanOrEqual(Math.min(...wishes));
    }
  }

  async move(move: Move): Promise<void> {
    const { stored } = this;
    const worker = 'at' in move ? stored.at(move.at % Math.max(1, stored.length)) : undefined;
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
      case 'ready':
      case 'end':
      case 'gone':
        if (worker !== undefined) {
          this.#moveWorker(move.kind, worker);
        }
        return;
      case 'reserve':
        this.put({ reserved: move.reserved });
        return;
      case 'scale':
        this.put({ minWorkers: move.to });
        return;
      case 'change':
        this.put({ image: move.image });
        return;
      case 'leader':
        this.lab.changeLeader();
        return;
      case 'fault':
        this.cluster.inject(({ verb }) => verb === move.of, { kind: 'lost', carriedOut: move.carriedOut });
        return;
      case 'arrive':
        this.cluster.arrive();
        return;
      default:
        unreachable(move);
    }
  }

  #moveWorker(kind: 'away' | 'ready' | 'end' | 'gone', worker: LambdaWorker): void {
    switch (kind) {
      case 'away':
        this.lab.report(worker, { conditions: [condition('Ready', 'False', 'Restarting')] });
        return;
      case 'ready':
        this.beside.delete(worker.metadata.name);
        this.lab.report(worker);
        return;
      case 'end':
        if (isLiving(worker)) {
          this.#ended.add(worker.metadata.uid);
          this.end(worker);
        }
        return;
      case 'gone':
        if (!isLiving(worker)) {
          this.cluster.remove(lambdaWorkers, objectKey(worker));
        }
        return;
      default:
        unreachable(kind);
    }
  }

  /** Has so many workers, all of them ready and seen. */
  async begin(count: number): Promise<void> {
    this.put({ minWorkers: count });
    this.showFunctions();
    await this.look();
    this.settle();
    this.show();
    await this.look();
    this.showFunctions();
  }

  /** Has agents do all that is to be done. */
  settle(): void {
    this.beside.clear();
    this.lab.settle((worker) => !isLiving(worker) || !isWorkerReady(worker));
  }

  /** Has somebody else delete a worker. */
  end(worker: LambdaWorker): void {
    this.beside.delete(worker.metadata.name);
    const metadata = { ...worker.metadata, deletionTimestamp: '2026-11-01T01:00:00Z' };
    this.cluster.put(lambdaWorkers, { ...worker, metadata });
  }

  async look(): Promise<void> {
    await this.lab.controller.reconcile(KEY, {}).catch((error: unknown) => {
      if (error !== noAnswer) {
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
        of: fc.constantFrom('create', 'delete', 'patch'),
        carriedOut: fc.constantFrom('at once', 'late', 'never'),
      }),
    },
    { weight: 1, arbitrary: fc.constant<Move>({ kind: 'arrive' }) },
  ),
  { maxLength: 60 },
);

describe('FunctionController on a cache that is late', () => {
  const first = functionFixture().spec.template.spec.image;

  it('changes no worker at once that has come to serve, and that its cache shows as away', async () => {
    const world = new World();
    await world.begin(4);
    for (let at = 0; at < 4; at += 1) {
      await world.move({ kind: 'away', at });
    }
    world.show();
    world.settle();
    world.put({ image: 'b:1' });
    world.showFunctions();
    await world.look();
    expect(world.images()).toEqual([first, first, first, first]);
    world.show();
    world.showFunctions();
    await world.look();
    expect(world.images()).toEqual(['b:1', 'b:1', first, first]);
  });

  it('counts a worker whose turn is not over beside the next turns, when settings and another template come', async () => {
    const world = new World();
    const images = () => world.images();
    const look = async (): Promise<void> => {
      world.show();
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
      world.show();
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
    expect(world.images()).toEqual(['c:1', 'c:1', 'b:1', 'b:1']);
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
          world.cluster.arrive();
          for (let round = 0; round < 30; round += 1) {
            world.show();
            world.showFunctions();
            await world.look();
            world.settle();
            if (round === 20 && world.owner.status?.changing !== undefined) {
              // Numbers are written now and then.
              await world.lab.clock.advance(30_000);
            }
          }
          expect(world.owner.status?.changing ?? []).toEqual([]);
          const template = templateHashOf(world.owner.spec.template);
          const living = world.lab.workers;
          expect(living).toHaveLength(world.owner.spec.scaling.minWorkers);
          expect(living.filter((worker) => !isUpdated(worker, template))).toEqual([]);
        }),
        { numRuns: 500 },
      );
    },
    60_000,
  );
});
