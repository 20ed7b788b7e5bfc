import { describe, expect, it } from 'vitest';
import { type LambdaNode, type LambdaNodeStatus, lambdaNodes } from '../../../../src/api/lambda-node.ts';
import type { LambdaWorker } from '../../../../src/api/lambda-worker.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { HOLD_INDEX, HoldController, holdIndex } from '../../../../src/controller/reservation/hold-controller.ts';
import { guardPod, OWN_MIB, reservePod } from '../../../../src/controller/reservation/hold-pod.ts';
import { type ReserveView, reserveView } from '../../../../src/controller/reservation/hold-view.ts';
import { podTolerations } from '../../../../src/controller/reservation/tolerations.ts';
import { AssignmentCache } from '../../../../src/controller/scheduling/assignment-cache.ts';
import type { NodePresence } from '../../../../src/controller/scheduling/node-snapshot.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import { objectKey } from '../../../../src/kube/api/object-key.ts';
import { type Pod, pods } from '../../../../src/kube/api/resource-types.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { type ClusterRequest, TestCluster } from '../../../support/test-cluster.ts';
import { nodeFixture, workerFixture } from '../../../support/worker-fixture.ts';

const settings = { image: 'esb:1', pullPolicy: 'IfNotPresent' };
const held = { phase: 'Running', startTime: '2026-11-01T00:00:00Z' };
/** Of a Pod whose kubelet resizes it. */
const allocated = (memoryMiB: number) => ({
  ...held,
  containerStatuses: [
    {
      name: 'hold',
      image: 'esb:1',
      imageID: '',
      ready: true,
      restartCount: 0,
      state: { running: {} },
      allocatedResources: { memory: `${memoryMiB + OWN_MIB}Mi` },
    },
  ],
});
const refused = { phase: 'Failed', reason: 'OutOfmemory', message: 'not enough memory' };
const made = {
  guard: guardPod(settings, nodeFixture(), 'esb-system', 120, podTolerations([])),
  reserve: reservePod(settings, nodeFixture(), 'esb-system', { memoryMiB: 1_536 }, podTolerations([])),
};
type Role = keyof typeof made;

/** A write to a Pod in a few words. */
function wordOf({ verb, name, body, options }: ClusterRequest): string {
  if (verb !== 'patch') {
    const grace = verb === 'create' ? (body as Pod).spec?.terminationGracePeriodSeconds : options?.gracePeriodSeconds;
    return `${verb} ${name} ${grace}`;
  }
  const { path, value } = (body as { path: string; value?: unknown }[]).at(-1) ?? {};
  return `patch ${name} ${path}${path?.endsWith('/memory') === true ? ` ${String(value)}` : ''}`;
}

/** One node and its Pods, and what was written. */
class Scene {
  readonly cluster = new TestCluster();
  readonly pods = this.cluster.informer(pods, { [HOLD_INDEX]: holdIndex });
  readonly assignments = new AssignmentCache();
  readonly clock = manualClock();
  /** Of Pods. */
  readonly writes: string[] = [];
  /** MiB that the agent was told, or that its workers may have all. */
  readonly promises: (number | 'all')[] = [];
  readonly events: string[] = [];
  readonly notes: string[] = [];
  readonly closings: string[] = [];
  capacityMiB = 1_536;
  /** Thousandths of a core. */
  capacityMilliCPU = 0;
  presence: NodePresence = {
    exists: true,
    isOutside: false,
    lost: false,
    retired: false,
    cordoned: false,
    departure: undefined,
    taints: [],
  };
  readonly reconciler: HoldController;
  #workers: readonly LambdaWorker[] = [];

  constructor() {
    this.cluster.put(lambdaNodes, nodeFixture());
    this.cluster.onWritten = ({ after, request }) => {
      if (request.plural === pods.plural) {
        this.writes.push(wordOf(request));
      } else {
        this.promises.push((after as LambdaNode).status?.reserved?.memoryMiB ?? 'all');
      }
    };
    this.reconciler = new HoldController({
      client: this.cluster.client,
      settle: () => Promise.resolve(),
      systemNamespace: 'esb-system',
      settings,
      pods: this.pods,
      lambdaNodes: this.cluster.informer(lambdaNodes).cache,
      workersOf: () => this.#workers,
      snapshot: {
        presence: () => this.presence,
        capacity: () => ({
          memoryMiB: this.capacityMiB,
          workers: 10,
          milliCPU: this.capacityMilliCPU,
        }),
        isTmpOnDisk: () => false,
      },
      assignments: this.assignments,
      events: {
        record: ({ note, reason }) => {
          this.events.push(reason);
          this.notes.push(note);
        },
      },
      clock: this.clock,
      logger: silentLogger(),
      metrics: {},
      onClosure: (node) => this.closings.push(`${node} ${this.reconciler.closureOf(node) ?? 'open'}`),
    });
  }

