import { Registry } from 'prom-client';
import { ShareLease } from '../../src/agent/sync/share-lease.ts';
import type { LambdaNode } from '../../src/api/lambda-node.ts';
import { type LambdaWorker, lambdaWorkers, perWorkerOf } from '../../src/api/lambda-worker.ts';
import { silentLogger } from '../../src/common/logger.ts';
import { registerControllerMetrics } from '../../src/controller/metrics/controller-metrics.ts';
import { NodeLiveness } from '../../src/controller/nodes/liveness.ts';
import { Silence } from '../../src/controller/nodes/silence.ts';
import { AssignmentCache } from '../../src/controller/scheduling/assignment-cache.ts';
import { NodeSnapshot } from '../../src/controller/scheduling/node-snapshot.ts';
import { FUNCTION_INDEX, functionIndex } from '../../src/controller/workers/disruption-budget.ts';
import { LEAVING_INDEX, LeftNodes, leavingIndex } from '../../src/controller/workers/left-nodes.ts';
import { WorkerReconciler } from '../../src/controller/workers/reconciler.ts';
import { ShareKeeper } from '../../src/controller/workers/share-keeper.ts';
import { ApiError } from '../../src/kube/api/api-error.ts';
import { parseKeyText } from '../../src/kube/api/object-key.ts';
import type { Node } from '../../src/kube/api/resource-types.ts';
import type { CacheEvent, KubeClient, ObjectKey, PatchBody } from '../../src/kube/api/types.ts';
import { createObjectCache } from '../../src/kube/cache/object-cache.ts';
import { OwnWrites } from '../../src/kube/client/own-writes.ts';
import { type ManualClock, manualClock } from './manual-clock.ts';
import { nodeFixture, readNodeFixture, workerFixture } from './worker-fixture.ts';

/** Grant of the quotas of the namespace for each worker. */
export const GRANTED = { memoryMiB: 192, milliCPU: 0 } as const;

const cleanedUp = { type: 'CleanedUp', status: 'True', reason: 'CleanedUp', message: '' } as const;

/** Milliseconds that a call of the function takes at most: its timeout, and the end of it. */
const LONGEST_CALL_MS = 15_000;

/** A worker as an agent has it. */
interface Held {
  readonly epoch: number;
  readonly share: number | undefined;
  readonly perWorker: number;
  readonly deleting: boolean;
}

/** The parts of a controller in one term. */
interface Term {
  readonly liveness: NodeLiveness;
  readonly silence: Silence;
  readonly assignments: AssignmentCache;
  readonly shares: ShareKeeper;
  readonly left: LeftNodes;
  readonly reconciler: WorkerReconciler;
}

/** An agent as far as shares need it. Calls outlive it. */
class Agent {
  readonly name: string;
  readonly held = new Map<string, Held>();
  /** Monotonic milliseconds at which each call began, by uid. */
  readonly calls = new Map<string, number[]>();
  lease: ShareLease;
  /** Whether it reaches the API server. */
  connected = true;
  /** Ends a list of its workers that is under way. */
  finish: (() => void) | undefined;
  readonly #clock: ManualClock;

  constructor(name: string, clock: ManualClock) {
    this.name = name;
    this.#clock = clock;
    this.lease = this.#newLease();
  }

  /** The agent is killed, and starts again with its records. */
  restart(): void {
    this.lease = this.#newLease();
    this.finish = undefined;
  }

  running(uid: string): number {
    return this.calls.get(uid)?.length ?? 0;
  }

  take(worker: LambdaWorker): void {
    const { metadata, status } = worker;
    const { uid = '' } = metadata;
    const { assignment } = status ?? {};
    if (assignment?.nodeName !== this.name) {
      this.held.delete(uid);
    } else if (assignment.epoch >= (this.held.get(uid)?.epoch ?? 0)) {
      const { epoch, share } = assignment;
      const deleting = metadata.deletionTimestamp !== undefined;
      this.held.set(uid, { epoch, share, perWorker: perWorkerOf(worker), deleting });
    }
  }

