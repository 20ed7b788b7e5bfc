import { describe, expect, it, onTestFinished } from 'vitest';
import type { LambdaQuota } from '../../../../src/api/lambda-quota.ts';
import type { Assignment, LambdaWorker } from '../../../../src/api/lambda-worker.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { QUEUE_INDEX, QUOTA_INDEX, queueIndex, quotaIndex } from '../../../../src/controller/quota/quota-book.ts';
import { QuotaController } from '../../../../src/controller/quota/quota-controller.ts';
import { AssignmentCache } from '../../../../src/controller/scheduling/assignment-cache.ts';
import type { CacheEvent, KubeClient, PatchBody } from '../../../../src/kube/api/types.ts';
import { createObjectCache } from '../../../../src/kube/cache/object-cache.ts';
import { fakeInformer } from '../../../support/fake-informer.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { workerFixture } from '../../../support/worker-fixture.ts';

const quota: LambdaQuota = {
  metadata: { name: 'team', namespace: 'default', uid: 'uid-of-team', generation: 1 },
  spec: { hard: { memory: '1Gi', workers: 3 } },
};
const assigned = (name: string, changes: Partial<Assignment> = {}): LambdaWorker =>
  workerFixture({
    name,
    status: { assignment: { nodeName: 'node-1', epoch: 1, ...changes }, phase: 'Running' },
  });

class Scene {
  readonly quotas = createObjectCache<LambdaQuota>({ [QUOTA_INDEX]: quotaIndex });
  readonly workers = createObjectCache<LambdaWorker>({ [QUEUE_INDEX]: queueIndex });
  readonly assignments = new AssignmentCache();
  readonly clock = manualClock();
  readonly written: unknown[] = [];
  rooms = 0;
  #version = 1;
  readonly controller: QuotaController;

  constructor() {
    this.quotas.set(quota);
    this.controller = new QuotaController({
      client: {
        patch: (_type: unknown, _key: unknown, { body }: PatchBody) => {
          const { status } = body as { status: NonNullable<LambdaQuota['status']> };
          this.written.push(status);
          this.quotas.set({ ...quota, status });
          return Promise.resolve({});
        },
      } as unknown as KubeClient,
      quotas: { ...fakeInformer<LambdaQuota>(), cache: this.quotas },
      workers: { cache: this.workers },
      assignments: this.assignments,
      onRoom: () => {
        this.rooms++;
      },
      onBounds: () => undefined,
      clock: this.clock,
      logger: silentLogger(),
      metrics: {},
    });
  }

  /** Until the test is over. */
  start(): void {
    this.controller.start();
    onTestFinished(() => this.controller.stop());
  }

  put(given: LambdaWorker): void {
    this.#version++;
    const worker = { ...given, metadata: { ...given.metadata, resourceVersion: String(this.#version) } };
    const before = this.assignments.usage('default');
    for (const change of this.workers.set(worker)) {
      this.assignments.observe(worker);
      this.controller.noteWorker(change, before);
    }
  }

  remove(worker: LambdaWorker): void {
    const before = this.assignments.usage('default');
    this.workers.replace(this.workers.list().filter(({ metadata }) => metadata.name !== worker.metadata.name));
    this.assignments.forget(worker.metadata.uid ?? '');
    const change: CacheEvent<LambdaWorker> = { kind: 'deleted', object: worker };
    this.controller.noteWorker(change, before);
  }

  look() {
    return this.controller.reconcile('default/team', {});
  }
}

const used = (memory: string, workers: number) => ({ used: { memory, workers } });

describe('QuotaController', () => {
  it('shows what is used, at most every five seconds, and writes nothing where nothing has changed', async () => {
    const scene = new Scene();
    expect(await scene.look()).toEqual({ requeueAfterMs: 5_000 });
    scene.put(assigned('a'));
    scene.put(assigned('b'));
    expect(await scene.look()).toEqual({ requeueAfterMs: 5_000 });
    await scene.clock.advance(5_000);
    await scene.look();
    await scene.clock.advance(5_000);
    expect(await scene.look()).toEqual({});
    expect(scene.written).toMatchObject([used('0Mi', 0), used('384Mi', 2)]);
    expect(scene.written[0]).toMatchObject({ observedGeneration: 1, hard: { memory: '1024Mi', workers: 3 } });
  });

  it('tells of room when a worker goes or shrinks, and when one that waited does', () => {
    const scene = new Scene();
    scene.put(assigned('a'));
    const waiting = workerFixture({ name: 'waiting' });
    scene.put(waiting);
    expect(scene.rooms).toBe(0);
    const small = { limits: { memory: '6Mi' }, pids: 256 };
    const shrunk = assigned('a');
    scene.put({ ...shrunk, spec: { ...shrunk.spec, resources: small } });
    expect(scene.rooms).toBe(1);
    scene.remove(waiting);
    expect(scene.rooms).toBe(2);
    scene.remove(shrunk);
    expect(scene.rooms).toBe(3);
  });

  it('tells of room when a worker gives its growth up, and not when the growth is granted', () => {
    const scene = new Scene();
    const granted = { memoryMiB: 192, milliCPU: 10 };
    const told = {
      type: 'Scheduled',
      reason: 'QuotaExceeded',
      message: '',
      lastTransitionTime: '2026-11-01T00:00:00Z',
    };
    const grower = (name: string): LambdaWorker => {
      const worker = assigned(name, { granted });
      return { ...worker, status: { ...worker.status, conditions: [{ ...told, status: 'False' }] } };
    };
    scene.put(grower('a'));
    scene.put(grower('b'));
    expect(scene.rooms).toBe(0);
    const { status } = assigned('a', { granted });
    const conditions = [{ ...told, status: 'True', reason: 'Assigned' }] as const;
    scene.put({ ...grower('a'), status: { ...status, conditions } });
    expect(scene.rooms).toBe(1);
    const larger = assigned('b', { granted: { memoryMiB: 320, milliCPU: 10 } });
    scene.put({ ...larger, status: { ...larger.status, conditions } });
    expect(scene.rooms).toBe(1);
  });
});
