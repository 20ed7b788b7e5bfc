import type { CallOptions } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import { FairGate } from '../../common/fair-gate.ts';
import type { Health } from '../../common/health.ts';
import type { WorkerInfo } from '../../runtime/contract/runtime.ts';
import { WorkerConnection } from '../invoke/emulator-client.ts';
import { StampSource } from '../invoke/in-flight-marker.ts';
import type { DesiredWorker } from '../model/desired-worker.ts';
import type { FleetListener } from '../model/fleet.ts';
import type { Invocation, InvocationResult, Recovery } from '../model/invocation.ts';
import type { FoundMark } from '../model/marked-call.ts';
import type { WorkerRecord } from '../model/worker-record.ts';
import type { WorkerView } from '../model/worker-state.ts';
import type { SecretName } from '../secrets/secret-cache.ts';
import type { NodeAmounts } from '../step/state.ts';
import { Answers } from './answers.ts';
import { ContainerClaims } from './claims.ts';
import type { WorkerContext } from './context.ts';
import { ImageResolver } from './image-resolver.ts';
import { NodeCapacity } from './node-capacity.ts';
import { factsOf } from './node-facts.ts';
import type { FleetOptions, KnownWorkers, LeavingWorker, NodeFleet } from './node-fleet.ts';
import { NodeLook, standingOf } from './node-look.ts';
import { type ConfirmGone, OrphanSweep } from './orphan-sweep.ts';
import { ViewFeed } from './publisher.ts';
import { atMost, WorkerRegistry } from './registry.ts';
import { RolloutLimiter } from './rollout-limiter.ts';
import { type SetAside, SetAsides } from './set-aside.ts';
import { fileStorage } from './storage.ts';
import { Worker } from './worker.ts';

/** The part of the time of a stop that calls get which came while the agent was waiting for longer ones. */
const lastCallsShare = 0.1;

const noInits: WorkerContext['inits'] = { link: () => undefined, subscribe: () => () => undefined };

/** Makes the fleet of one node. Nothing happens before {@link Fleet.adopt}. */
export function createFleet(options: FleetOptions): NodeFleet {
  return new WorkerManager(options);
}

class WorkerManager implements NodeFleet {
  readonly #context: WorkerContext;
  readonly #registry: WorkerRegistry;
  readonly #node: NodeLook;
  readonly #orphans: OrphanSweep;
  /** Ends the subscription to the inits of the workers. */
  readonly #deaf: () => void;
  #roomTold = false;
  #stopping = false;