  /** A call of a gateway, which may have any assignment in mind; whether it runs. */
  call(uid: string): boolean {
    const held = this.held.get(uid);
    const running = this.running(uid);
    if (
      held === undefined ||
      held.deleting ||
      running >= Math.min(held.perWorker, held.share ?? held.perWorker) ||
      (held.share !== undefined && !this.lease.holds(uid, held.epoch))
    ) {
      return false;
    }
    this.calls.set(uid, [...(this.calls.get(uid) ?? []), this.#clock.monotonic()]);
    return true;
  }

  #newLease(): ShareLease {
    return new ShareLease({
      clock: this.#clock,
      known: () => [...this.held].map(([uid, { epoch }]) => [uid, epoch] as const),
    });
  }
}

/**
 * One function with reserved concurrency on a few nodes: the controller's own parts over an API server in memory, whose
 * caches lag as the test wants, and agents that heed shares.
 */
export class ShareWorld {
  readonly clock = manualClock();
  readonly agents: readonly Agent[];
  readonly stored = new Map<string, LambdaWorker>();
  /** Nodes that are being drained. */
  readonly draining = new Set<string>();
  /** Looks at workers for changes of others of their function. */
  looks = 0;
  writes = 0;
  /** Happens while the next write is on its way. */
  meanwhile: (() => Promise<void>) | undefined;
  readonly #workers = createObjectCache<LambdaWorker>({ [FUNCTION_INDEX]: functionIndex });
  readonly #nodes = createObjectCache<LambdaNode>({ [LEAVING_INDEX]: leavingIndex });
  readonly #coreNodes = createObjectCache<Node>();
  readonly #stamps = new Map<string, string>();
  #version = 100;
  #term: Term;

  constructor(nodes: number) {
    this.agents = Array.from({ length: nodes }, (_, index) => new Agent(`node-${index}`, this.clock));
    for (const { name } of this.agents) {
      this.#nodes.set(nodeFixture({ name }));
      this.#stamps.set(name, '0');
    }
    this.#term = this.newTerm();
  }

  /** Another controller leads, whose cache begins with what there is. */
  newTerm(): Term {
    this.#workers.replace([...this.stored.values()], String(this.#version));
    const liveness = new NodeLiveness();
    const silence = new Silence();
    const assignments = new AssignmentCache();
    const { clock } = this;
    const lambdaNodes = this.#nodes;
    const client = {
      patch: (_type: unknown, key: ObjectKey, patch: PatchBody) => this.#patch(key, patch),
      get: (_type: unknown, { name }: ObjectKey) => Promise.resolve(this.stored.get(name)),
    } as unknown as KubeClient;
    const writes = new OwnWrites(client, [
      {
        type: lambdaWorkers,
        informer: {
          cache: this.#workers,
          written: (worker) => this.#take(this.#workers.setAhead(worker as LambdaWorker)),
          removed: (key, uid) => this.#take(this.#workers.removeAhead(key, uid)),
        },
      },
    ]);
    const snapshot = new NodeSnapshot({
      client,
      lambdaNodes,
      nodes: this.#coreNodes,
      liveness,
      assignments,
      closures: { closureOf: (node) => (this.draining.has(node) ? 'draining' : undefined), isGrowing: () => false },
      clock,
    });
    const left = new LeftNodes({ lambdaNodes, snapshot, clock });
    const workers = this.#workers;
    const shares = new ShareKeeper({
      workers,
      assignments,
      snapshot,
      silence,
      onLapse: () => undefined,
      clock,
    });
    const reconciler = new WorkerReconciler({
      client: writes.client,
      settle: (key, call) => writes.settle(key, call),
      workers,
      snapshot,
      left,
      shares,
      strategy: 'spread',
      assignments,
      quotas: { grant: () => ({ kind: 'granted', granted: GRANTED }), note: () => undefined },
      onRoom: () => undefined,
      events: { record: () => undefined },
      metrics: registerControllerMetrics(new Registry(), { phases: () => [], livenesses: () => [] }),
      clock,
      logger: silentLogger(),
    });
    for (const object of workers.list()) {
      shares.noteWorker({ kind: 'added', object });
      assignments.observe(object);
    }
    this.#term = { liveness, silence, assignments, shares, left, reconciler };
    return this.#term;
  }