  get node(): LambdaNode {
    return this.cluster.get(lambdaNodes, { name: 'node-1' }) ?? nodeFixture();
  }

  /** Reservations as they were asked for when they were made. */
  get asked(): readonly ReserveView[] {
    const created = this.cluster.requests.filter(({ verb }) => verb === 'create');
    return created.flatMap(({ body }) => reserveView(body as Pod) ?? []);
  }

  /** The next write to objects of that kind is refused. */
  refuse(plural: 'pods' | 'lambdanodes', error: ApiError): void {
    this.cluster.inject((request) => request.plural === plural, { kind: 'refused', error });
  }

  #tell(status: Partial<LambdaNodeStatus>): void {
    const { node } = this;
    this.cluster.put(lambdaNodes, { ...node, status: { ...node.status, ...status } as LambdaNodeStatus });
  }

  /** The agent takes in what it was told, and tells that. */
  hear(): void {
    const { reserved = { memoryMiB: 0, milliCPU: 0 } } = this.node.status ?? {};
    this.#tell({ reserved, promised: { memoryMiB: reserved.memoryMiB } });
  }

  /** The node has that many workers, by the controller and by its agent. */
  workers(count: number, timeoutSeconds = 3): void {
    for (const name of ['one', 'two']) {
      this.assignments.forget(`uid-of-${name}`);
    }
    const status = { assignment: { nodeName: 'node-1', epoch: 1 }, phase: 'Running' } as const;
    this.#workers = ['one', 'two']
      .slice(0, count)
      .map((name) => workerFixture({ name, spec: { timeoutSeconds }, status }));
    for (const worker of this.#workers) {
      this.assignments.observe(worker);
    }
    const { promised = { memoryMiB: 1_536 } } = this.node.status ?? {};
    this.#tell({ allocated: { memoryMiB: 192 * count, workers: count }, promised });
  }

  /** The agent tells of so many containers, also of workers that have another node. */
  tell(count: number): void {
    this.#tell({ allocated: { memoryMiB: 192 * count, workers: count } });
    this.hear();
  }

  /** The LambdaNode has a condition. */
  mark(type: 'Draining' | 'Retired' | 'Unheld'): void {
    const lastTransitionTime = '2026-11-01T00:00:00Z';
    this.#tell({ conditions: [{ type, status: 'True', reason: type, message: '', lastTransitionTime }] });
  }

  /** The node has one worker, which rests Absent. */
  rest(): void {
    const status = { assignment: { nodeName: 'node-1', epoch: 1 }, phase: 'Absent', observedGeneration: 1 } as const;
    this.#workers = [workerFixture({ name: 'one', spec: { desiredState: 'Absent' }, status })];
    for (const worker of this.#workers) {
      this.assignments.observe(worker);
    }
  }

  /** There is a Pod like this. */
  show(
    role: Role,
    status: NonNullable<Pod['status']>,
    metadata: Partial<Pod['metadata']> = {},
    image = 'esb:1',
    memoryMiB = 1_536,
  ): void {
    const resources = { requests: { memory: `${memoryMiB + OWN_MIB}Mi` } };
    const pod = made[role];
    this.cluster.put(pods, {
      ...pod,
      metadata: { ...pod.metadata, uid: `${role}-1`, ...metadata },
      spec: { ...pod.spec, containers: pod.spec?.containers?.map((each) => ({ ...each, image, resources })) ?? [] },
      status,
    });
  }

  /** The reservation asks for one amount, and the kubelet has allocated another. */
  showReserve(
    memoryMiB: number,
    allocatedMiB = memoryMiB,
    conditions: NonNullable<Pod['status']>['conditions'] = [],
  ): void {
    this.show('reserve', { ...allocated(allocatedMiB), conditions }, {}, 'esb:1', memoryMiB);
  }

  /** Both Pods are as they should be. */
  showBoth(): void {
    this.show('guard', held);
    this.show('reserve', held);
  }

  vanish(role: Role): void {
    this.cluster.remove(pods, objectKey(made[role]));
  }

  look() {
    return this.reconciler.reconcile('node-1', {});
  }
}

