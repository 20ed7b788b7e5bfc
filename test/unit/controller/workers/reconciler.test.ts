import { Registry } from 'prom-client';
import { describe, expect, it, vi } from 'vitest';
import type { LambdaNode } from '../../../../src/api/lambda-node.ts';
import { type LambdaWorker, lambdaWorkers } from '../../../../src/api/lambda-worker.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { registerControllerMetrics } from '../../../../src/controller/metrics/controller-metrics.ts';
import { NodeLiveness } from '../../../../src/controller/nodes/liveness.ts';
import { Silence } from '../../../../src/controller/nodes/silence.ts';
import type { Grant } from '../../../../src/controller/quota/quota-book.ts';
import { AssignmentCache } from '../../../../src/controller/scheduling/assignment-cache.ts';
import { NodeSnapshot } from '../../../../src/controller/scheduling/node-snapshot.ts';
import { FUNCTION_INDEX, functionIndex } from '../../../../src/controller/workers/disruption-budget.ts';
import { LEAVING_INDEX, LeftNodes, leavingIndex } from '../../../../src/controller/workers/left-nodes.ts';
import { WorkerReconciler } from '../../../../src/controller/workers/reconciler.ts';
import { ShareKeeper } from '../../../../src/controller/workers/share-keeper.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import type { Node } from '../../../../src/kube/api/resource-types.ts';
import type {
  CacheEvent,
  KubeClient,
  KubeObject,
  ObjectKey,
  PatchBody,
  ResourceType,
} from '../../../../src/kube/api/types.ts';
import { createObjectCache, type WritableCache } from '../../../../src/kube/cache/object-cache.ts';
import { OwnWrites } from '../../../../src/kube/client/own-writes.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { nodeFixture, readNodeFixture, workerFixture } from '../../../support/worker-fixture.ts';

type Write = {
  readonly name: string;
  readonly subresource: string | undefined;
  readonly body: Record<string, unknown>;
};

/** The API server as far as the reconciler uses it: patches of workers with a version as precondition, and gets. */
class Scene {
  readonly workers: WritableCache<LambdaWorker> = createObjectCache({ [FUNCTION_INDEX]: functionIndex });
  readonly nodes: WritableCache<LambdaNode> = createObjectCache({ [LEAVING_INDEX]: leavingIndex });
  readonly coreNodes: WritableCache<Node> = createObjectCache();
  readonly stored = new Map<string, LambdaWorker>();
  readonly storedNodes = new Map<string, LambdaNode>();
  readonly writes: Write[] = [];
  readonly events: string[] = [];
  readonly clock = manualClock();
  readonly assignments = new AssignmentCache();
  readonly liveness = new NodeLiveness();
  readonly closures = new Map<string, 'draining' | 'unheld'>();
  readonly growing = new Set<string>();
  readonly snapshot: NodeSnapshot;
  readonly left: LeftNodes;
  readonly silence = new Silence();
  readonly shares: ShareKeeper;
  readonly lapsed: string[] = [];
  /** Happens once the next patch is on its way. */
  meanwhile: (() => void) | undefined;
  /** Times that workers that wait were to be looked at. */
  rooms = 0;
  readonly reconciler: WorkerReconciler;
  grant: Grant = { kind: 'unbound' };
  /** Whether the API server answers no reads. */
  isAway = false;
  /** Thrown by the next status patch, after or before it took effect. */
  fault: { readonly error: Error; readonly applied: boolean } | undefined;
  #version = 100;

  constructor(...nodes: LambdaNode[]) {
    const client = {
      patch: (_type: ResourceType<KubeObject>, key: ObjectKey, patch: PatchBody, options?: { subresource?: string }) =>
        this.#patch(key, patch, options?.subresource),
      get: (type: ResourceType<KubeObject>, key: ObjectKey) =>
        this.isAway
          ? Promise.reject(ApiError.unreachable('get', new Error('reset')))
          : Promise.resolve(
              type.kind === 'LambdaNode'
                ? this.storedNodes.get(key.name)
                : type.kind === 'LambdaWorker'
                  ? this.stored.get(key.name)
                  : undefined,
            ),
    } as unknown as KubeClient;
    const writes = new OwnWrites(client, [
      {
        type: lambdaWorkers,
        informer: {
          cache: this.workers,
          written: (worker) => this.#take(this.workers.setAhead(worker as LambdaWorker)),
          removed: (key, uid) => this.#take(this.workers.removeAhead(key, uid)),
        },
      },
    ]);
    for (const node of nodes) {
      this.showNode(node);
    }
    this.snapshot = new NodeSnapshot({
      client,
      lambdaNodes: this.nodes,
      nodes: this.coreNodes,
      liveness: this.liveness,
      assignments: this.assignments,
      closures: { closureOf: (node) => this.closures.get(node), isGrowing: (node) => this.growing.has(node) },
      clock: this.clock,
    });
    this.left = new LeftNodes({ lambdaNodes: this.nodes, snapshot: this.snapshot, clock: this.clock });
    this.shares = new ShareKeeper({
      workers: this.workers,
      assignments: this.assignments,
      snapshot: this.snapshot,
      silence: this.silence,
      onLapse: (keys) => this.lapsed.push(...keys),
      clock: this.clock,
    });
    this.reconciler = new WorkerReconciler({
      client: writes.client,
      settle: (key, call) => writes.settle(key, call),
      workers: this.workers,
      snapshot: this.snapshot,
      left: this.left,
      shares: this.shares,
      strategy: 'spread',
      assignments: this.assignments,
      quotas: { grant: () => this.grant, note: () => undefined },
      onRoom: () => {
        this.rooms += 1;
      },
      events: { record: ({ reason }) => this.events.push(reason) },
      metrics: registerControllerMetrics(new Registry(), {
        phases: () => [],
        livenesses: () => [],
      }),
      clock: this.clock,
      logger: silentLogger(),
    });
  }