  constructor(options: FleetOptions) {
    const { clock, inits = noInits, limits = {}, logger, random = Math.random, runtime } = options;
    const { holdsShare = () => true, secretReader: secrets } = options;
    const storage = options.storage ?? fileStorage(options, clock, logger);
    const capacity = new NodeCapacity(options.capacity, () => this.#tellRoom());
    const limiter = new RolloutLimiter(limits.replacements ?? { resting: 4, active: 16 }, clock);
    const answers = new Answers({
      clock,
      logger,
      onDoubt: () => this.#node.doubtContainer(),
      patienceMs: limits.unansweringMs,
    });
    const claims = new ContainerClaims(answers, logger);
    const registry = new WorkerRegistry(claims);
    const setAsides = new SetAsides({
      store: storage.setAsides,
      runtime,
      clock,
      logger,
      onGone: (containerId) => {
        claims.gone(containerId);
        capacity.free(containerId);
      },
    });
    const node = new NodeLook({ runtime, clock, logger, random, registry, answers, setAsides });
    this.#registry = registry;
    this.#node = node;
    this.#orphans = new OrphanSweep({
      runtime,
      clock,
      logger,
      registry,
      claims,
      metrics: options.metrics,
      minAgeMs: limits.minOrphanAgeMs ?? 30_000,
    });
    this.#context = {
      runtime,
      clock,
      logger,
      secrets,
      records: storage.records,
      marks: storage.marks,
      stamps: new StampSource(clock),
      queueLimits: limits.queue ?? { calls: 1_000, bytes: 64 * 2 ** 20 },
      connect: options.connect ?? ((address, pid) => new WorkerConnection(address, clock, pid)),
      metrics: options.metrics,
      onAnswered: options.onAnswered,
      inits,
      facts: factsOf({
        capacity,
        claims,
        holdsShare,
        inits,
        limiter,
        outlook: node,
        tmpOnDisk: options.tmpOnDisk ?? (() => false),
      }),
      capacity,
      claims,
      gates: {
        starts: gateOf(limits.maxStarts ?? 16),
        pauses: new FairGate({ places: limits.maxPauses ?? 8 }),
        removals: gateOf(limits.maxRemovals ?? 16),
      },
      limiter,
      resolver: new ImageResolver({ runtime, secrets }),
      setAsides,
      answers,
      outlook: node,
      feed: new ViewFeed(),
    };
    this.#deaf = inits.subscribe((news) => registry.ofContainer(news.containerId)?.initTold(news));
    this.#context.feed.subscribe({ changed: () => undefined, removed: (uid) => this.#forget(uid) });
  }

  async adopt(options: CallOptions = {}): Promise<void> {
    const { capacity, claims, logger, records: store, runtime, setAsides, stamps } = this.#context;
    const registry = this.#registry;
    const records = await store.load();
    await setAsides.load();
    for (const { containerId, memoryMiB } of setAsides.all) {
      claims.setAside(containerId);
      capacity.hold(containerId, memoryMiB);
    }
    const containers = await this.#node.begin(options);
    for (const mark of this.#marks()) {
      registry.keepMark(mark);
      stamps.notBefore(mark.stamp ?? '');
    }
    const byUid = registry.byUid(containers ?? []);
    // The labels of a container count more than the record of another worker.
    for (const { desired } of records) {
      for (const { containerId, identity } of byUid.get(desired.identity.uid) ?? []) {
        claims.claim(containerId, identity.uid);
      }
    }
    for (const record of records) {
      const { uid } = record.desired.identity;
      this.#adoptOne(record, containers === undefined ? standingOf(record, runtime) : (byUid.get(uid) ?? []));
      byUid.delete(uid);
    }
    registry.keepOrphans(byUid);
    registry.noteUnclaimed(byUid);
    for (const worker of registry.all) {
      worker.begin();
    }
    this.#node.begun();
    logger.info(
      { workers: records.length, containers: containers?.length, unclaimed: registry.orphans },
      'looked after what an earlier run left',
    );
  }

  apply(desired: DesiredWorker): void {
    const { uid } = desired.identity;
    const worker = this.#registry.workers.get(uid);
    if (worker !== undefined) {
      worker.apply(desired);
      return;
    }
    if (this.#stopping) {
      return;
    }
    const { isListed } = this.#node;
    const orphans = this.#registry.takeOrphans(uid);
    const mark = this.#registry.takeMark(uid);
    const mayHaveOne = orphans !== undefined || !isListed;
    this.#registry
      .add(
        new Worker(this.#context, {
          desired,
          ...(isListed ? { containers: orphans ?? [] } : {}),
          ...(mark === undefined || !mayHaveOne ? {} : { mark }),
        }),
      )
      .begin();
  }

  release(uid: string): void {
    this.#registry.workers.get(uid)?.step({ kind: 'Released' });
  }

  async sweep(assignedUids: ReadonlySet<string>, confirmGone: ConfirmGone): Promise<void> {
    await this.#orphans.releaseWorkers(assignedUids, confirmGone);
    for (const info of await this.#node.read({})) {
      await this.#orphans.removeContainer(info, confirmGone);
    }
  }

  async invoke(invocation: Invocation): Promise<InvocationResult> {
    const worker = this.#registry.workers.get(invocation.uid);
    if (worker === undefined) {
      return { kind: 'Refused', reason: 'NotFound', message: 'no such worker on this node' };
    }
    return await worker.invoke(invocation);
  }

  async recover(recovery: Recovery): Promise<InvocationResult> {
    const result = await this.#worker(recovery.uid).recover(recovery);
    if (this.#stopping && result.kind === 'Unknown') {
      throw new EsbError('the agent is stopping', { code: 'Unavailable' });
    }
    return result;
  }

  async ensure(uid: string, epoch: number, options: CallOptions = {}): Promise<WorkerView> {
    return await this.#worker(uid).command('Ensure', epoch, options);
  }

  async pause(uid: string, epoch: number, options: CallOptions = {}): Promise<WorkerView> {
    return await this.#worker(uid).command('Pause', epoch, options);
  }

  async resume(uid: string, epoch: number, options: CallOptions = {}): Promise<WorkerView> {
    return await this.#worker(uid).command('Resume', epoch, options);
  }

  async destroy(uid: string, epoch: number, options: CallOptions = {}): Promise<WorkerView> {
    return await this.#worker(uid).command('Destroy', epoch, options);
  }

  views(): readonly WorkerView[] {
    return this.#registry.all.map(({ view }) => view);
  }

  view(uid: string): WorkerView | undefined {
    return this.#registry.workers.get(uid)?.view;
  }

  subscribe(listener: FleetListener): () => void {
    return this.#context.feed.subscribe(listener);
  }

  images(): readonly string[] {
    return this.#registry.all.map(({ desired }) => desired.image);
  }

  secrets(): readonly SecretName[] {
    return this.#registry.all.flatMap(({ secrets }) => secrets);
  }

  allocation(): NodeAmounts {
    return this.#context.capacity.allocated;
  }

  resize(capacity: NodeAmounts): boolean {
    return this.#context.capacity.resize(capacity);
  }

  limits(): NodeAmounts {
    return this.#context.capacity.limits;
  }

  reserve(memoryMiB: number | undefined): void {
    this.#context.capacity.reserve(memoryMiB);
  }

  storageHealth(): Health {
    return this.#context.records.health;
  }

  leaving(): readonly LeavingWorker[] {
    return this.#registry.all.flatMap(({ callUntil, desired: { identity }, released }) =>
      released && callUntil !== undefined ? [{ identity, callUntil }] : [],
    );
  }

  stillHere(told: readonly string[]): readonly string[] {
    const { unclaimed } = this.#registry;
    const released = this.#registry.all.filter((worker) => worker.released);
    const unsettled = told.filter((uid) => {
      const worker = this.#registry.workers.get(uid);
      return worker === undefined ? !this.#node.isListed || unclaimed.has(uid) : !worker.confirmed;
    });
    return [...new Set([...released.map(({ uid }) => uid), ...unsettled])];
  }

  setAside(): readonly SetAside[] {
    return this.#context.setAsides.all;
  }

  outputLost(containerId: string, pid: number): boolean {
    return this.#registry.ofContainer(containerId)?.outputLost(containerId, pid) === true;
  }

  known(): KnownWorkers {
    return {
      uids: new Set(this.#registry.workers.keys()),
      containerIds: new Set(this.#context.claims.containerIds),
    };
  }

  async discard(uid: string): Promise<boolean> {
    if (this.#registry.workers.has(uid)) {
      return false;
    }
    this.#context.records.remove(uid);
    this.#context.marks.remove(uid);
    await this.#context.runtime.removeLogsOf(uid);
    return true;
  }

  async stop(drainMs: number, onRefusing?: () => void): Promise<void> {
    const { clock, records, resolver, setAsides } = this.#context;
    const lastMs = drainMs * lastCallsShare;
    const running = this.#registry.currentCalls;
    await atMost(drainMs - lastMs, running, clock);
    onRefusing?.();
    this.#stopping = true;
    this.#node.refuse();
    const workers = this.#registry.all;
    for (const worker of workers) {
      worker.step({ kind: 'Refusing' });
    }
    // Those that were running have had their time.
    const late = [...this.#registry.currentCalls].filter((call) => !running.has(call));
    await atMost(lastMs, new Set(late), clock);
    this.#deaf();
    await Promise.all(workers.map((worker) => worker.stop()));
    await this.#node.stop();
    await setAsides.stop();
    await resolver.stop();
    await records.flush();
  }

  #adoptOne(record: WorkerRecord, containers: readonly WorkerInfo[] | undefined): void {
    const { desired, stamps } = record;
    const mark = this.#registry.takeMark(desired.identity.uid);
    for (const stamp of stamps) {
      this.#context.stamps.notBefore(stamp);
    }
    this.#registry.add(
      new Worker(this.#context, {
        desired,
        record,
        ...(containers === undefined ? {} : { containers, partial: !this.#node.isListed }),
        ...(mark === undefined ? {} : { mark }),
      }),
    );
  }

  #marks(): readonly FoundMark[] {
    try {
      return this.#context.marks.read();
    } catch (error) {
      this.#context.logger.error({ err: error }, 'cannot read the marks of calls in flight');
      return [];
    }
  }

  #worker(uid: string): Worker {
    const worker = this.#registry.workers.get(uid);
    if (worker === undefined) {
      throw new EsbError('no such worker on this node', { code: 'NotFound' });
    }
    return worker;
  }

  /** There is room again: those that wait for it look once, after the present step. */
  #tellRoom(): void {
    if (this.#roomTold || this.#stopping) {
      return;
    }
    this.#roomTold = true;
    this.#context.clock.setTimer(() => {
      this.#roomTold = false;
      for (const worker of this.#registry.all) {
        if (worker.waitsForRoom) {
          worker.step({ kind: 'Retried' });
        }
      }
    }, 0);
  }

  /** Nothing is left of a worker. */
  #forget(uid: string): void {
    const { logger, runtime } = this.#context;
    this.#registry.workers.delete(uid);
    runtime.removeLogsOf(uid).catch((error: unknown) => {
      logger.warn({ uid, err: error }, 'cannot remove the output of a worker that is gone');
    });
  }
}

/** A quarter of the places, rounded down, is for what calls wait for. */
function gateOf(places: number): FairGate {
  return new FairGate({ places, forUrgent: Math.floor(places / 4) });
}