  create(name: string, spec: Partial<LambdaWorker['spec']>): void {
    this.#store(
      workerFixture({
        name,
        spec: { functionName: 'f', ...spec },
        metadata: { creationTimestamp: new Date(this.clock.now()).toISOString() },
      }),
    );
  }

  delete(name: string): void {
    this.change(name, (worker) => ({
      ...worker,
      metadata: { ...worker.metadata, deletionTimestamp: new Date(this.clock.now()).toISOString() },
    }));
    if ((this.stored.get(name)?.metadata.finalizers ?? []).length === 0) {
      this.stored.delete(name);
    }
  }

  change(name: string, change: (worker: LambdaWorker) => LambdaWorker): void {
    const worker = this.stored.get(name);
    if (worker !== undefined) {
      this.#store(change(worker));
    }
  }

  /**
   * The controller's cache sees a worker as it is.
   *
   * @returns names of workers that the controller is to look at for the sake of shares
   */
  see(name: string): readonly string[] {
    const object = this.stored.get(name);
    const gone = this.#workers.get({ namespace: 'default', name });
    const changes =
      object === undefined ? (gone === undefined ? [] : this.#workers.remove(gone)) : this.#workers.set(object);
    return this.#take(changes);
  }

  #take(changes: readonly CacheEvent<LambdaWorker>[]): readonly string[] {
    const { assignments, left, reconciler, shares } = this.#term;
    return changes.flatMap((change) => {
      left.noteWorker(change);
      const keys = shares.noteWorker(change);
      this.looks += keys.length;
      const { name, uid = '' } = change.object.metadata;
      if (change.kind === 'deleted') {
        assignments.forget(uid);
        reconciler.forget(`default/${name}`, uid);
      } else {
        assignments.observe(change.object);
      }
      return keys.map((key) => parseKeyText(key).name);
    });
  }

  async reconcile(name: string): Promise<void> {
    await this.#term.reconciler.reconcile(`default/${name}`, {});
  }