  showNode(node: LambdaNode): void {
    this.storedNodes.set(node.metadata.name, node);
    for (const change of this.nodes.set(node)) {
      this.left?.noteNode(change);
    }
    this.reconciler?.forgetRefusals();
  }

  /** Somebody creates or changes a worker; the cache follows. */
  put(worker: LambdaWorker): void {
    this.#store(worker);
    this.sync();
  }

  /** Somebody creates or changes a worker; the watch is late. */
  putUnseen(worker: LambdaWorker): void {
    this.#store(worker);
  }

  /** A worker is gone, and the cache knows. */
  drop(name: string): void {
    const worker = this.stored.get(name);
    this.stored.delete(name);
    this.#take(worker === undefined ? [] : this.workers.remove(worker));
  }

  /** The cache catches up with what is stored. */
  sync(): void {
    for (const worker of this.stored.values()) {
      this.#take(this.workers.set(worker));
    }
  }

  #take(changes: readonly CacheEvent<LambdaWorker>[]): void {
    for (const change of changes) {
      this.left.noteWorker(change);
      this.shares.noteWorker(change);
      if (change.kind === 'deleted') {
        this.assignments.forget(change.object.metadata.uid ?? '');
      } else {
        this.assignments.observe(change.object);
        this.reconciler.note(change.object);
      }
    }
  }

  reconcile(name: string) {
    return this.reconciler.reconcile(`default/${name}`, {});
  }

  assignment(name: string) {
    return this.stored.get(name)?.status?.assignment;
  }

  #store(worker: LambdaWorker): LambdaWorker {
    this.#version++;
    const next = { ...worker, metadata: { ...worker.metadata, resourceVersion: String(this.#version) } };
    this.stored.set(worker.metadata.name, next);
    return next;
  }

  #patch(key: ObjectKey, patch: PatchBody, subresource: string | undefined): Promise<LambdaWorker> {
    const { meanwhile } = this;
    this.meanwhile = undefined;
    meanwhile?.();
    const present = this.stored.get(key.name);
    if (present === undefined) {
      return Promise.reject(ApiError.fromAnswer('patch', 404, ''));
    }
    const body = patch.body as {
      metadata?: { resourceVersion?: string; finalizers?: string[] };
      status?: object;
    };
    if (body.metadata?.resourceVersion !== present.metadata.resourceVersion) {
      return Promise.reject(ApiError.fromAnswer('patch', 409, ''));
    }
    const fault = subresource === 'status' ? this.fault : undefined;
    this.fault = subresource === 'status' ? undefined : this.fault;
    if (fault?.applied === false) {
      return Promise.reject(fault.error);
    }
    this.writes.push({ name: key.name, subresource, body: body as Record<string, unknown> });
    const { finalizers } = body.metadata ?? {};
    // A field of the controller that an apply leaves out is gone.
    const {
      assignment: _assignment,
      lastEpoch: _lastEpoch,
      unfitArchitectures: _unfit,
      ...others
    } = present.status ?? {};
    const kept = patch.kind === 'apply' ? others : present.status;
    const next = this.#store({
      ...present,
      metadata: { ...present.metadata, ...(finalizers === undefined ? {} : { finalizers }) },
      ...(body.status === undefined ? {} : { status: { ...kept, ...body.status } }),
    });
    return fault === undefined ? Promise.resolve(next) : Promise.reject(fault.error);
  }
}

