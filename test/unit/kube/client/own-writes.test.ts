import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type LambdaWorker, lambdaWorkers } from '../../../../src/api/lambda-worker.ts';
import { unreachable } from '../../../../src/common/errors.ts';
import { keyText, objectKey } from '../../../../src/kube/api/object-key.ts';
import { isGone, isOlder } from '../../../../src/kube/api/resource-version.ts';
import type { CacheEvent } from '../../../../src/kube/api/types.ts';
import { OwnWrites } from '../../../../src/kube/client/own-writes.ts';
import { noAnswer, TestCluster, type WriteFault } from '../../../support/test-cluster.ts';
import { workerFixture } from '../../../support/worker-fixture.ts';

/** One step of an order of events, on the object of that number. */
type Step =
  | {
      readonly kind:
        | 'create'
        | 'patch'
        | 'delete'
        | 'clear'
        | 'createElsewhere'
        | 'changeElsewhere'
        | 'removeElsewhere';
      readonly at: number;
    }
  | { readonly kind: 'show'; readonly count: number }
  | { readonly kind: 'lose'; readonly carriedOut: Extract<WriteFault, { kind: 'lost' }>['carriedOut'] }
  /** The next write is answered late: with `answer`. */
  | { readonly kind: 'slow' | 'answer' }
  | { readonly kind: 'arrive' | 'beginList' | 'endList' | 'settle' | 'lead' };

const NAMESPACE = 'default';
const call = {};

/** A controller that writes, others that write, and a cache whose watch is behind. */
class Scene {
  readonly cluster = new TestCluster();
  readonly informer = this.cluster.informer(lambdaWorkers);
  /** Objects by uid, as the events of the cache show them. */
  readonly told = new Map<string | undefined, LambdaWorker>();
  /** Uids of objects that the cache has shown, and that were gone by the answer to their deletion. */
  readonly gone = new Set<string | undefined>();
  readonly #shown = new Set<string | undefined>();
  writes = this.#lead();
  #counter = 0;
  #endList: (() => void) | undefined;
  readonly #pending: Promise<unknown>[] = [];

  constructor() {
    this.informer.setLagging(true);
    this.informer.subscribe((event) => this.#note(event));
  }

  #lead(): OwnWrites {
    return new OwnWrites(this.cluster.client, [{ type: lambdaWorkers, informer: this.informer }]);
  }

