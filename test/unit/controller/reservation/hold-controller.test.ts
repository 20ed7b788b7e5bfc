import { describe, expect, it } from 'vitest';
import type { LambdaNode } from '../../../../src/api/lambda-node.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { HoldController } from '../../../../src/controller/reservation/hold-controller.ts';
import { holdPod } from '../../../../src/controller/reservation/hold-pod.ts';
import { AssignmentCache } from '../../../../src/controller/scheduling/assignment-cache.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import type { Pod } from '../../../../src/kube/api/resource-types.ts';
import type { KubeClient, ObjectKey, PatchBody, ResourceType } from '../../../../src/kube/api/types.ts';
import { createObjectCache } from '../../../../src/kube/cache/object-cache.ts';
import { fakeInformer } from '../../../support/fake-informer.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { type NodeFixture, nodeFixture, workerFixture } from '../../../support/worker-fixture.ts';

const settings = { image: 'esb:1', pullPolicy: 'IfNotPresent' };
const refused = {
  conditions: [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: '1 Insufficient memory' }],
};

/** One node, the writes to its hold Pod, and what the cache shows of it. */
class Scene {
  readonly lambdaNodes = createObjectCache<LambdaNode>();
  readonly pods = createObjectCache<Pod>();
  readonly assignments = new AssignmentCache();
  readonly clock = manualClock();
  readonly writes: string[] = [];
  readonly events: string[] = [];
  readonly closings: string[] = [];
  presence = { exists: true, lost: false, retired: false, cordoned: false };
  /** Thrown by the next write. */
  fault: Error | undefined;
  readonly reconciler: HoldController;
  #version = 1;

  constructor() {
    this.lambdaNodes.set(nodeFixture());
    const write = (what: string): Promise<object> => {
      const { fault } = this;
      this.fault = undefined;
      if (fault !== undefined) {
        return Promise.reject(fault);
      }
      this.writes.push(what);
      return Promise.resolve({});
    };
    this.reconciler = new HoldController({
      client: {
        create: (_type: ResourceType<Pod>, pod: Pod) => write(`create ${pod.metadata.name}`),
        patch: (_type: ResourceType<Pod>, { name }: ObjectKey, patch: PatchBody) =>
          write(`patch ${name} ${(patch.body as { path: string }[]).at(-1)?.path}`),
        delete: (_type: ResourceType<Pod>, { name }: ObjectKey) => write(`delete ${name}`),
      } as unknown as KubeClient,
      systemNamespace: 'esb-system',
      settings,
      pods: { ...fakeInformer<Pod>(), cache: this.pods },
      lambdaNodes: this.lambdaNodes,
      snapshot: { presence: () => this.presence },
      assignments: this.assignments,
      events: { record: ({ reason }) => this.events.push(reason) },
      clock: this.clock,
      logger: silentLogger(),
      metrics: {},
      onClosure: (node) => this.closings.push(`${node} ${this.reconciler.closureOf(node) ?? 'open'}`),
    });
  }

