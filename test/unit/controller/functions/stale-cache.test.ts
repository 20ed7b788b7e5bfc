import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type LambdaFunction, templateHashOf } from '../../../../src/api/lambda-function.ts';
import type { LambdaVersion } from '../../../../src/api/lambda-version.ts';
import type { LambdaWorker } from '../../../../src/api/lambda-worker.ts';
import { unreachable } from '../../../../src/common/errors.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { FunctionController } from '../../../../src/controller/functions/function-controller.ts';
import { CALLED_INDEX, calledIndex } from '../../../../src/controller/functions/name-holder.ts';
import { OWNER_INDEX, ownerIndex } from '../../../../src/controller/functions/owner-index.ts';
import { isUpdated, isWorkerReady } from '../../../../src/controller/functions/readiness.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import type { CacheEvent, KubeClient, KubeObject, ObjectKey, ResourceType } from '../../../../src/kube/api/types.ts';
import { createObjectCache } from '../../../../src/kube/cache/object-cache.ts';
import { fakeInformer } from '../../../support/fake-informer.ts';
import { functionFixture, ownedFixture } from '../../../support/function-fixture.ts';
import { manualClock } from '../../../support/manual-clock.ts';

type Move =
  | { readonly kind: 'look' }
  /** The cache takes in so many of the changes that it lacks. */
  | { readonly kind: 'show'; readonly count: number }
  /** A worker becomes ready, is deleted by somebody else, or is gone at last. */
  | { readonly kind: 'ready' | 'end' | 'gone'; readonly at: number }
  | { readonly kind: 'scale'; readonly to: number }
  | { readonly kind: 'change'; readonly image: string }
  | { readonly kind: 'leader' }
  /** The next write gets no answer, carried out or not. */
  | { readonly kind: 'fault'; readonly isCarriedOut: boolean };

const lost = new ApiError('no answer', { code: 'Unreachable' });

const oneAtATime = { rollout: { maxSurge: 1, maxUnavailable: 0, progressDeadlineSeconds: 600 } };

/** An API server whose changes reach the cache of the controller late. */
class World {
  readonly stored = new Map<string, LambdaWorker>();
  readonly #functions = fakeInformer<LambdaFunction>([], { [CALLED_INDEX]: calledIndex });
  readonly #cache = createObjectCache<LambdaWorker>({ [OWNER_INDEX]: ownerIndex });
  readonly #late: (() => readonly CacheEvent<LambdaWorker>[])[] = [];
  readonly #clock = manualClock();
  owner = functionFixture({ spec: oneAtATime });
  #hasChangedLeaders = false;
  #fault: boolean | undefined;
  #version = 0;
  #controller = this.#start();

  constructor() {
    this.put({});
  }