describe('WorkerReconciler', () => {
  it('puts on the finalizer and assigns in one go, and rests then', async () => {
    const scene = new Scene(nodeFixture());
    scene.put(workerFixture());
    await scene.reconcile('hello');
    expect(scene.writes.map(({ subresource }) => subresource)).toEqual([undefined, 'status']);
    expect(scene.assignment('hello')).toEqual({ nodeName: 'node-1', epoch: 1 });
    expect(scene.events).toEqual(['Assigned']);
    // The cache has not seen it yet, and then it has.
    await scene.reconcile('hello');
    scene.sync();
    await scene.reconcile('hello');
    expect(scene.writes).toHaveLength(2);
  });

  it('sees its own decisions before they come back, so that a burst does not fill a node twice', async () => {
    const small = { capacity: { memoryMiB: 384, milliCPU: 100_000, workers: 10 } };
    const scene = new Scene(nodeFixture({ status: small }), nodeFixture({ name: 'node-2', status: small }));
    const names = ['a', 'b', 'c', 'd', 'e'];
    for (const name of names) {
      scene.put(workerFixture({ name }));
    }
    await Promise.all(names.map((name) => scene.reconcile(name)));
    const places = names
      .map((name) => scene.assignment(name)?.nodeName ?? 'none')
      .toSorted((a, b) => a.localeCompare(b));
    expect(places).toEqual(['node-1', 'node-1', 'node-2', 'node-2', 'none']);
    expect(scene.reconciler.waiting()).toEqual(['default/e']);
  });

  it('places nothing where memory and /tmp together find no room', async () => {
    const scene = new Scene(nodeFixture());
    scene.put(workerFixture({ spec: { ephemeralStorage: '64Gi' } }));
    await scene.reconcile('hello');
    expect(scene.assignment('hello')).toBeUndefined();
    scene.put(workerFixture({ name: 'small', spec: { ephemeralStorage: '1408Mi' } }));
    await scene.reconcile('small');
    expect(scene.assignment('small')).toEqual({ nodeName: 'node-1', epoch: 1 });
  });

  it('writes nothing to workers that wait for room while the agents of a full cluster restart in turn', async () => {
    const full = { capacity: { memoryMiB: 64, milliCPU: 100_000, workers: 10 } };
    const nodeOf = (number: number, ready: 'True' | 'False', version: number) =>
      nodeFixture({
        name: `node-${number}`,
        ready,
        status: full,
        metadata: { resourceVersion: String(version) },
      });
    const scene = new Scene(...Array.from({ length: 100 }, (_, number) => nodeOf(number, 'True', 1)));
    const names = Array.from({ length: 20 }, (_, number) => `w${number}`);
    for (const name of names) {
      scene.put(workerFixture({ name, metadata: { finalizers: ['esb.dev/worker'] } }));
    }
    const look = async () => {
      for (const name of names) {
        await scene.reconcile(name);
      }
      scene.sync();
    };
    await look();
    expect(scene.writes).toHaveLength(20);
    for (let number = 0; number < 100; number += 1) {
      scene.showNode(nodeOf(number, 'False', 2 * number + 2));
      await look();
      scene.showNode(nodeOf(number, 'True', 2 * number + 3));
      await look();
    }
    expect(scene.writes).toHaveLength(20);
  });

  it('writes ever more seldom where nothing but the text differs', async () => {
    const small = { capacity: { memoryMiB: 64, milliCPU: 100_000, workers: 10 } };
    const scene = new Scene(nodeFixture({ status: small }), nodeFixture({ name: 'node-2', status: small }));
    scene.put(workerFixture());
    let version = 1;
    const isReady = () => version % 2 === 1;
    const flip = async () => {
      version += 1;
      const ready = isReady() ? 'True' : 'False';
      scene.showNode(nodeFixture({ ready, status: small, metadata: { resourceVersion: String(version) } }));
      const result = await scene.reconcile('hello');
      scene.sync();
      return result;
    };
    await scene.reconcile('hello');
    scene.sync();
    for (let second = 0; second < 600; second += 1) {
      await flip();
      await scene.clock.advance(1_000);
    }
    // The reason first; then the text at 0, 15, 45, 105, 225 and 465 seconds, or a little later.
    expect(scene.writes.length).toBeGreaterThan(4);
    expect(scene.writes.length).toBeLessThanOrEqual(8);
    // Its last word is true.
    const { requeueAfterMs = 0 } = await flip();
    await scene.clock.advance(requeueAfterMs);
    await scene.reconcile('hello');
    scene.sync();
    expect(scene.stored.get('hello')?.status?.conditions?.[0]?.message).toContain(
      isReady() ? 'all smaller than' : 'not ready',
    );
  });

  it('waits for room in a quota, counts what was granted at once, and asks for no node for that', async () => {
    const scene = new Scene(nodeFixture());
    scene.put(workerFixture());
    scene.grant = { kind: 'refused', message: 'LambdaQuota team would be exceeded' };
    await scene.reconcile('hello');
    scene.sync();
    await scene.reconcile('hello');
    expect(scene.writes).toHaveLength(1);
    expect(scene.events).toEqual(['FailedScheduling']);
    expect(scene.reconciler.waiting()).toEqual(['default/hello']);
    expect(scene.reconciler.homeless()).toEqual([]);
    scene.grant = { kind: 'granted', granted: { memoryMiB: 500, milliCPU: 20 } };
    await scene.reconcile('hello');
    expect(scene.assignments.usage('default')).toEqual({ memoryMiB: 500, milliCPU: 20, workers: 1 });
    scene.sync();
    scene.grant = { kind: 'granted', granted: { memoryMiB: 600, milliCPU: 20 } };
    scene.fault = { error: ApiError.unreachable('patch', new Error('reset')), applied: false };
    await expect(scene.reconcile('hello')).rejects.toMatchObject({ code: 'Unreachable' });
    // The write may have come through: what was granted is no other worker's until that is known.
    expect(scene.assignments.usage('default').memoryMiB).toBe(600);
    scene.isAway = true;
    await expect(scene.reconcile('hello')).rejects.toMatchObject({ code: 'Unreachable' });
    expect(scene.assignments.usage('default').memoryMiB).toBe(600);
    scene.isAway = false;
    scene.grant = { kind: 'unbound' };
    await scene.reconcile('hello');
    expect(scene.assignments.usage('default').memoryMiB).not.toBe(600);
    scene.sync();
    scene.grant = { kind: 'granted', granted: { memoryMiB: 600, milliCPU: 20 } };
    scene.fault = { error: ApiError.fromAnswer('patch', 422, ''), applied: false };
    await expect(scene.reconcile('hello')).rejects.toMatchObject({ code: 'Invalid' });
    expect(scene.assignments.usage('default').memoryMiB).not.toBe(600);
    await scene.reconcile('hello');
    expect(scene.assignments.usage('default').memoryMiB).toBe(600);
    expect(scene.assignment('hello')).toMatchObject({ epoch: 1, granted: { memoryMiB: 600 } });
  });

  it('waits for room in a quota on its node where it has one, and tells that by an Event', async () => {
    const scene = new Scene(nodeFixture());
    scene.put(workerFixture());
    scene.grant = { kind: 'granted', granted: { memoryMiB: 192, milliCPU: 10 } };
    await scene.reconcile('hello');
    scene.sync();
    scene.grant = { kind: 'refused', message: 'LambdaQuota team would be exceeded' };
    await scene.reconcile('hello');
    scene.sync();
    expect(scene.assignment('hello')).toMatchObject({ epoch: 1, granted: { memoryMiB: 192 } });
    expect(scene.events).toEqual(['Assigned', 'FailedScheduling']);
    expect(scene.reconciler.waiting()).toEqual(['default/hello']);
    expect(scene.reconciler.homeless()).toEqual([]);
  });

  it('remembers with each write what the image is not made for, until the image is another', async () => {
    const processor = (name: string, architecture: string) =>
      nodeFixture({ name, status: { versions: { architecture } } });
    const scene = new Scene(processor('node-1', 'arm64'), processor('node-2', 'amd64'));
    scene.put(workerFixture({ spec: { nodeSelector: {} } }));
    await scene.reconcile('hello');
    scene.sync();
    const wrong = {
      type: 'Ready',
      status: 'False',
      reason: 'ImageWrongPlatform',
      message: '',
      observedGeneration: 1,
      lastTransitionTime: '2026-11-01T00:00:00Z',
    } as const;
    const tell = async (node: string) => {
      const worker = scene.stored.get('hello') ?? workerFixture();
      expect(worker.status?.assignment?.nodeName).toBe(node);
      scene.put({ ...worker, status: { ...worker.status, conditions: [wrong] } });
      await scene.reconcile('hello');
      scene.sync();
    };
    await tell('node-1');
    expect(scene.stored.get('hello')?.status?.unfitArchitectures?.architectures).toEqual(['arm64']);
    // The other processor is none either: it stays there, and the write that says so forgets nothing.
    await tell('node-2');
    expect(scene.assignment('hello')).toMatchObject({ nodeName: 'node-2' });
    expect(scene.stored.get('hello')?.status?.unfitArchitectures?.architectures).toEqual(['arm64']);
  });

  it('looks at the nodes once for all waiting workers that ask for the like, until nodes have changed', async () => {
    const scene = new Scene(nodeFixture());
    const names = Array.from({ length: 50 }, (_, at) => `worker-${at}`);
    const tooLarge = { limits: { memory: '9Gi' }, pids: 256 };
    const look = async (): Promise<number> => {
      const candidates = vi.spyOn(scene.snapshot, 'candidates');
      for (const name of names) {
        await scene.reconcile(name);
      }
      return candidates.mock.calls.length;
    };
    for (const name of names) {
      scene.put(workerFixture({ name, spec: { resources: tooLarge } }));
    }
    expect(await look()).toBe(1);
    expect(scene.reconciler.waiting()).toHaveLength(50);
    scene.sync();
    scene.reconciler.forgetRefusals();
    expect(await look()).toBe(2);
    scene.put(workerFixture({ name: 'smaller', spec: { resources: { limits: { memory: '128Mi' }, pids: 256 } } }));
    await scene.reconcile('smaller');
    expect(scene.assignment('smaller')).toMatchObject({ nodeName: 'node-1' });
  });

  it('remembers what no node has room for of the last 1,024 wishes alone', async () => {
    const scene = new Scene(nodeFixture());
    const candidates = vi.spyOn(scene.snapshot, 'candidates');
    const looksAt = async (at: number): Promise<number> => {
      candidates.mockClear();
      const resources = { limits: { memory: `${at}Gi` }, pids: 256 };
      scene.put(workerFixture({ name: `worker-${at}`, spec: { resources } }));
      await scene.reconcile(`worker-${at}`);
      return candidates.mock.calls.length;
    };
    for (let at = 9; at < 9 + 1_025; at += 1) {
      expect(await looksAt(at)).toBe(1);
    }
    expect(await looksAt(9 + 1_024)).toBe(0);
    expect(await looksAt(9)).toBe(1);
  });

  it('decides anew after a conflict', async () => {
    const scene = new Scene(nodeFixture());
    const worker = workerFixture();
    scene.put(worker);
    scene.putUnseen({ ...worker, spec: { ...worker.spec, nodeName: 'node-9' } });
    expect(await scene.reconcile('hello')).toEqual({ requeueAfterMs: 500 });
    expect(scene.writes).toEqual([]);
    scene.sync();
    await scene.reconcile('hello');
    expect(scene.assignment('hello')).toBeUndefined();
    expect(scene.events).toEqual(['FailedScheduling']);
  });

  it.each([false, true])('settles a write whose answer was lost (carried out: %s) by another look', async (applied) => {
    const scene = new Scene(nodeFixture(), nodeFixture({ name: 'node-2' }));
    scene.put(workerFixture());
    scene.fault = { error: ApiError.unreachable('patch', new Error('reset')), applied };
    await expect(scene.reconcile('hello')).rejects.toMatchObject({ code: 'Unreachable' });
    expect(scene.assignments.load('node-1').assigned).toBe(1);
    // The cache does not show yet what was written, if anything was.
    await scene.reconcile('hello');
    expect(scene.assignments.load('node-1').assigned).toBe(1);
    expect(scene.writes.filter(({ subresource }) => subresource === 'status')).toHaveLength(1);
    scene.sync();
    await scene.reconcile('hello');
    expect(scene.assignment('hello')).toEqual({ nodeName: 'node-1', epoch: 1 });
    scene.sync();
    expect(scene.assignments.load('node-1').assigned).toBe(1);
    expect(scene.assignments.load('node-2').assigned).toBe(0);
  });

  it('asks the API server before it takes a node for gone', async () => {
    const scene = new Scene(nodeFixture({ name: 'node-2' }));
    const assigned = {
      metadata: { finalizers: ['other', 'esb.dev/worker'] },
      status: { assignment: { nodeName: 'node-1', epoch: 1 } },
    };
    scene.put(workerFixture({ ...assigned, name: 'kept' }));
    scene.put(
      workerFixture({
        ...assigned,
        name: 'leaving',
        metadata: { ...assigned.metadata, deletionTimestamp: '2026-11-01T00:00:00Z' },
      }),
    );
    // The cache has lost it; the API server has it.
    scene.storedNodes.set('node-1', nodeFixture());
    await scene.reconcile('kept');
    await scene.reconcile('leaving');
    expect(scene.writes).toEqual([]);
    expect(scene.assignments.assumed('uid-of-kept')).toBeUndefined();

    scene.storedNodes.delete('node-1');
    await scene.reconcile('kept');
    await scene.reconcile('leaving');
    expect(scene.assignment('kept')).toEqual({ nodeName: 'node-2', epoch: 2 });
    expect(scene.stored.get('leaving')?.metadata.finalizers).toEqual(['other']);
    expect(scene.events).toEqual(['Reassigned', 'CleanupSkipped']);
  });

  it.each([
    { what: 'that was changed in its deletion is told to have lost the change', later: 3, events: ['ChangeLost'] },
    { what: 'that was not changed in its deletion is told nothing', later: 2, events: [] },
  ])('a worker $what', async ({ events, later }) => {
    const scene = new Scene(nodeFixture());
    const metadata = { finalizers: ['esb.dev/worker'], deletionTimestamp: '2026-11-01T00:00:00Z' };
    const status = { assignment: { nodeName: 'node-1', epoch: 1 } };
    scene.put(workerFixture({ metadata: { ...metadata, generation: 2 }, status }));
    const cleanedUp = {
      type: 'CleanedUp',
      status: 'True',
      reason: 'CleanedUp',
      message: '',
      lastTransitionTime: '',
    } as const;
    scene.put(
      workerFixture({ metadata: { ...metadata, generation: later }, status: { ...status, conditions: [cleanedUp] } }),
    );
    await scene.reconcile('hello');
    expect(scene.stored.get('hello')?.metadata.finalizers).toEqual([]);
    expect(scene.events).toEqual(events);
  });

  it('looks at none that wait where a node that was taken for gone is there, and nothing was assumed', async () => {
    const scene = new Scene();
    const status = { assignment: { nodeName: 'node-1', epoch: 1 } };
    scene.put(workerFixture({ metadata: { finalizers: ['esb.dev/worker'] }, status }));
    scene.storedNodes.set('node-1', nodeFixture());
    await scene.reconcile('hello');
    expect(scene.writes).toEqual([]);
    // The worker is one of them: each look would bring the next.
    expect(scene.reconciler.waiting()).toEqual(['default/hello']);
    expect(scene.rooms).toBe(0);
  });

  it('keeps no room for a worker that goes while something is written to it', async () => {
    const scene = new Scene(nodeFixture());
    scene.put(workerFixture());
    await scene.reconcile('hello');
    scene.sync();
    scene.grant = { kind: 'granted', granted: { memoryMiB: 600, milliCPU: 20 } };
    scene.meanwhile = () => scene.drop('hello');
    await scene.reconcile('hello');
    expect(scene.assignments.usage('default').workers).toBe(0);
    expect(scene.assignments.load('node-1').assigned).toBe(0);
  });

  it('keeps no doubt about a worker that goes while the answer to its write is lost', async () => {
    const scene = new Scene(nodeFixture());
    scene.put(workerFixture());
    await scene.reconcile('hello');
    scene.sync();
    scene.grant = { kind: 'granted', granted: { memoryMiB: 600, milliCPU: 20 } };
    scene.meanwhile = () => {
      scene.drop('hello');
      scene.reconciler.forget('default/hello', 'uid-of-hello');
      throw ApiError.unreachable('patch', new Error('reset'));
    };
    await expect(scene.reconcile('hello')).rejects.toMatchObject({ code: 'Unreachable' });
    // The uid stands for what is still known of the worker: a doubt would ask the API server.
    scene.put(workerFixture());
    await scene.reconcile('hello');
    scene.isAway = true;
    expect(await scene.reconcile('hello')).toEqual({});
  });

  it('moves a worker away from full nodes only now and then', async () => {
    const scene = new Scene(nodeFixture(), nodeFixture({ name: 'node-2' }));
    const full = {
      type: 'Ready',
      status: 'False',
      reason: 'NodeFull',
      message: '',
      lastTransitionTime: '2026-11-01T00:00:00Z',
    } as const;
    const on = (nodeName: string, epoch: number) =>
      workerFixture({
        metadata: { finalizers: ['esb.dev/worker'] },
        spec: { desiredState: 'Absent' },
        status: { assignment: { nodeName, epoch }, phase: 'Absent', conditions: [full] },
      });
    scene.put(on('node-1', 1));
    await scene.reconcile('hello');
    expect(scene.assignment('hello')).toEqual({ nodeName: 'node-2', epoch: 2 });
    // Its new node says the same.
    scene.put(on('node-2', 2));
    expect(await scene.reconcile('hello')).toEqual({ requeueAfterMs: 15_000 });
    expect(scene.assignment('hello')?.epoch).toBe(2);
    await scene.clock.advance(15_000);
    await scene.reconcile('hello');
    expect(scene.assignment('hello')).toEqual({ nodeName: 'node-1', epoch: 3 });
  });

  it('tells a worker of the loss of its node once, though the agent goes on writing', async () => {
    const scene = new Scene(nodeFixture());
    const running = workerFixture({
      metadata: { finalizers: ['esb.dev/worker'] },
      status: { assignment: { nodeName: 'node-1', epoch: 1 }, phase: 'Running' },
    });
    scene.put(running);
    const read = (at: number, stamp: string) =>
      scene.liveness.observe({ at, nodes: [readNodeFixture('node-1')], stamps: new Map([['node-1', stamp]]) });
    for (let at = 0; at <= 50_000; at += 5000) {
      read(at, 'one');
    }
    await scene.reconcile('hello');
    expect(scene.stored.get('hello')?.status).toMatchObject({ phase: 'Unknown', assignment: { epoch: 1 } });
    const { length } = scene.writes;
    scene.put({
      ...(scene.stored.get('hello') ?? running),
      status: { ...scene.stored.get('hello')?.status, phase: 'Running' },
    });
    await scene.reconcile('hello');
    expect(scene.writes).toHaveLength(length);
    expect(scene.events).toEqual(['NodeLost']);
  });

  it('takes a worker away from a retired node that is the only one, and brings it back with a higher epoch', async () => {
    const scene = new Scene(nodeFixture());
    scene.put(
      workerFixture({
        metadata: { finalizers: ['esb.dev/worker'] },
        status: {
          assignment: { nodeName: 'node-1', epoch: 4 },
          phase: 'Running',
          containerID: 'hello-1',
          address: { ip: '10.234.0.7', port: 8080 },
        },
      }),
    );
    scene.showNode(nodeFixture({ retired: true, metadata: { resourceVersion: '2' } }));
    await scene.reconcile('hello');
    expect(scene.events).toEqual(['Unassigned']);
    expect(scene.writes.map(({ body }) => body.status)).toMatchObject([
      { lastEpoch: 4, phase: 'Pending' },
      { containerID: null, address: null, startedAt: null, pausedAt: null },
    ]);
    expect(scene.writes[0]?.body.status).not.toMatchObject({ assignment: expect.anything() });
    // As the API server has it then.
    const { assignment: _assignment, ...left } = scene.stored.get('hello')?.status ?? {};
    scene.put({ ...(scene.stored.get('hello') as LambdaWorker), status: left });
    expect(scene.assignments.load('node-1').assigned).toBe(0);
    // The finalizer goes, and then there is nothing more to write.
    for (let round = 0; round < 3; round++) {
      await scene.reconcile('hello');
      scene.sync();
    }
    expect(scene.writes).toHaveLength(3);
    expect(scene.stored.get('hello')?.metadata.finalizers).toEqual([]);
    expect(scene.reconciler.waiting()).toEqual(['default/hello']);

    scene.showNode(nodeFixture({ name: 'node-2' }));
    await scene.reconcile('hello');
    expect(scene.assignment('hello')).toEqual({ nodeName: 'node-2', epoch: 5 });
    expect(scene.stored.get('hello')?.metadata.finalizers).toEqual(['esb.dev/worker']);
  });

  it('moves the workers of a node that is being drained, as far as the others have room', async () => {
    const scene = new Scene(
      nodeFixture(),
      nodeFixture({ name: 'node-2', status: { capacity: { memoryMiB: 192, milliCPU: 100_000, workers: 10 } } }),
    );
    for (const name of ['one', 'two']) {
      scene.put(
        workerFixture({
          name,
          metadata: { finalizers: ['esb.dev/worker'] },
          status: { assignment: { nodeName: 'node-1', epoch: 1 }, phase: 'Running' },
        }),
      );
    }
    scene.closures.set('node-1', 'draining');
    await scene.reconcile('one');
    await scene.reconcile('two');
    expect(scene.assignment('one')).toEqual({ nodeName: 'node-2', epoch: 2 });
    expect(scene.assignment('two')).toEqual({ nodeName: 'node-1', epoch: 1 });
    expect(scene.reconciler.waiting()).toEqual(['default/two']);
  });

  it('lets a quarter of a function leave at a time, until those are ready or a minute is over', async () => {
    const scene = new Scene(nodeFixture(), nodeFixture({ name: 'node-2' }));
    const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
    const ready = {
      type: 'Ready',
      status: 'True',
      reason: 'Running',
      message: '',
      lastTransitionTime: '2026-11-01T00:00:00Z',
    } as const;
    const tell = (name: string, nodeName: string, epoch: number): void =>
      scene.put(
        workerFixture({
          name,
          metadata: { finalizers: ['esb.dev/worker'] },
          spec: { functionName: 'one', resources: { limits: { memory: '64Mi' }, pids: 64 } },
          status: { assignment: { nodeName, epoch }, phase: 'Running', conditions: [ready] },
        }),
      );
    const moved = () => names.filter((name) => scene.assignment(name)?.nodeName === 'node-2');
    const round = async () => Promise.all(names.map((name) => scene.reconcile(name)));
    for (const name of names) {
      tell(name, 'node-1', 1);
    }
    scene.closures.set('node-1', 'draining');
    const results = await round();
    expect(moved()).toEqual(['a', 'b']);
    expect(results.slice(2)).toEqual(Array(6).fill({ requeueAfterMs: 1000 }));
    // Nothing of them has come back; then it has, and they are not ready.
    await scene.clock.advance(1000);
    await round();
    scene.sync();
    await scene.clock.advance(1000);
    await round();
    expect(moved()).toEqual(['a', 'b']);
    tell('a', 'node-2', 2);
    await scene.clock.advance(1000);
    await round();
    expect(moved()).toEqual(['a', 'b', 'c']);
    scene.sync();
    // The rest does not wait for ever.
    await scene.clock.advance(60_000);
    await round();
    expect(moved()).toEqual(names);
  });

  it('looks again when the time is over for which a worker tolerates a taint', async () => {
    const scene = new Scene(nodeFixture(), nodeFixture({ name: 'node-2' }));
    const node = {
      metadata: { name: 'node-1' },
      spec: { taints: [{ key: 'maintenance', effect: 'NoExecute' }] },
    };
    scene.coreNodes.set(node);
    scene.snapshot.noteTaints('node-1', node);
    scene.put(
      workerFixture({
        metadata: { finalizers: ['esb.dev/worker'] },
        spec: {
          tolerations: [{ key: 'maintenance', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 60 }],
        },
        status: { assignment: { nodeName: 'node-1', epoch: 1 }, phase: 'Running' },
      }),
    );
    // The first look says that it is assigned, since that was not said yet.
    await scene.reconcile('hello');
    scene.sync();
    expect(await scene.reconcile('hello')).toEqual({ requeueAfterMs: 60_000 });
    await scene.clock.advance(60_000);
    await scene.reconcile('hello');
    expect(scene.assignment('hello')).toEqual({ nodeName: 'node-2', epoch: 2 });
  });

  describe('lets a worker that is deleted', () => {
    const telling = (uids: readonly string[], version: number) =>
      nodeFixture({
        retired: true,
        status: { leaving: uids },
        metadata: { resourceVersion: String(version) },
      });
    /** The worker was taken away from a retired node a moment ago. */
    const taken = async (node: LambdaNode) => {
      const scene = new Scene(node);
      // The controller has been leading for a while.
      await scene.clock.advance(60_000);
      scene.put(
        workerFixture({
          metadata: { finalizers: ['esb.dev/worker'] },
          status: { assignment: { nodeName: 'node-1', epoch: 1 }, phase: 'Running' },
        }),
      );
      await scene.reconcile('hello');
      scene.sync();
      expect(scene.assignment('hello')).toBeUndefined();
      return scene;
    };
    /** @param aheadMs how far the clock of the API server is before that of the controller */
    const remove = (scene: Scene, aheadMs = 0) => {
      const worker = scene.stored.get('hello') as LambdaWorker;
      const deletionTimestamp = new Date(scene.clock.now() + aheadMs).toISOString();
      scene.put({ ...worker, metadata: { ...worker.metadata, deletionTimestamp } });
    };
    const isLetGo = async (scene: Scene) => {
      await scene.reconcile('hello');
      scene.sync();
      return scene.stored.get('hello')?.metadata.finalizers?.length === 0;
    };

    it('go once the node that it was taken away from has nothing of it', async () => {
      const scene = await taken(telling([], 1));
      remove(scene);
      expect(await scene.reconcile('hello')).toEqual({ requeueAfterMs: 30_000 });
      expect(scene.reconciler.awaiting()).toEqual(['default/hello']);
      await scene.clock.advance(10_000);
      scene.showNode(telling(['uid-of-hello'], 2));
      await scene.clock.advance(60_000);
      expect(await isLetGo(scene)).toBe(false);
      scene.showNode(telling([], 3));
      expect(await isLetGo(scene)).toBe(true);
      expect(scene.reconciler.awaiting()).toEqual([]);
    });

    it('go at once where the node has spoken before it was deleted', async () => {
      const scene = await taken(telling([], 1));
      scene.showNode(telling(['uid-of-hello'], 2));
      scene.showNode(telling([], 3));
      remove(scene);
      expect(await isLetGo(scene)).toBe(true);
    });

    it('go when the node has said nothing for thirty seconds', async () => {
      const scene = await taken(telling([], 1));
      remove(scene);
      await scene.clock.advance(29_000);
      expect(await isLetGo(scene)).toBe(false);
      await scene.clock.advance(1_000);
      expect(await isLetGo(scene)).toBe(true);
    });

    it.each([
      ['late', 86_400_000],
      ['early', -86_400_000],
    ])('go after its time although a node lists it, however %s the clock of the controller is', async (_, aheadMs) => {
      const scene = await taken(telling(['uid-of-hello'], 1));
      const { timeoutSeconds, terminationGracePeriodSeconds } = scene.stored.get('hello')?.spec ?? {};
      const boundMs = ((timeoutSeconds ?? 0) + (terminationGracePeriodSeconds ?? 0)) * 1_000 + 300_000;
      remove(scene, aheadMs);
      expect(await isLetGo(scene)).toBe(false);
      await scene.clock.advance(boundMs - 1_000);
      expect(await isLetGo(scene)).toBe(false);
      await scene.clock.advance(1_000);
      expect(await isLetGo(scene)).toBe(true);
    });

    it('wait for nodes that a controller before may have taken it away from', async () => {
      const scene = new Scene(telling([], 1));
      scene.put(workerFixture({ metadata: { finalizers: ['esb.dev/worker'] }, status: { lastEpoch: 2 } }));
      remove(scene);
      expect(await scene.reconcile('hello')).toEqual({ requeueAfterMs: 30_000 });
      scene.put(workerFixture({ name: 'new', metadata: { finalizers: ['esb.dev/worker'] } }));
      await scene.clock.advance(30_000);
      expect(await isLetGo(scene)).toBe(true);
    });
  });

  it('has nothing to do for a worker that is gone', async () => {
    const scene = new Scene(nodeFixture());
    expect(await scene.reconcile('nobody')).toEqual({});
    const worker = workerFixture();
    scene.put(worker);
    scene.stored.delete('hello');
    expect(await scene.reconcile('hello')).toEqual({});
  });
});