  /** The node has that many workers, by the controller and by its agent. */
  workers(count: number): void {
    for (const name of ['one', 'two']) {
      this.assignments.forget(`uid-of-${name}`);
    }
    for (const name of ['one', 'two'].slice(0, count)) {
      this.assignments.observe(
        workerFixture({ name, status: { assignment: { nodeName: 'node-1', epoch: 1 }, phase: 'Running' } }),
      );
    }
    this.#version++;
    this.lambdaNodes.set(
      nodeFixture({
        metadata: { resourceVersion: String(this.#version) },
        status: { allocated: { memoryMiB: 128 * count, workers: count } },
      }),
    );
  }

  /** The cache shows the Pod like this. */
  show(status: NonNullable<Pod['status']>, metadata: Partial<Pod['metadata']> = {}, image = 'esb:1'): void {
    this.#version++;
    const made = holdPod(settings, nodeFixture(), 'esb-system');
    this.pods.set({
      ...made,
      metadata: { ...made.metadata, uid: 'pod-1', resourceVersion: String(this.#version), ...metadata },
      spec: { ...made.spec, containers: made.spec?.containers?.map((each) => ({ ...each, image })) ?? [] },
      status,
    });
  }

  vanish(): void {
    this.pods.replace([]);
  }

  look() {
    return this.reconciler.reconcile('node-1', {});
  }
}

const held = { conditions: [{ type: 'PodScheduled', status: 'True' }] };

describe('HoldController', () => {
  it('makes one Pod for a node with workers, and removes it with the last', async () => {
    const scene = new Scene();
    await scene.look();
    expect(scene.writes).toEqual([]);
    scene.workers(1);
    await scene.look();
    expect(scene.writes).toEqual(['create esb-hold-node-1']);
    scene.show(held);
    for (let round = 0; round < 3; round++) {
      expect(await scene.look()).toEqual({});
    }
    scene.workers(2);
    await scene.look();
    expect(scene.writes).toHaveLength(1);
    scene.workers(0);
    await scene.look();
    // The finalizer first, so that the deletion is not taken for a drain.
    expect(scene.writes.slice(1)).toEqual(['patch esb-hold-node-1 /metadata/finalizers/0', 'delete esb-hold-node-1']);
  });

  it('waits for the cache when that is behind', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.fault = ApiError.fromAnswer('create', 409, '{"reason":"AlreadyExists"}');
    expect(await scene.look()).toEqual({ requeueAfterMs: 1000 });
    scene.fault = ApiError.unreachable('create', new Error('reset'));
    await expect(scene.look()).rejects.toMatchObject({ code: 'Unreachable' });
    await scene.look();
    expect(scene.writes).toEqual(['create esb-hold-node-1']);
  });

  it('drains a node whose Pod is evicted, and lets the Pod go when the node is empty', async () => {
    const scene = new Scene();
    scene.presence = { ...scene.presence, cordoned: true };
    scene.workers(2);
    scene.show(held);
    await scene.look();
    scene.show(held, { deletionTimestamp: 'now' });
    await scene.look();
    expect(scene.closings).toEqual(['node-1 draining']);
    scene.workers(1);
    await scene.clock.advance(600_000);
    await scene.look();
    expect(scene.writes).toEqual([]);
    scene.workers(0);
    await scene.look();
    expect(scene.writes).toEqual(['patch esb-hold-node-1 /metadata/finalizers/0']);
    expect(scene.closings).toEqual(['node-1 draining', 'node-1 open']);
    expect(scene.events).toEqual(['Draining', 'Drained']);
    scene.vanish();
    expect(await scene.look()).toEqual({});
  });

  it('calls a drain off that was none, and makes the Pod anew', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.show(held, { deletionTimestamp: 'now' });
    expect(await scene.look()).toEqual({ requeueAfterMs: 60_000 });
    await scene.clock.advance(60_000);
    await scene.look();
    expect(scene.writes).toEqual(['patch esb-hold-node-1 /metadata/finalizers/0']);
    expect(scene.events).toEqual(['Draining', 'DrainCalledOff']);
    expect(scene.closings.at(-1)).toBe('node-1 open');
    scene.show(held, { deletionTimestamp: 'now', finalizers: [] });
    await scene.look();
    scene.vanish();
    await scene.look();
    expect(scene.writes.at(-1)).toBe('create esb-hold-node-1');
  });

  it('calls a drain off at once when the node is uncordoned', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.show(held);
    await scene.look();
    scene.show(held, { deletionTimestamp: 'now' });
    scene.presence = { ...scene.presence, cordoned: true };
    expect(await scene.look()).toEqual({});
    scene.presence = { ...scene.presence, cordoned: false };
    await scene.look();
    expect(scene.writes).toEqual(['patch esb-hold-node-1 /metadata/finalizers/0']);
    expect(scene.events).toEqual(['Draining', 'DrainCalledOff']);
  });

  it('closes a node whose Pod finds no room, over its being made anew, until it is held', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.show(refused);
    expect(await scene.look()).toEqual({ requeueAfterMs: 30_000 });
    await scene.clock.advance(30_000);
    expect(await scene.look()).toEqual({});
    expect(scene.closings).toEqual(['node-1 unheld']);
    expect(scene.events).toEqual(['HoldRefused']);
    scene.vanish();
    await scene.look();
    scene.show({}, { uid: 'pod-2' });
    await scene.look();
    expect(scene.closings).toHaveLength(1);
    scene.show(held, { uid: 'pod-2' });
    await scene.look();
    expect(scene.closings).toEqual(['node-1 unheld', 'node-1 open']);
  });

  it('closes a node whose Pod finds no room, though a webhook has rewritten the image of the Pod', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.show(refused, {}, 'mirror.example/esb@sha256:abc');
    expect(await scene.look()).toEqual({ requeueAfterMs: 30_000 });
    await scene.clock.advance(30_000);
    await scene.look();
    expect(scene.closings).toEqual(['node-1 unheld']);
    expect(scene.writes).toEqual([]);
  });