  #note(event: CacheEvent<LambdaWorker>): void {
    const { uid } = event.object.metadata;
    if (event.kind === 'deleted') {
      this.told.delete(uid);
      return;
    }
    expect(this.gone.has(uid)).toBe(false);
    const before = this.told.get(uid);
    expect(before !== undefined && isOlder(event.object, before)).toBe(false);
    this.told.set(uid, event.object);
    this.#shown.add(uid);
  }

  async answer(): Promise<void> {
    this.cluster.answer();
    await Promise.all(this.#pending.splice(0));
  }

  endList(): void {
    this.#endList?.();
    this.#endList = undefined;
  }

  cached(name: string): LambdaWorker | undefined {
    return this.informer.cache.get({ namespace: NAMESPACE, name });
  }

  async step(step: Step): Promise<void> {
    const name = 'at' in step ? `worker-${step.at}` : '';
    const key = { namespace: NAMESPACE, name };
    switch (step.kind) {
      case 'create':
        await this.#write(() => this.writes.client.create(lambdaWorkers, this.#made(name, step.at)));
        return;
      case 'patch': {
        const body = { metadata: { labels: { turn: this.#turn() } } };
        await this.#write(() => this.writes.client.patch(lambdaWorkers, key, { kind: 'merge', body }));
        return;
      }
      case 'delete': {
        const uid = this.cluster.get(lambdaWorkers, key)?.metadata.uid;
        if (uid !== undefined) {
          await this.#delete(name, uid);
        }
        return;
      }
      case 'createElsewhere':
        if (this.cluster.get(lambdaWorkers, key) === undefined) {
          this.cluster.put(lambdaWorkers, this.#made(name, step.at));
        }
        return;
      case 'changeElsewhere': {
        const present = this.cluster.get(lambdaWorkers, key);
        if (present !== undefined) {
          this.cluster.put(lambdaWorkers, {
            ...present,
            metadata: { ...present.metadata, labels: { turn: this.#turn() } },
          });
        }
        return;
      }
      case 'removeElsewhere':
        this.cluster.remove(lambdaWorkers, key);
        return;
      case 'show':
        this.informer.show(step.count);
        return;
      case 'lose':
        this.cluster.inject(() => true, { kind: 'lost', carriedOut: step.carriedOut });
        return;
      case 'clear': {
        const body = { metadata: { finalizers: [] } };
        await this.#write(() => this.writes.client.patch(lambdaWorkers, key, { kind: 'merge', body }));
        return;
      }
      case 'slow':
        this.cluster.inject(() => true, { kind: 'slow' });
        return;
      case 'answer':
        await this.answer();
        return;
      case 'arrive':
        this.cluster.arrive();
        return;
      case 'beginList':
        this.#endList ??= this.informer.beginList();
        return;
      case 'endList':
        this.endList();
        return;
      case 'settle':
        await this.writes.settle({ namespace: NAMESPACE, name: 'worker' }, call);
        return;
      case 'lead':
        this.endList();
        await this.informer.refresh();
        this.writes = this.#lead();
        return;
      default:
        unreachable(step);
    }
  }

  /** Each second one has a finalizer. */
  #made(name: string, at: number): LambdaWorker {
    const { uid: _uid, resourceVersion: _version, ...metadata } = workerFixture().metadata;
    const finalizers = at % 2 === 0 ? [] : ['esb.dev/test'];
    return { ...workerFixture(), metadata: { ...metadata, namespace: NAMESPACE, name, finalizers } };
  }

  #turn(): string {
    this.#counter += 1;
    return String(this.#counter);
  }

  async #delete(name: string, uid: string): Promise<void> {
    const key = { namespace: NAMESPACE, name };
    try {
      const left = await this.#answerOf(this.writes.client.delete(lambdaWorkers, key, { uid }));
      if (left === undefined) {
        if (this.#shown.has(uid)) {
          this.gone.add(uid);
        }
        expect(this.cached(name)?.metadata.uid).not.toBe(uid);
      }
    } catch (error) {
      expect(error).toBe(noAnswer);
    }
  }

  /** The answer to a write, unless that is slow. */
  async #answerOf<T>(write: Promise<T>): Promise<T | 'later'> {
    let isOver = false;
    const end = (): void => {
      isOver = true;
    };
    this.#pending.push(write.then(end, end));
    for (let tick = 0; tick < 20 && !isOver; tick += 1) {
      await Promise.resolve();
    }
    return isOver ? await write : 'later';
  }

  /** An answered write is in the cache, or what has come after it. */
  async #write(send: () => Promise<LambdaWorker>): Promise<void> {
    try {
      const answer = await this.#answerOf(send());
      if (answer === 'later') {
        return;
      }
      if (isGone(answer)) {
        expect(this.cached(answer.metadata.name)?.metadata.uid).not.toBe(answer.metadata.uid);
        return;
      }
      const cached = this.cached(answer.metadata.name);
      expect(cached?.metadata.uid).toBe(answer.metadata.uid);
      expect(cached !== undefined && isOlder(cached, answer)).toBe(false);
    } catch (error) {
      if (error !== noAnswer && !(error instanceof Error && ['AlreadyExists', 'NotFound'].includes(error.message))) {
        throw error;
      }
    }
  }

  /** Keys and versions. */
  static contentOf(objects: readonly LambdaWorker[]): readonly string[] {
    return objects
      .map((object) => `${keyText(objectKey(object))} ${object.metadata.uid} ${object.metadata.resourceVersion}`)
      .toSorted();
  }
}

const at = fc.nat(1);
const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom('create', 'patch', 'delete', 'clear'), at }) },
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constantFrom('createElsewhere', 'changeElsewhere', 'removeElsewhere'), at }),
    },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('show'), count: fc.integer({ min: 1, max: 3 }) }) },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant('lose'), carriedOut: fc.constantFrom('at once', 'late', 'never') }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom('arrive', 'settle', 'lead') }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('slow', 'answer') }) },
    { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom('beginList', 'endList') }) },
  ) as fc.Arbitrary<Step>,
  { maxLength: 40 },
);

describe('OwnWrites under lag, lost answers and changes of the leader', () => {
  it('show each answered write at once, never an older version, and at last what there is', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (given) => {
        const scene = new Scene();
        for (const step of given) {
          await scene.step(step);
        }
        scene.cluster.arrive();
        await scene.answer();
        scene.endList();
        scene.informer.show();
        const there = Scene.contentOf(scene.cluster.all(lambdaWorkers));
        expect(Scene.contentOf(scene.informer.cache.list())).toEqual(there);
        expect(Scene.contentOf([...scene.told.values()])).toEqual(there);
      }),
      { numRuns: 3_000 },
    );
  });

  it('show what became of a write without an answer, once it is settled', async () => {
    const scene = new Scene();
    await scene.step({ kind: 'create', at: 0 });
    await scene.step({ kind: 'lose', carriedOut: 'at once' });
    await scene.step({ kind: 'patch', at: 0 });
    expect(scene.cached('worker-0')?.metadata.labels?.turn).toBe(undefined);
    await scene.step({ kind: 'settle' });
    expect(scene.cached('worker-0')?.metadata.labels?.turn).toBe('1');
    const before = scene.cluster.requests.length;
    await scene.step({ kind: 'settle' });
    expect(scene.cluster.requests).toHaveLength(before);
  });
});