  /** The controller reads the Leases. */
  readLeases(): void {
    const at = this.clock.monotonic();
    const stamps = new Map(this.#stamps);
    this.#term.silence.observe(at, at, stamps);
    this.#term.liveness.observe({ at, nodes: this.agents.map(({ name }) => readNodeFixture(name)), stamps });
  }

  renew(agent: Agent): void {
    if (agent.connected) {
      this.#version += 1;
      this.#stamps.set(agent.name, String(this.#version));
      agent.lease.renewed(this.clock.monotonic());
    }
  }

  /** The watch of an agent tells it of one worker. */
  watch(agent: Agent, name: string): void {
    const worker = this.stored.get(name);
    if (agent.connected && worker !== undefined) {
      agent.take(worker);
    }
  }

  /** An agent begins to list its workers. */
  list(agent: Agent): void {
    if (!agent.connected) {
      return;
    }
    const read = agent.lease.reading();
    const items = [...this.stored.values()].filter(({ status }) => status?.assignment?.nodeName === agent.name);
    agent.finish = () => {
      agent.finish = undefined;
      for (const worker of items) {
        agent.take(worker);
      }
      read(new Map(items.map(({ metadata, status }) => [metadata.uid ?? '', status?.assignment?.epoch ?? 0])));
    };
  }

  /** An agent writes what it knows of a worker. */
  report(agent: Agent, name: string): void {
    const worker = this.stored.get(name);
    const uid = worker?.metadata.uid ?? '';
    const held = agent.held.get(uid);
    const { assignment } = worker?.status ?? {};
    if (
      !agent.connected ||
      worker === undefined ||
      held === undefined ||
      assignment?.nodeName !== agent.name ||
      assignment.epoch !== held.epoch
    ) {
      return;
    }
    const { epoch, share } = held;
    const { share: _, ...rest } = worker.status ?? {};
    const running = agent.running(uid);
    if (held.deleting && running === 0) {
      const conditions = [{ ...cleanedUp, lastTransitionTime: new Date(this.clock.now()).toISOString() }];
      this.#store({ ...worker, status: { ...rest, conditions } });
      return;
    }
    const said = share === undefined ? {} : { share: { epoch, calls: Math.max(share, running) } };
    this.#store({ ...worker, status: { ...rest, ...said, phase: 'Running', observedGeneration: 1 } });
  }

  /** Time passes; calls end that are too long. */
  async pass(milliseconds: number): Promise<void> {
    await this.clock.advance(milliseconds);
    const since = this.clock.monotonic() - LONGEST_CALL_MS;
    for (const { calls } of this.agents) {
      for (const [uid, begun] of calls) {
        calls.set(
          uid,
          begun.filter((at) => at > since),
        );
      }
    }
  }

  /** Calls that run now, on all nodes. */
  get running(): number {
    return this.agents
      .flatMap(({ calls }) => [...calls.values()].map(({ length }) => length))
      .reduce((a, b) => a + b, 0);
  }

  /**
   * Everybody who is there does what is to be done, for that many seconds.
   *
   * @param between called in each round, in the middle of it
   */
  async live(seconds: number, between: () => void = () => undefined): Promise<void> {
    for (let second = 0; second < seconds; second += 5) {
      await this.pass(5_000);
      for (const agent of this.agents) {
        this.renew(agent);
        this.list(agent);
        agent.finish?.();
      }
      between();
      this.readLeases();
      for (const name of [...this.stored.keys()]) {
        for (const agent of this.agents) {
          this.report(agent, name);
        }
      }
      for (const { metadata } of this.#workers.list()) {
        this.see(metadata.name);
      }
      for (const name of [...this.stored.keys()]) {
        this.see(name);
        await this.reconcile(name);
        this.see(name);
        for (const agent of this.agents) {
          this.watch(agent, name);
        }
        between();
      }
    }
  }

  #store(worker: LambdaWorker): LambdaWorker {
    this.#version += 1;
    const next = { ...worker, metadata: { ...worker.metadata, resourceVersion: String(this.#version) } };
    this.stored.set(worker.metadata.name, next);
    return next;
  }

  async #patch(key: ObjectKey, patch: PatchBody): Promise<LambdaWorker> {
    const { meanwhile } = this;
    this.meanwhile = undefined;
    await meanwhile?.();
    const present = this.stored.get(key.name);
    if (present === undefined) {
      throw ApiError.fromAnswer('patch', 404, '');
    }
    const body = patch.body as {
      metadata?: { resourceVersion?: string; finalizers?: string[] };
      status?: object;
    };
    if (body.metadata?.resourceVersion !== present.metadata.resourceVersion) {
      throw ApiError.fromAnswer('patch', 409, '');
    }
    this.writes += 1;
    const written = Object.fromEntries(Object.entries(body.status ?? {}).filter(([, value]) => value !== undefined));
    const { finalizers } = body.metadata ?? {};
    // A field of the controller that an apply leaves out is gone.
    const { assignment: _assignment, lastEpoch: _lastEpoch, ...others } = present.status ?? {};
    const kept = patch.kind === 'apply' ? others : present.status;
    if (finalizers?.length === 0 && present.metadata.deletionTimestamp !== undefined) {
      this.stored.delete(key.name);
      return present;
    }
    return this.#store({
      ...present,
      metadata: { ...present.metadata, ...(finalizers === undefined ? {} : { finalizers }) },
      ...(body.status === undefined ? {} : { status: { ...kept, ...written } }),
    });
  }
}