  it('notes once what image it asked for in a Pod that was made without such a note', async () => {
    const scene = new Scene();
    scene.workers(1);
    const rewritten = 'mirror.example/esb@sha256:abc';
    scene.show(refused, { annotations: { mine: 'kept' } }, rewritten);
    expect(await scene.look()).toEqual({ requeueAfterMs: 30_000 });
    expect(scene.writes).toEqual(['patch esb-hold-node-1 /spec/containers/0/image']);
    scene.show(refused, { annotations: { mine: 'kept', 'esb.dev/image': 'esb:1' } }, rewritten);
    await scene.clock.advance(30_000);
    await scene.look();
    expect(scene.writes).toHaveLength(1);
    expect(scene.closings).toEqual(['node-1 unheld']);
  });

  it('opens a node again that has no workers any more', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.show(refused);
    await scene.look();
    await scene.clock.advance(30_000);
    await scene.look();
    scene.vanish();
    scene.workers(0);
    await scene.look();
    expect(scene.closings).toEqual(['node-1 unheld', 'node-1 open']);
  });

  describe('that begins to lead', () => {
    /** The leader before has found the node unheld, or draining. */
    const earlier = (scene: Scene, type: 'Unheld' | 'Draining'): void => {
      const condition = { type, status: 'True', lastTransitionTime: '2026-11-01T00:00:00Z', reason: type, message: '' };
      scene.lambdaNodes.set(
        nodeFixture({ metadata: { resourceVersion: '99' }, status: { conditions: [condition] } } as NodeFixture),
      );
    };

    it('keeps a node closed that was unheld, before the first look and until its Pod is held', async () => {
      const scene = new Scene();
      scene.workers(1);
      earlier(scene, 'Unheld');
      expect(scene.reconciler.closureOf('node-1')).toBe('unheld');
      scene.show(refused);
      expect(await scene.look()).toEqual({});
      expect(scene.reconciler.closureOf('node-1')).toBe('unheld');
      expect(scene.events).toEqual([]);
      scene.show(held);
      await scene.look();
      expect(scene.closings).toEqual(['node-1 open']);
      expect(scene.reconciler.closureOf('node-1')).toBeUndefined();
    });

    it('keeps a node closed that was draining, until it has seen what became of its Pod', async () => {
      const scene = new Scene();
      scene.workers(1);
      earlier(scene, 'Draining');
      expect(scene.reconciler.closureOf('node-1')).toBe('draining');
      scene.show(held, { deletionTimestamp: 'now' });
      await scene.look();
      expect(scene.reconciler.closureOf('node-1')).toBe('draining');
    });

    it('opens a node that has no workers any more, and tells so', async () => {
      const scene = new Scene();
      earlier(scene, 'Unheld');
      await scene.look();
      expect(scene.closings).toEqual(['node-1 open']);
    });
  });

  it('lets go what is left of a node that is gone', async () => {
    const scene = new Scene();
    scene.presence = { ...scene.presence, exists: false };
    scene.lambdaNodes.replace([]);
    scene.show(held, { deletionTimestamp: 'now' });
    await scene.look();
    expect(scene.writes).toEqual(['patch esb-hold-node-1 /metadata/finalizers/0']);
    expect(scene.events).toEqual([]);
  });
});