const guardIsMade = 'create esb-hold-node-1 120';
const reserveIsMade = 'create esb-reserve-node-1 5';
/** The finalizer first, so that the deletion is not taken for a drain. */
const guardIsLetGo = ['patch esb-hold-node-1 /metadata/finalizers/0', 'delete esb-hold-node-1 1'];
/** An evicted one waits for its grace no longer. */
const guardIsReleased = ['patch esb-hold-node-1 /metadata/finalizers/0', 'delete esb-hold-node-1 0'];
const reserveIsLetGo = 'delete esb-reserve-node-1 1';

describe('HoldController', () => {
  it('makes a guard and a reservation for a node with workers, and removes both with the last', async () => {
    const scene = new Scene();
    await scene.look();
    expect(scene.writes).toEqual([]);
    scene.workers(2);
    await scene.look();
    expect(scene.writes).toEqual([guardIsMade, reserveIsMade]);
    scene.show('guard', held);
    scene.showReserve(768);
    await scene.clock.advance(10_000);
    await scene.look();
    for (let round = 0; round < 3; round++) {
      expect(await scene.look()).toEqual({});
    }
    scene.workers(1);
    await scene.look();
    expect(scene.writes).toHaveLength(2);
    scene.workers(0);
    await scene.look();
    expect(scene.writes.slice(2)).toEqual([...guardIsLetGo, reserveIsLetGo]);
  });

  it('waits for the cache where another controller has made the Pod, and tries again where the API server is away', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.pods.setLagging(true);
    scene.showBoth();
    expect(await scene.look()).toEqual({ requeueAfterMs: 1000 });
    scene.vanish('guard');
    scene.pods.show();
    scene.pods.setLagging(false);
    scene.refuse('pods', ApiError.unreachable('create', new Error('reset')));
    await expect(scene.look()).rejects.toMatchObject({ code: 'Unreachable' });
    await scene.look();
    expect(scene.writes).toEqual([guardIsMade]);
  });

  it.each([
    ['Invalid', 422, 'must be less than or equal to memory limit of 512Mi'],
    ['Forbidden', 403, 'images of other registries are not allowed'],
  ])(
    'fails where the API server refuses a Pod as %s, for growing waits, and says why',
    async (reason, status, message) => {
      const scene = new Scene();
      scene.workers(1);
      const error = ApiError.fromAnswer('create', status, JSON.stringify({ reason, message }));
      const end = scene.cluster.refuse(({ name, verb }) => verb === 'create' && name === 'esb-reserve-node-1', error);
      await expect(scene.look()).rejects.toMatchObject({ code: reason });
      scene.show('guard', held);
      await scene.clock.advance(30_000);
      await expect(scene.look()).rejects.toMatchObject({ code: reason });
      expect(scene.closings).toEqual(['node-1 unheld']);
      expect(scene.reconciler.becauseOf('node-1')).toBe(`create: ${message}`);
      expect(scene.notes).toEqual([`the node gets no more workers, since its Pods are refused: create: ${message}`]);
      end();
      scene.showBoth();
      await scene.look();
      expect(scene.closings).toEqual(['node-1 unheld', 'node-1 open']);
    },
  );

  it('makes the reservation of a node whose guard is refused, and closes the node nevertheless', async () => {
    const scene = new Scene();
    scene.workers(1);
    const forbidden = ApiError.fromAnswer('create', 403, '{"reason":"Forbidden","message":"no such Pod here"}');
    scene.cluster.refuse(({ name, verb }) => verb === 'create' && name === 'esb-hold-node-1', forbidden);
    await expect(scene.look()).rejects.toBe(forbidden);
    expect(scene.writes).toEqual([reserveIsMade]);
    scene.show('reserve', held);
    await scene.clock.advance(30_000);
    await expect(scene.look()).rejects.toBe(forbidden);
    await scene.clock.advance(30_000);
    await expect(scene.look()).rejects.toBe(forbidden);
    expect(scene.closings.at(-1)).toBe('node-1 unheld');
    expect(scene.reconciler.becauseOf('node-1')).toBe('create: no such Pod here');
  });

  it('makes a Pod that the kubelet refuses each time ever more seldom, until all is held', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.show('guard', held);
    const isRemovedAfter = async (uid: string, ms: number): Promise<void> => {
      scene.writes.length = 0;
      scene.show('reserve', refused, { uid });
      await scene.look();
      await scene.clock.advance(ms - 1);
      await scene.look();
      expect(scene.writes).toEqual([]);
      await scene.clock.advance(1);
      await scene.look();
      expect(scene.writes).toEqual([reserveIsLetGo]);
      await scene.clock.advance(1_000);
    };
    for (const [at, ms] of [10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000].entries()) {
      await isRemovedAfter(`refused-${at}`, ms);
    }
    scene.show('reserve', held, { uid: 'held' });
    await scene.look();
    await isRemovedAfter('refused-again', 10_000);
  });

  it('makes the guard anew for a call that is longer than its grace', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.showBoth();
    scene.workers(2, 900);
    await scene.look();
    expect(scene.writes).toEqual(guardIsLetGo);
    await scene.look();
    expect(scene.writes.slice(2)).toEqual(['create esb-hold-node-1 960']);
    expect(scene.closings).toEqual([]);
  });

  it('drains a node whose guard is evicted, and lets the guard go when the node is empty', async () => {
    const scene = new Scene();
    scene.presence = { ...scene.presence, cordoned: true };
    scene.workers(2);
    scene.showBoth();
    await scene.look();
    scene.show('guard', held, { deletionTimestamp: 'later' });
    scene.vanish('reserve');
    await scene.look();
    expect(scene.closings).toEqual(['node-1 draining']);
    scene.workers(1);
    await scene.clock.advance(600_000);
    await scene.look();
    expect(scene.writes).toEqual([]);
    scene.workers(0);
    await scene.look();
    // The rest of its grace ends with that.
    expect(scene.writes).toEqual(guardIsReleased);
    expect(scene.closings).toEqual(['node-1 draining', 'node-1 open']);
    expect(scene.events).toEqual(['Draining', 'Drained']);
    expect(await scene.look()).toEqual({});
  });

  it('drains a node that its autoscaler is about to take, and keeps it when the autoscaler does', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.showBoth();
    scene.presence = { ...scene.presence, departure: 'ToBeDeletedByClusterAutoscaler' };
    await scene.look();
    expect(scene.closings).toEqual(['node-1 draining']);
    scene.show('guard', held, { deletionTimestamp: 'later' });
    await scene.look();
    scene.presence = { ...scene.presence, departure: undefined };
    await scene.look();
    expect(scene.writes).toEqual(guardIsReleased);
    expect(scene.closings).toEqual(['node-1 draining', 'node-1 open']);
    expect(scene.events).toEqual(['Draining', 'DrainCalledOff']);
  });

  it('calls a drain off that was none, and makes the guard anew', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.show('guard', held, { deletionTimestamp: 'later' });
    scene.show('reserve', held);
    expect(await scene.look()).toEqual({ requeueAfterMs: 60_000 });
    await scene.clock.advance(60_000);
    await scene.look();
    expect(scene.writes).toEqual(guardIsReleased);
    expect(scene.events).toEqual(['Draining', 'DrainCalledOff']);
    expect(scene.closings.at(-1)).toBe('node-1 open');
    scene.show('guard', held, { deletionTimestamp: 'now', finalizers: [] });
    await scene.look();
    scene.vanish('guard');
    await scene.look();
    expect(scene.writes.at(-1)).toBe(guardIsMade);
  });

  it('calls a drain off at once when the node is uncordoned', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.show('guard', held);
    scene.showReserve(512);
    await scene.look();
    scene.show('guard', held, { deletionTimestamp: 'later' });
    scene.presence = { ...scene.presence, cordoned: true };
    expect(await scene.look()).toEqual({});
    scene.presence = { ...scene.presence, cordoned: false };
    await scene.look();
    expect(scene.writes).toEqual(guardIsReleased);
    expect(scene.events).toEqual(['Draining', 'DrainCalledOff']);
  });

  it('makes a guard anew that a taint has evicted, tolerates the taint, and moves nobody', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.showBoth();
    scene.presence = { ...scene.presence, taints: [{ key: 'dedicated', effect: 'NoExecute' }] };
    await scene.look();
    scene.show('guard', held, { deletionTimestamp: 'later' });
    await scene.look();
    expect(scene.writes).toEqual(guardIsReleased);
    expect(scene.closings).toEqual([]);
  });

  it('closes a node whose reservation finds no room, over its being made anew, until it is held', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.show('guard', held);
    scene.show('reserve', refused);
    expect(await scene.look()).toEqual({ requeueAfterMs: 10_000 });
    await scene.clock.advance(30_000);
    await scene.look();
    expect(scene.writes).toEqual([reserveIsLetGo]);
    expect(scene.closings).toEqual(['node-1 unheld']);
    expect(scene.events).toEqual(['HoldRefused']);
    await scene.look();
    scene.show('reserve', {}, { uid: 'reserve-2' });
    await scene.look();
    expect(scene.closings).toHaveLength(1);
    scene.show('reserve', held, { uid: 'reserve-2' });
    await scene.look();
    expect(scene.closings).toEqual(['node-1 unheld', 'node-1 open']);
  });

  it('drains a node whose reservation finds no room', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.presence = { ...scene.presence, cordoned: true };
    scene.show('guard', held, { deletionTimestamp: 'later' });
    scene.show('reserve', refused);
    await scene.look();
    await scene.clock.advance(30_000);
    await scene.look();
    expect(scene.closings).toEqual(['node-1 draining']);
  });

  it('notes once what image it asked for in a Pod that was made without such a note', async () => {
    const scene = new Scene();
    scene.workers(1);
    const rewritten = 'mirror.example/esb@sha256:abc';
    scene.show('reserve', held);
    scene.show('guard', held, { annotations: { mine: 'kept' } }, rewritten);
    await scene.look();
    expect(scene.writes).toEqual(['patch esb-hold-node-1 /spec/containers/0/image']);
    scene.show('guard', held, { annotations: { mine: 'kept', 'esb.dev/image': 'esb:1' } }, rewritten);
    await scene.look();
    expect(scene.writes).toHaveLength(1);
  });

  it('opens a node again that has no workers any more', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.show('reserve', refused);
    await scene.look();
    await scene.clock.advance(30_000);
    await scene.look();
    scene.workers(0);
    await scene.look();
    expect(scene.closings).toEqual(['node-1 unheld', 'node-1 open']);
  });

  describe('that begins to lead', () => {
    it('keeps a node closed that was unheld, before the first look and until its reservation is held', async () => {
      const scene = new Scene();
      scene.workers(1);
      scene.mark('Unheld');
      expect(scene.reconciler.closureOf('node-1')).toBe('unheld');
      scene.show('guard', held);
      scene.show('reserve', refused);
      await scene.look();
      expect(scene.reconciler.closureOf('node-1')).toBe('unheld');
      expect(scene.events).toEqual([]);
      scene.show('reserve', held);
      await scene.look();
      expect(scene.closings).toEqual(['node-1 open']);
      expect(scene.reconciler.closureOf('node-1')).toBeUndefined();
    });

    it('keeps a node closed that was unheld while its reservation has a part of what it asks for', async () => {
      const scene = new Scene();
      scene.workers(2);
      scene.mark('Unheld');
      scene.show('guard', held);
      scene.showReserve(1_536, 512);
      await scene.look();
      expect(scene.reconciler.closureOf('node-1')).toBe('unheld');
      expect(scene.closings).toEqual([]);
    });

    it('keeps a node closed that was draining, until it has seen what became of its guard', async () => {
      const scene = new Scene();
      scene.workers(1);
      scene.mark('Draining');
      expect(scene.reconciler.closureOf('node-1')).toBe('draining');
      scene.show('guard', held, { deletionTimestamp: 'later' });
      await scene.look();
      expect(scene.reconciler.closureOf('node-1')).toBe('draining');
    });

    it('opens a node that has no workers any more, and tells so', async () => {
      const scene = new Scene();
      scene.mark('Unheld');
      await scene.look();
      expect(scene.closings).toEqual(['node-1 open']);
    });
  });

  it('lets go what is left of a node that is gone', async () => {
    const scene = new Scene();
    scene.presence = { ...scene.presence, exists: false };
    scene.cluster.remove(lambdaNodes, { name: 'node-1' });
    scene.show('guard', held, { deletionTimestamp: 'later' });
    scene.show('reserve', held);
    await scene.look();
    expect(scene.writes).toEqual([...guardIsReleased, reserveIsLetGo]);
    expect(scene.events).toEqual([]);
  });

  it('asks for no more than a step where workers rest, as long as the agent heeds that', async () => {
    const scene = new Scene();
    scene.hear();
    scene.rest();
    await scene.look();
    expect(scene.writes).toEqual([guardIsMade, reserveIsMade]);
    expect(scene.asked).toMatchObject([{ memoryMiB: 256 }]);
  });

  it('lets the reservation lead, and the promise follow what the kubelet has allocated', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.hear();
    scene.show('guard', held);
    scene.showReserve(512);
    await scene.look();
    expect(scene.promises).toEqual([512]);
    scene.hear();
    await scene.clock.advance(10_000);
    await scene.look();
    scene.closings.length = 0;
    expect(scene.reconciler.isGrowing('node-1')).toBe(false);
    scene.workers(2);
    // Before the node is looked at, so that no worker leaves it meanwhile.
    expect(scene.reconciler.isGrowing('node-1')).toBe(true);
    await scene.look();
    expect(scene.writes).toEqual(['patch esb-reserve-node-1 /spec/containers/0/resources/requests/memory 772Mi']);
    expect(scene.reconciler.isGrowing('node-1')).toBe(true);
    scene.showReserve(768, 512);
    await scene.look();
    expect(scene.promises).toEqual([512]);
    scene.showReserve(768);
    await scene.look();
    expect(scene.promises).toEqual([512, 768]);
    // The agent gets some time to hear of it, and to start the workers that wait.
    await scene.clock.advance(20_000);
    await scene.look();
    expect(scene.reconciler.isGrowing('node-1')).toBe(true);
    scene.hear();
    expect(await scene.look()).toEqual({ requeueAfterMs: 10_000 });
    expect(scene.reconciler.isGrowing('node-1')).toBe(true);
    expect(scene.closings).toEqual([]);
    await scene.clock.advance(10_000);
    await scene.look();
    // Those that wait on are looked at.
    expect(scene.reconciler.isGrowing('node-1')).toBe(false);
    expect(scene.closings).toEqual(['node-1 open']);
  });

  it('takes memory back after a minute, and only once the agent has taken that in', async () => {
    const scene = new Scene();
    scene.workers(2);
    scene.hear();
    scene.show('guard', held);
    scene.showReserve(768);
    await scene.look();
    scene.hear();
    await scene.clock.advance(10_000);
    await scene.look();
    scene.workers(1);
    expect(await scene.look()).toEqual({ requeueAfterMs: 60_000 });
    await scene.clock.advance(60_000);
    await scene.look();
    expect(scene.promises).toEqual([768, 512]);
    expect(scene.writes).toEqual([]);
    scene.hear();
    await scene.look();
    expect(scene.writes).toEqual(['patch esb-reserve-node-1 /spec/containers/0/resources/requests/memory 516Mi']);
  });

  it('makes steps that have ended together anew together, and then one after the other', async () => {
    const scene = new Scene();
    scene.presence = { ...scene.presence, resizesNoPod: true };
    scene.workers(1);
    scene.hear();
    scene.show('guard', held);
    const names = ['esb-reserve-node-1', 'esb-reserve.1.node-1', 'esb-reserve.2.node-1'] as const;
    for (const name of names) {
      scene.show('reserve', refused, { name, uid: name }, 'esb:1', 256);
    }
    await scene.look();
    await scene.clock.advance(10_000);
    for (let round = 0; round < 3; round += 1) {
      await scene.look();
      await scene.clock.advance(1_000);
    }
    expect(scene.writes).toEqual(names.map((name) => `delete ${name} 1`));
    const [first, second] = names;
    await scene.look();
    scene.show('reserve', {}, { name: first, uid: 'again' }, 'esb:1', 256);
    await scene.look();
    expect(scene.writes.slice(3)).toEqual([`create ${first} 5`]);
    scene.show('reserve', held, { name: first, uid: 'again' }, 'esb:1', 256);
    await scene.look();
    expect(scene.writes.slice(4)).toEqual([`create ${second} 5`]);
  });

  it('asks for CPU with the memory, and for the memory alone where the kubelet has too little CPU', async () => {
    const scene = new Scene();
    scene.capacityMilliCPU = 1_400;
    scene.workers(1);
    scene.hear();
    await scene.look();
    expect(scene.asked).toMatchObject([{ milliCPU: 200 }]);
    scene.show('guard', held);
    const message = "Node didn't have enough resource: cpu, requested: 200, used: 1900, capacity: 2000";
    scene.show('reserve', { phase: 'Failed', reason: 'OutOfcpu', message, startTime: held.startTime });
    await scene.look();
    await scene.clock.advance(10_000);
    await scene.look();
    await scene.look();
    expect(scene.asked).toMatchObject([{ milliCPU: 200 }, { milliCPU: 0 }]);
    expect(scene.closings).toEqual([]);
    scene.showReserve(512);
    expect(await scene.look()).toEqual({ requeueAfterMs: 300_000 });
    await scene.clock.advance(300_000);
    await scene.look();
    expect(scene.writes.at(-1)).toBe('patch esb-reserve-node-1 /spec/containers/0/resources/requests/memory 516Mi');
  });

  it('leaves the memory to a Pod of higher priority that the scheduler has taken it for', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.hear();
    scene.show('guard', held);
    const preempted = { type: 'DisruptionTarget', status: 'True', reason: 'PreemptionByScheduler' };
    scene.show('reserve', { ...held, conditions: [preempted] }, { deletionTimestamp: 'now' });
    await scene.look();
    scene.vanish('reserve');
    expect(await scene.look()).toEqual({ requeueAfterMs: 30_000 });
    expect(scene.writes).toEqual([]);
    await scene.clock.advance(30_000);
    await scene.look();
    expect(scene.writes).toEqual([reserveIsMade]);
  });

  it('lets an agent whose node is none of Kubernetes have all, since no kubelet allocates there', async () => {
    const scene = new Scene();
    scene.presence = { ...scene.presence, exists: false, isOutside: true };
    await scene.look();
    scene.workers(1);
    await scene.look();
    await scene.clock.advance(30_000);
    await scene.look();
    expect(scene.promises).toEqual([]);
    expect(scene.closings).toEqual([]);
    expect(scene.reconciler.isGrowing('node-1')).toBe(false);
  });

  it('bounds an agent no longer that lives on where its Node was deleted', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.hear();
    scene.presence = { ...scene.presence, exists: false };
    scene.tell(1);
    await scene.look();
    scene.presence = { ...scene.presence, isOutside: true };
    await scene.look();
    expect(scene.promises).toEqual(['all']);
  });

  it('makes a reservation again at once that was deleted by hand', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.hear();
    scene.show('guard', held);
    scene.show('reserve', held, { deletionTimestamp: 'now' });
    await scene.look();
    scene.vanish('reserve');
    await scene.look();
    expect(scene.writes).toEqual([reserveIsMade]);
  });

  it('closes a node whose resize is put off for half a minute', async () => {
    const scene = new Scene();
    scene.workers(2);
    scene.hear();
    scene.show('guard', held);
    const message = 'Node did not have enough resource: memory';
    scene.showReserve(768, 512, [{ type: 'PodResizePending', status: 'True', reason: 'Deferred', message }]);
    expect(await scene.look()).toEqual({ requeueAfterMs: 30_000 });
    await scene.clock.advance(30_000);
    await scene.look();
    expect(scene.closings).toEqual(['node-1 unheld']);
    expect(scene.events).toEqual(['HoldRefused']);
    expect(scene.reconciler.isGrowing('node-1')).toBe(false);
    scene.showReserve(768);
    await scene.look();
    expect(scene.closings).toEqual(['node-1 unheld', 'node-1 open']);
  });

  it('writes at once again what the API server has refused, though nothing else happens on the node', async () => {
    const scene = new Scene();
    scene.workers(2);
    scene.hear();
    scene.show('guard', held);
    scene.showReserve(768);
    const busy = ApiError.fromAnswer('patch', 429, '{"reason":"TooManyRequests"}');
    scene.refuse('lambdanodes', busy);
    await expect(scene.look()).rejects.toBe(busy);
    await scene.look();
    expect(scene.promises).toEqual([768]);
    scene.showReserve(512);
    scene.refuse('pods', busy);
    await expect(scene.look()).rejects.toBe(busy);
    await scene.look();
    expect(scene.writes).toEqual(['patch esb-reserve-node-1 /spec/containers/0/resources/requests/memory 772Mi']);
  });

  it('promises nothing of memory that it has just given back, though the kubelet still has it allocated', async () => {
    const scene = new Scene();
    scene.workers(2);
    scene.hear();
    scene.show('guard', held);
    scene.showReserve(768);
    await scene.look();
    scene.hear();
    scene.workers(1);
    await scene.look();
    await scene.clock.advance(60_000);
    await scene.look();
    scene.hear();
    await scene.look();
    expect(scene.writes).toEqual(['patch esb-reserve-node-1 /spec/containers/0/resources/requests/memory 516Mi']);
    expect(scene.promises).toEqual([768, 512]);
    scene.showReserve(512, 768);
    scene.workers(2);
    await scene.look();
    expect(scene.writes.at(-1)).toBe('patch esb-reserve-node-1 /spec/containers/0/resources/requests/memory 772Mi');
    expect(scene.promises).toEqual([768, 512]);
  });

  it('waits for the word of the agent after it was promised more, before less is reserved', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.hear();
    scene.show('guard', held);
    scene.showReserve(1_536);
    await scene.look();
    scene.hear();
    await scene.clock.advance(60_000);
    await scene.look();
    scene.hear();
    scene.workers(2);
    await scene.look();
    expect(scene.promises).toEqual([1_536, 512, 768]);
    scene.showReserve(768);
    // The word of the agent is older than the last promise.
    scene.workers(1);
    scene.writes.length = 0;
    await scene.look();
    expect(scene.writes).toEqual([]);
    scene.hear();
    await scene.clock.advance(15_000);
    await scene.look();
    scene.hear();
    await scene.look();
    expect(scene.writes).toEqual(['patch esb-reserve-node-1 /spec/containers/0/resources/requests/memory 516Mi']);
  });

  it('keeps what containers take that are there, though the node may promise less than before', async () => {
    const scene = new Scene();
    scene.workers(2);
    scene.hear();
    scene.capacityMiB = 256;
    scene.show('guard', held);
    scene.showReserve(768);
    await scene.look();
    await scene.clock.advance(60_000);
    await scene.look();
    expect(scene.promises.at(-1)).toBe(384);
  });

  describe('that lets a drain end', () => {
    /** A node that is drained, and its last worker has just got another one. */
    const drained = (): Scene => {
      const scene = new Scene();
      scene.presence = { ...scene.presence, cordoned: true };
      scene.hear();
      scene.show('guard', held, { deletionTimestamp: 'later' });
      const worker = (nodeName: string) => workerFixture({ status: { assignment: { nodeName, epoch: 1 } } });
      scene.reconciler.noteWorker({ kind: 'updated', old: worker('node-1'), object: worker('node-2') });
      return scene;
    };

    it('waits for the word of an agent that may not have told of the last container yet', async () => {
      const scene = drained();
      expect(await scene.look()).toEqual({ requeueAfterMs: 12_000 });
      expect(scene.writes).toEqual([]);
      scene.tell(1);
      await scene.clock.advance(12_000);
      await scene.look();
      expect(scene.writes).toEqual([]);
      scene.tell(0);
      await scene.look();
      expect(scene.writes).toEqual(guardIsReleased);
    });

    it('takes the silence of an agent that has nothing to tell for its word', async () => {
      const scene = drained();
      await scene.look();
      await scene.clock.advance(12_000);
      await scene.look();
      expect(scene.writes).toEqual(guardIsReleased);
    });

    it('waits for no word of a node that nothing of ESB is left on', async () => {
      const scene = drained();
      scene.mark('Retired');
      await scene.look();
      expect(scene.writes).toEqual(guardIsReleased);
    });

    it('waits no longer once the agent has told that the container is gone', async () => {
      const scene = drained();
      scene.tell(1);
      const worker = (nodeName: string) => workerFixture({ status: { assignment: { nodeName, epoch: 1 } } });
      scene.reconciler.noteWorker({ kind: 'updated', old: worker('node-1'), object: worker('node-2') });
      scene.tell(0);
      await scene.look();
      expect(scene.writes).toEqual(guardIsReleased);
    });
  });

  it('takes a guard whose LambdaNode was made again for no drain', async () => {
    const scene = new Scene();
    scene.workers(1);
    scene.showBoth();
    const ownerReferences = [{ apiVersion: 'esb.dev/v1alpha1', kind: 'LambdaNode', name: 'node-1', uid: 'of-before' }];
    scene.show('guard', held, { ownerReferences, deletionTimestamp: 'now' });
    await scene.look();
    expect(scene.closings).toEqual([]);
    expect(scene.writes).toEqual(guardIsReleased);
  });

  it('promises nothing on a node that has no workers', async () => {
    const scene = new Scene();
    await scene.look();
    expect(scene.promises).toEqual([0]);
    scene.hear();
    await scene.look();
    expect(scene.promises).toEqual([0]);
  });
});
