import { describe, expect, it } from 'vitest';
import { type LambdaQuota, lambdaQuotas } from '../../../../src/api/lambda-quota.ts';
import { type Assignment, type LambdaWorker, lambdaWorkers } from '../../../../src/api/lambda-worker.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { QUEUE_INDEX, QUOTA_INDEX, queueIndex, quotaIndex } from '../../../../src/controller/quota/quota-book.ts';
import { QuotaController } from '../../../../src/controller/quota/quota-controller.ts';
import { AssignmentCache } from '../../../../src/controller/scheduling/assignment-cache.ts';
import { objectKey } from '../../../../src/kube/api/object-key.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { TestCluster } from '../../../support/test-cluster.ts';
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
  readonly cluster = new TestCluster();
  readonly clock = manualClock();
  readonly written: unknown[] = [];
  rooms = 0;
  readonly controller: QuotaController;

  constructor() {
    this.cluster.put(lambdaQuotas, quota);
    this.cluster.onWritten = ({ after }) => this.written.push((after as LambdaQuota).status);
    const workers = this.cluster.informer(lambdaWorkers, { [QUEUE_INDEX]: queueIndex });
    const assignments = new AssignmentCache();
    this.controller = new QuotaController({
      client: this.cluster.client,
      quotas: this.cluster.informer(lambdaQuotas, { [QUOTA_INDEX]: quotaIndex }),
      workers,
      assignments,
      onRoom: () => {
        this.rooms++;
      },
      onBounds: () => undefined,
      clock: this.clock,
      logger: silentLogger(),
      metrics: {},
    });
    workers.subscribe((change) => {
      const before = assignments.usage('default');
      if (change.kind === 'deleted') {
        assignments.forget(change.object.metadata.uid ?? '');
      } else {
        assignments.observe(change.object);
      }
      this.controller.noteWorker(change, before);
    });
  }

  put(worker: LambdaWorker): void {
    this.cluster.put(lambdaWorkers, worker);
  }

  remove(worker: LambdaWorker): void {
    this.cluster.remove(lambdaWorkers, objectKey(worker));
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
    expect(scene.written).toHaveLength(1);
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