  put({ image, minWorkers }: { readonly image?: string; readonly minWorkers?: number }): void {
    const before = this.owner.spec;
    this.owner = functionFixture({
      image: image ?? before.template.spec.image,
      minWorkers: minWorkers ?? before.scaling.minWorkers,
      spec: oneAtATime,
    });
    this.#functions.put(this.owner);
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
      demand: { calls: () => 0, isHeard: () => false },
      clock: this.#clock,
      logger: silentLogger(),
      metrics: {},
    });
  }

  set(worker: LambdaWorker): void {
    const { name } = worker.metadata;
    this.#version += 1;
    const next = { ...worker, metadata: { ...worker.metadata, resourceVersion: String(this.#version) } };
    this.stored.set(name, next);
    this.#late.push(() => this.#cache.set(structuredClone(next)));
  }

  remove(worker: LambdaWorker): void {
    this.stored.delete(worker.metadata.name);
    this.#late.push(() => this.#cache.remove(worker));
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

  async #write(work: () => void): Promise<void> {
    const fault = this.#fault;
    this.#fault = undefined;
    if (fault !== false) {
      work();
    }
    if (fault !== undefined) {
      throw lost;
    }
  }

  #client(): KubeClient {
    const wanted = (): number => this.owner.spec.scaling.minWorkers;
    const client = {
      get: async (type: ResourceType<KubeObject>, { name }: ObjectKey) =>
        type.plural === 'lambdaworkers' ? this.stored.get(name) : this.owner,
      create: (_type: unknown, worker: LambdaWorker) =>
        this.#write(() => {
          if (this.stored.has(worker.metadata.name)) {
            throw new ApiError('there', { code: 'AlreadyExists', status: 409 });
          }
          this.#version += 1;
          this.set({
            ...worker,
            metadata: { ...worker.metadata, uid: `uid-${this.#version}`, generation: 1, creationTimestamp: '2026' },
          });
          // The next leader knows no names that the last one has used.
          if (!this.#hasChangedLeaders) {
            expect(this.living().length).toBeLessThanOrEqual(wanted());
          }
        }),
      update: (_type: unknown, worker: LambdaWorker) =>
        this.#write(() => {
          const before = this.stored.get(worker.metadata.name);
          if (before?.metadata.resourceVersion !== worker.metadata.resourceVersion) {
            throw new ApiError('other', { code: 'Conflict', status: 409 });
          }
          if (before !== undefined && isWorkerReady(before)) {
            const template = templateHashOf(this.owner.spec.template);
            expect(this.living().filter((one) => isUpdated(one, template) && !isWorkerReady(one))).toEqual([]);
          }
          const generation = (before?.metadata.generation ?? 0) + 1;
          this.set({ ...worker, metadata: { ...worker.metadata, generation }, status: before?.status } as LambdaWorker);
        }),
      delete: (_type: unknown, { name }: ObjectKey, { uid }: { uid?: string }) =>
        this.#write(() => {
          const worker = this.stored.get(name);
          if (worker !== undefined && worker.metadata.uid === uid && worker.metadata.deletionTimestamp === undefined) {
            this.end(worker);
            expect(this.living().length).toBeGreaterThanOrEqual(wanted());
          }
        }),
      patch: async () => undefined,
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
      case 'ready':
        if (worker !== undefined) {
          this.ready(worker);
        }
        return;
      case 'end':
        if (worker !== undefined && !isEnding) {
          this.end(worker);
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
        this.#fault = move.isCarriedOut;
        return;
      default:
        unreachable(move);
    }
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
    { weight: 2, arbitrary: at.map((one): Move => ({ kind: 'ready', at: one })) },
    { weight: 1, arbitrary: at.map((one): Move => ({ kind: 'end', at: one })) },
    { weight: 1, arbitrary: at.map((one): Move => ({ kind: 'gone', at: one })) },
    { weight: 2, arbitrary: fc.nat(5).map((to): Move => ({ kind: 'scale', to })) },
    { weight: 1, arbitrary: fc.constantFrom('a:1', 'b:1').map((image): Move => ({ kind: 'change', image })) },
    { weight: 1, arbitrary: fc.constant<Move>({ kind: 'leader' }) },
    { weight: 1, arbitrary: fc.boolean().map((isCarriedOut): Move => ({ kind: 'fault', isCarriedOut })) },
  ),
  { maxLength: 60 },
);

describe('FunctionController on a cache that is late', () => {
  it('makes no worker too many, takes none too many, has one ready worker away, and comes to the wish', async () => {
    await fc.assert(
      fc.asyncProperty(moves, async (given) => {
        const world = new World();
        for (const move of given) {
          await world.move(move);
        }
        for (let round = 0; round < 20; round += 1) {
          world.show(1_000);
          await world.look();
          world.settle();
        }
        const template = templateHashOf(world.owner.spec.template);
        const living = world.living();
        expect(living).toHaveLength(world.owner.spec.scaling.minWorkers);
        expect(living.filter((worker) => !isUpdated(worker, template))).toEqual([]);
      }),
      { numRuns: 500 },
    );
  });
});
