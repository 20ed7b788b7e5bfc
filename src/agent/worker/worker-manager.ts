import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { Clock, Timer } from '../../common/clock.ts';
import { type CallOptions, sleep } from '../../common/deadline.ts';
import { EsbError, hasCode, messageOf } from '../../common/errors.ts';
import { FairGate } from '../../common/fair-gate.ts';
import type { Health } from '../../common/health.ts';
import type { Logger } from '../../common/logger.ts';
import type {
  ContainerRuntime,
  RuntimeEvent,
  WorkerAddress,
  WorkerIdentity,
  WorkerInfo,
} from '../../runtime/contract/runtime.ts';
import type { QueueLimits } from '../invoke/call-queue.ts';
import { WorkerConnection, type WorkerLink } from '../invoke/emulator-client.ts';
import { type FoundMark, readMarks, removeMark } from '../invoke/in-flight-marker.ts';
import type { DesiredWorker } from '../model/desired-worker.ts';
import type { Fleet, FleetListener } from '../model/fleet.ts';
import type { Invocation, InvocationResult } from '../model/invocation.ts';
import { StampSource } from '../model/invocation-stamp.ts';
import type { SecretReader } from '../model/secret-reader.ts';
import type { WorkerRecord } from '../model/worker-record.ts';
import type { WorkerView } from '../model/worker-state.ts';
import type { SecretName } from '../secrets/secret-cache.ts';
import { Answers } from './answers.ts';
import type { WorkerContext } from './context.ts';
import { type NodeAmounts, NodeCapacity } from './node-capacity.ts';
import { PrecreatedContainers } from './precreated-containers.ts';
import { RecordStore } from './record-store.ts';
import { type ReplacementLimits, RolloutLimiter } from './rollout-limiter.ts';
import { type SetAside, SetAsides } from './set-aside.ts';
import { Worker } from './worker.ts';

/** Milliseconds between two looks at the whole node; the last one is cut short by up to a quarter, so that nodes differ. */
const lookEveryMs = 60_000;
const lookJitter = 0.25;
/** The same while a container does not answer. */
const doubtMs = 10_000;
/** The same while the runtime does not answer. */
const relistMs = 1_000;
/** The part of the time of a stop that calls get which came while the agent was waiting for longer ones. */
const lastCallsShare = 0.1;
/** Stands for the uid of a worker that has a container which is set aside. */
const nobody = '';
/** Workers that a look is told to without a pause. */
const toldAtOnce = 50;

export interface FleetLimits {
  /**
   * What may wait for one worker. Default 1,000 calls, which are those that a number of gateways send ahead, and 64 MiB.
   */
  readonly queue?: QueueLimits;
  /** Containers that are made at once, a quarter of them only where a call waits. Default 16. */
  readonly maxStarts?: number;
  /** Containers that are paused at once. Default 8. */
  readonly maxPauses?: number;
  /** Containers that are removed at once, a quarter of them only where a call waits. Default 16. */
  readonly maxRemovals?: number;
  /** Workers whose container is replaced at once. Default 4 that rest, 16 that do not. */
  readonly replacements?: ReplacementLimits;
  /** Workers resting Absent whose container is made in advance. Default 0. */
  readonly maxPrepared?: number;
  /** Milliseconds that a container which no resource claims has to exist before it is removed. Default 30,000. */
  readonly minOrphanAgeMs?: number;
  /** Milliseconds for which the shim of a container has to fail to answer until it is made anew. Default 30,000. */
  readonly unansweringMs?: number;
}

/** Told of what the fleet does, for the metrics. */
export interface FleetMetrics {
  /** @param outcome `ok` or the code of the error */
  action(kind: string, durationMs: number, outcome: string): void;
  /** A container that no resource claims was found, and then removed or not; with the reason why not. */
  orphan(outcome: 'found' | 'removed' | 'failed', containerId: string, why?: string): void;
}

export interface FleetOptions {
  readonly runtime: ContainerRuntime;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Folder of the records, one per worker. */
  readonly stateDir: string;
  /** Folder on a tmpfs for the marks of calls in flight. */
  readonly runDir: string;
  /** What workers may take in all; paused ones count too. */
  readonly capacity: NodeAmounts;
  readonly secretReader: SecretReader;
  readonly limits?: FleetLimits;
  readonly metrics?: FleetMetrics;
  /** How a worker is called. Default: HTTP over a kept-alive connection. */
  readonly connect?: (address: WorkerAddress, pid: number) => WorkerLink;
}

/** A {@link Fleet} with what the node's own status shows of it. */
export interface NodeFleet extends Fleet {
  /** Images of all workers of the node, whatever their state, as their owners wrote them. */
  images(): readonly string[];
  /** Secrets of all workers of the node. */
  secrets(): readonly SecretName[];
  /** What the containers of the node take. */
  allocation(): NodeAmounts;
  /** Whether the records can be written. */
  storageHealth(): Health;
  /** Workers that are no longer this node's, and have a call in them that ends first. */
  leaving(): readonly LeavingWorker[];
  /**
   * Uids of workers that are no longer this node's and may still have a container here.
   *
   * @param told those that an earlier look, or an earlier run, has told of: one that the API has not spoken of since is still here
   */
  stillHere(told: readonly string[]): readonly string[];
  /**
   * What that process of a container writes does not come to its log any more: it is made anew before it stands still. False
   * when it is not that process's any more.
   */
  outputLost(containerId: string, pid: number): boolean;
  /** Containers that could not be removed, and that no worker has any more. */
  setAside(): readonly SetAside[];
  /** Workers that have an actor, and the containers that are theirs. */
  known(): KnownWorkers;
  /** Removes the record, the mark and the output of a worker that has no actor. Resolves to false for one that has. */
  discard(uid: string): Promise<boolean>;
}

export interface LeavingWorker {
  readonly identity: WorkerIdentity;
  /** Wall-clock milliseconds at which the call is over at the latest. */
  readonly callUntil: number;
}

export interface KnownWorkers {
  readonly uids: ReadonlySet<string>;
  readonly containerIds: ReadonlySet<string>;
}

/** Makes the fleet of one node. Nothing happens before {@link Fleet.adopt}. */
export function createFleet(options: FleetOptions): NodeFleet {
  return new WorkerFleet(options);
}

class WorkerFleet implements NodeFleet {
  readonly #runtime: ContainerRuntime;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #runDir: string;
  readonly #minOrphanAgeMs: number;
  readonly #records: RecordStore;
  readonly #capacity: NodeCapacity;
  readonly #context: WorkerContext;
  readonly #actors = new Map<string, Worker>();
  /** Uids of the workers that have them. */
  readonly #byContainer = new Map<string, string>();
  /** Containers that were there before any resource was known to claim them, by uid. */
  readonly #orphans = new Map<string, readonly WorkerInfo[]>();
  /** Containers of workers without an actor, as the last list had them, with the uids. */
  readonly #unclaimed = new Map<string, string>();
  readonly #listeners = new Set<FleetListener>();
  readonly #stamps: StampSource;
  readonly #metrics: FleetMetrics | undefined;
  #unsubscribe: (() => void) | undefined;
  /** Whether it is known what containers there are. */
  #listed = false;
  #runtimeDown = false;
  readonly #answers: Answers;
  readonly #setAsides: SetAsides;
  /** What marks told of calls in flight when the agent started, by uid of workers that have no actor yet. */
  readonly #foundMarks = new Map<string, FoundMark>();
  #nextLook: { readonly timer: Timer; readonly at: number } | undefined;
  #looking: Promise<void> | undefined;
  #lookAgain = false;
  #lookFailed = false;
  readonly #ended = new AbortController();
  #roomTold = false;
  #stopping = false;

  constructor(options: FleetOptions) {
    const { clock, logger, runtime, limits = {} } = options;
    this.#runtime = runtime;
    this.#clock = clock;
    this.#logger = logger;
    this.#runDir = options.runDir;
    this.#minOrphanAgeMs = limits.minOrphanAgeMs ?? 30_000;
    this.#records = new RecordStore({ folder: join(options.stateDir, 'workers'), clock, logger });
    this.#capacity = new NodeCapacity(options.capacity, () => this.#tellRoom());
    this.#stamps = new StampSource(clock);
    this.#metrics = options.metrics;
    this.#answers = new Answers({
      clock,
      onDoubt: () => this.#lookWithin(doubtMs),
      patienceMs: limits.unansweringMs,
    });
    this.#setAsides = new SetAsides({
      file: join(options.stateDir, 'set-aside.json'),
      runtime,
      clock,
      logger,
      onGone: (containerId) => this.#releaseSetAside(containerId),
    });
    const secrets = options.secretReader;
    this.#context = {
      runtime,
      clock,
      logger,
      secrets,
      capacity: this.#capacity,
      records: this.#records,
      stamps: this.#stamps,
      gates: {
        starts: gateOf(limits.maxStarts ?? 16),
        pauses: new FairGate({ places: limits.maxPauses ?? 8 }),
        removals: gateOf(limits.maxRemovals ?? 16),
      },
      replacements: new RolloutLimiter(limits.replacements ?? { resting: 4, active: 16 }, clock),
      prepared: new PrecreatedContainers({
        runtime,
        secrets,
        capacity: this.#capacity,
        clock,
        logger,
        limit: limits.maxPrepared ?? 0,
        onAgain: (containerId) => this.#actors.get(this.#byContainer.get(containerId) ?? '')?.retry(),
      }),
      marksFolder: options.runDir,
      queueLimits: limits.queue ?? { calls: 1_000, bytes: 64 * 2 ** 20 },
      connect: options.connect ?? ((address, pid) => new WorkerConnection(address, clock, pid)),
      runtimeDown: () => this.#runtimeDown,
      onRuntime: (answers) => this.#heardOfRuntime(answers),
      answers: this.#answers,
      onDoubt: () => this.#lookWithin(relistMs),
      setAside: (container) => {
        this.#setAsides.add(container);
        this.#holdSetAside(container);
      },
      onAction: (kind, durationMs, outcome) => options.metrics?.action(kind, durationMs, outcome),
      claim: (containerId, uid) => this.#claim(containerId, uid),
      unclaim: (containerId, uid) => {
        if (this.#byContainer.get(containerId) === uid) {
          this.#byContainer.delete(containerId);
          this.#answers.forget(containerId);
        }
      },
      onChanged: (view) => this.#tellChanged(view),
      onGone: (uid) => this.#forget(uid),
    };
  }

  async adopt(options: CallOptions = {}): Promise<void> {
    mkdirSync(this.#runDir, { recursive: true, mode: 0o700 });
    const records = await this.#records.load();
    await this.#setAsides.load();
    for (const each of this.#setAsides.all) {
      this.#holdSetAside(each);
    }
    // Before the list: what happens in between is told by an event.
    this.#unsubscribe = this.#runtime.subscribe((event) => this.#onRuntimeEvent(event));
    const containers = await this.#list(options);
    for (const mark of this.#marks()) {
      this.#foundMarks.set(mark.uid, mark);
      this.#stamps.notBefore(mark.stamp ?? '');
    }
    this.#listed = containers !== undefined;
    const byUid = this.#ofWorkers(containers ?? []);
    // What a container says of its owner goes before what a record of another worker says.
    for (const { desired } of records) {
      for (const { containerId, identity } of byUid.get(desired.identity.uid) ?? []) {
        this.#claim(containerId, identity.uid);
      }
    }
    for (const record of records) {
      const { uid } = record.desired.identity;
      const own = containers === undefined ? this.#standing(record) : (byUid.get(uid) ?? []);
      byUid.delete(uid);
      this.#adoptOne(record, own);
    }
    for (const [uid, infos] of byUid) {
      this.#orphans.set(uid, infos);
    }
    this.#noteUnclaimed(byUid);
    for (const actor of this.#actors.values()) {
      actor.begin();
    }
    this.#lookLater();
    this.#logger.info(
      { workers: records.length, containers: containers?.length, unclaimed: this.#orphans.size },
      'looked after what an earlier run left',
    );
  }

  apply(desired: DesiredWorker): void {
    const { uid } = desired.identity;
    const actor = this.#actors.get(uid);
    if (actor !== undefined) {
      actor.apply(desired);
      return;
    }
    if (this.#stopping) {
      return;
    }
    const orphans = this.#orphans.get(uid);
    this.#orphans.delete(uid);
    const mayHaveOne = orphans !== undefined || !this.#listed;
    const mark = this.#takeMark(uid);
    this.#add(
      new Worker(this.#context, {
        desired,
        ...(this.#listed ? { containers: orphans ?? [] } : {}),
        ...(mark === undefined || !mayHaveOne ? {} : { mark }),
      }),
    ).begin();
  }

  release(uid: string): void {
    this.#actors.get(uid)?.release();
  }

  async sweep(
    assignedUids: ReadonlySet<string>,
    confirmGone: (identity: WorkerIdentity) => Promise<boolean>,
  ): Promise<void> {
    for (const actor of [...this.#actors.values()]) {
      if (
        !assignedUids.has(actor.uid) &&
        !actor.released &&
        (await this.#isGone(actor.identity, confirmGone))
      ) {
        actor.release();
      }
    }
    for (const info of await this.#readNode({})) {
      await this.#sweepContainer(info, confirmGone);
    }
  }

  async invoke(invocation: Invocation): Promise<InvocationResult> {
    const actor = this.#actors.get(invocation.uid);
    if (actor === undefined) {
      return { kind: 'Refused', reason: 'NotFound', message: 'no such worker on this node' };
    }
    return await actor.invoke(invocation);
  }

  async ensure(uid: string, epoch: number, options: CallOptions = {}): Promise<WorkerView> {
    return await this.#actor(uid).hints.ensure(epoch, options);
  }

  async pause(uid: string, epoch: number, options: CallOptions = {}): Promise<WorkerView> {
    return await this.#actor(uid).hints.pause(epoch, options);
  }

  async resume(uid: string, epoch: number, options: CallOptions = {}): Promise<WorkerView> {
    return await this.#actor(uid).hints.resume(epoch, options);
  }

  async destroy(uid: string, epoch: number, options: CallOptions = {}): Promise<WorkerView> {
    return await this.#actor(uid).hints.destroy(epoch, options);
  }

  views(): readonly WorkerView[] {
    return [...this.#actors.values()].map((actor) => actor.view);
  }

  view(uid: string): WorkerView | undefined {
    return this.#actors.get(uid)?.view;
  }

  subscribe(listener: FleetListener): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  images(): readonly string[] {
    return [...this.#actors.values()].map((actor) => actor.image);
  }

  secrets(): readonly SecretName[] {
    return [...this.#actors.values()].flatMap((actor) => actor.secrets);
  }

  allocation(): NodeAmounts {
    return this.#capacity.allocated;
  }

  storageHealth(): Health {
    return this.#records.health;
  }

  leaving(): readonly LeavingWorker[] {
    return [...this.#actors.values()].flatMap(({ callUntil, identity, released }) =>
      released && callUntil !== undefined ? [{ identity, callUntil }] : [],
    );
  }

  stillHere(told: readonly string[]): readonly string[] {
    const released = [...this.#actors.values()].filter((actor) => actor.released);
    const unclaimed = new Set(this.#unclaimed.values());
    const unsettled = told.filter((uid) => {
      const actor = this.#actors.get(uid);
      return actor === undefined ? !this.#listed || unclaimed.has(uid) : !actor.confirmed;
    });
    return [...new Set([...released.map(({ uid }) => uid), ...unsettled])];
  }

  setAside(): readonly SetAside[] {
    return this.#setAsides.all;
  }

  outputLost(containerId: string, pid: number): boolean {
    const actor = this.#actors.get(this.#byContainer.get(containerId) ?? '');
    return actor?.outputLost(containerId, pid) === true;
  }

  known(): KnownWorkers {
    return { uids: new Set(this.#actors.keys()), containerIds: new Set(this.#byContainer.keys()) };
  }

  async discard(uid: string): Promise<boolean> {
    if (this.#actors.has(uid)) {
      return false;
    }
    this.#records.remove(uid);
    removeMark(this.#runDir, uid);
    await this.#runtime.removeLogsOf(uid);
    return true;
  }

  async stop(drainMs: number, onRefusing?: () => void): Promise<void> {
    const lastMs = drainMs * lastCallsShare;
    const running = this.#currentCalls();
    await this.#atMost(drainMs - lastMs, running);
    onRefusing?.();
    this.#stopping = true;
    this.#nextLook?.timer.cancel();
    this.#unsubscribe?.();
    const actors = [...this.#actors.values()];
    for (const actor of actors) {
      actor.refuse();
    }
    // Those that were running have had their time.
    await this.#atMost(lastMs, new Set([...this.#currentCalls()].filter((call) => !running.has(call))));
    await Promise.all(actors.map((actor) => actor.stop()));
    this.#ended.abort();
    await this.#looking;
    await this.#setAsides.stop();
    await this.#context.prepared.stop();
    await this.#records.flush();
  }

  #currentCalls(): Set<Promise<unknown>> {
    return new Set([...this.#actors.values()].flatMap(({ currentCall }) => currentCall ?? []));
  }

  /** Waits for the end of all of these, and not longer than that. */
  async #atMost(ms: number, calls: ReadonlySet<Promise<unknown>>): Promise<void> {
    if (ms <= 0 || calls.size === 0) {
      return;
    }
    const over = new AbortController();
    await Promise.race([Promise.all(calls), sleep(this.#clock, ms, over.signal).catch(() => undefined)]);
    over.abort();
  }

  /** The container that served, where the kernel says that it is there: no list can be had. Undefined otherwise. */
  #standing({ container, desired, served }: WorkerRecord): readonly WorkerInfo[] | undefined {
    if (container === undefined || served === undefined) {
      return undefined;
    }
    const kernel = this.#runtime.kernelState(container.id);
    return kernel === 'Running' || kernel === 'Paused'
      ? [
          {
            containerId: container.id,
            identity: desired.identity,
            epoch: served.epoch,
            shapeHash: container.shapeHash,
            image: served.image,
            address: served.address,
            createdAt: new Date(served.createdAt),
            task: { kind: kernel, pid: 0 },
          },
        ]
      : undefined;
  }

  #adoptOne(record: WorkerRecord, containers: readonly WorkerInfo[] | undefined): void {
    const mark = this.#takeMark(record.desired.identity.uid);
    for (const stamp of record.stamps) {
      this.#stamps.notBefore(stamp);
    }
    this.#add(
      new Worker(this.#context, {
        desired: record.desired,
        record,
        ...(containers === undefined ? {} : { containers, partial: !this.#listed }),
        ...(mark === undefined ? {} : { mark }),
      }),
    );
  }

  #claim(containerId: string, uid: string): boolean {
    if (this.#setAsides.has(containerId)) {
      return false;
    }
    const owner = this.#byContainer.get(containerId) ?? uid;
    if (owner === uid) {
      this.#byContainer.set(containerId, uid);
      this.#unclaimed.delete(containerId);
      return true;
    }
    this.#logger.error({ containerId, uid, owner }, 'a worker claims a container that another worker has');
    return false;
  }

  /** Nobody claims it, and nobody removes it as an orphan. */
  #holdSetAside({ containerId, memoryMiB }: Pick<SetAside, 'containerId' | 'memoryMiB'>): void {
    this.#byContainer.set(containerId, nobody);
    this.#answers.forget(containerId);
    this.#capacity.hold(containerId, memoryMiB);
  }

  #releaseSetAside(containerId: string): void {
    if (this.#byContainer.get(containerId) === nobody) {
      this.#byContainer.delete(containerId);
    }
    this.#capacity.free(containerId);
  }

  #noteUnclaimed(byUid: Iterable<readonly [string, readonly WorkerInfo[]]>): void {
    this.#unclaimed.clear();
    for (const [uid, infos] of byUid) {
      for (const { containerId } of this.#actors.has(uid) ? [] : infos) {
        this.#unclaimed.set(containerId, uid);
      }
    }
  }

  /** Containers that workers may have, by uid. */
  #ofWorkers(containers: readonly WorkerInfo[]): Map<string, readonly WorkerInfo[]> {
    return groupByUid(containers.filter(({ containerId }) => !this.#setAsides.has(containerId)));
  }

  #add(actor: Worker): Worker {
    this.#actors.set(actor.uid, actor);
    return actor;
  }

  #actor(uid: string): Worker {
    const actor = this.#actors.get(uid);
    if (actor === undefined) {
      throw new EsbError('no such worker on this node', { code: 'NotFound' });
    }
    return actor;
  }

  #forget(uid: string): void {
    if (!this.#actors.delete(uid)) {
      return;
    }
    for (const listener of this.#listeners) {
      listener.removed(uid);
    }
    this.#runtime.removeLogsOf(uid).catch((error: unknown) => {
      this.#logger.warn({ uid, err: error }, 'cannot remove the output of a worker that is gone');
    });
  }

  #tellChanged(view: WorkerView): void {
    // While actors are being made nobody knows of them yet.
    if (this.#actors.has(view.identity.uid)) {
      for (const listener of this.#listeners) {
        listener.changed(view);
      }
    }
  }

  #onRuntimeEvent(event: RuntimeEvent): void {
    if (event.kind === 'Disconnected') {
      this.#heardOfRuntime(false);
      return;
    }
    if (event.kind === 'Reconnected') {
      this.#runtimeDown = false;
      this.#look();
      this.#retryAll();
      return;
    }
    if (event.kind === 'Exited') {
      this.#context.prepared.ended(event.containerId);
    }
    const uid = this.#byContainer.get(event.containerId);
    if (uid !== undefined) {
      this.#actors.get(uid)?.hint(event.containerId, event.kind);
    }
  }

  /** The runtime answered, or did not. While it does not, it is asked again and again by one look for all workers. */
  #heardOfRuntime(answers: boolean): void {
    const wasDown = this.#runtimeDown;
    this.#runtimeDown = !answers;
    if (!answers) {
      this.#lookWithin(relistMs);
    } else if (wasDown) {
      // After the present step, which may be one of a worker's.
      this.#clock.setTimer(() => this.#retryAll(), 0);
    }
  }

  /** Tries again what had to wait. */
  #retryAll(): void {
    for (const actor of this.#stopping ? [] : this.#actors.values()) {
      actor.retry();
    }
  }

  #lookLater(): void {
    if (this.#runtimeDown || this.#lookFailed || !this.#listed) {
      this.#lookWithin(relistMs);
    } else if (this.#answers.inDoubt) {
      this.#lookWithin(doubtMs);
    } else {
      this.#lookWithin(Math.round(lookEveryMs * (1 - lookJitter * Math.random())));
    }
  }

  /** Looks at the whole node after that time, or sooner where that is to be done already. */
  #lookWithin(delayMs: number): void {
    const at = this.#clock.monotonic() + delayMs;
    if (this.#stopping || (this.#nextLook !== undefined && this.#nextLook.at <= at)) {
      return;
    }
    this.#nextLook?.timer.cancel();
    const timer = this.#clock.setTimer(() => {
      this.#nextLook = undefined;
      this.#look();
    }, delayMs);
    this.#nextLook = { timer, at };
  }

  /** Reads everything anew, one look at a time. Tried again until it works. */
  #look(): void {
    if (this.#looking !== undefined) {
      this.#lookAgain = true;
      return;
    }
    this.#looking = this.#readNode({ signal: this.#ended.signal })
      .then(() => {
        this.#lookFailed = false;
      })
      .catch((error: unknown) => {
        if (this.#stopping) {
          return;
        }
        // Tried every second: once is enough to say that the runtime is away.
        const level = this.#lookFailed ? 'debug' : 'warn';
        this.#logger[level]({ err: error }, 'cannot list the containers of the node');
        this.#lookFailed = true;
        this.#runtimeDown ||= hasCode(error, 'RuntimeUnavailable') || hasCode(error, 'DeadlineExceeded');
      })
      .finally(() => {
        this.#looking = undefined;
        if (this.#lookAgain) {
          this.#lookAgain = false;
          this.#lookWithin(0);
        }
        this.#lookLater();
      });
  }

  /** What there is on the node, which all workers are told of. */
  async #readNode(options: CallOptions): Promise<readonly WorkerInfo[]> {
    const looks = [...this.#actors.values()].map((actor) => ({ actor, take: actor.look() }));
    const containers = await this.#runtime.list(options);
    const byUid = this.#ofWorkers(containers);
    const byId = new Map(containers.map((info) => [info.containerId, info]));
    const known = new Set(looks.map(({ actor }) => actor.uid));
    // One whose actor went meanwhile took its container along.
    this.#noteUnclaimed([...byUid].filter(([uid]) => !known.has(uid)));
    if (!this.#listed) {
      this.#listed = true;
      for (const [uid, infos] of byUid) {
        if (!this.#actors.has(uid)) {
          this.#orphans.set(uid, infos);
        }
      }
      // Those that were told of while the list was taken wait for it as well, and have touched nothing yet.
      const asked = new Set(looks.map(({ actor }) => actor));
      for (const actor of this.#actors.values()) {
        if (!asked.has(actor)) {
          looks.push({ actor, take: actor.look() });
        }
      }
    }
    this.#heardOfRuntime(true);
    this.#setAsides.retry();
    for (const [index, { actor, take }] of looks.entries()) {
      if (index % toldAtOnce === toldAtOnce - 1) {
        // Calls are let in between.
        await setImmediate();
      }
      if (this.#actors.get(actor.uid) === actor && !this.#stopping) {
        take(byId, byUid.get(actor.uid) ?? []);
      }
    }
    return containers;
  }

  async #list(options: CallOptions): Promise<readonly WorkerInfo[] | undefined> {
    try {
      return await this.#runtime.list(options);
    } catch (error) {
      if (hasCode(error, 'Aborted')) {
        throw error;
      }
      this.#runtimeDown = true;
      this.#logger.warn({ err: error }, 'cannot list the containers of the node, serving from the records');
      return undefined;
    }
  }

  #takeMark(uid: string): FoundMark | undefined {
    const mark = this.#foundMarks.get(uid);
    this.#foundMarks.delete(uid);
    return mark;
  }

  #marks(): readonly FoundMark[] {
    try {
      return readMarks(this.#runDir);
    } catch (error) {
      this.#logger.error({ err: error }, 'cannot read the marks of calls in flight');
      return [];
    }
  }

  async #isGone(
    identity: WorkerIdentity,
    confirmGone: (identity: WorkerIdentity) => Promise<boolean>,
  ): Promise<boolean> {
    try {
      return await confirmGone(identity);
    } catch (error) {
      this.#logger.warn(
        { worker: `${identity.namespace}/${identity.name}`, reason: messageOf(error) },
        'cannot tell whether a worker is gone, leaving it alone',
      );
      return false;
    }
  }

  async #sweepContainer(
    info: WorkerInfo,
    confirmGone: (identity: WorkerIdentity) => Promise<boolean>,
  ): Promise<void> {
    const { uid } = info.identity;
    const young = this.#clock.now() - info.createdAt.getTime() < this.#minOrphanAgeMs;
    if (young || this.#byContainer.has(info.containerId)) {
      return;
    }
    // A second container of a worker that has one here is nobody's, whatever the API says.
    if (!this.#actors.has(uid) && !(await this.#isGone(info.identity, confirmGone))) {
      return;
    }
    if (this.#byContainer.has(info.containerId)) {
      return;
    }
    this.#logger.info({ container: info.containerId, uid }, 'removing a container that no resource claims');
    this.#orphans.delete(uid);
    this.#metrics?.orphan('found', info.containerId);
    try {
      await this.#runtime.destroy(info.containerId, { graceSeconds: 0 });
      this.#unclaimed.delete(info.containerId);
      this.#metrics?.orphan('removed', info.containerId);
    } catch (error) {
      this.#metrics?.orphan('failed', info.containerId, messageOf(error));
      this.#logger.warn({ container: info.containerId, err: error }, 'cannot remove a container');
    }
  }

  /** There is room again: those that wait for it look once, after the present step. */
  #tellRoom(): void {
    if (this.#roomTold || this.#stopping) {
      return;
    }
    this.#roomTold = true;
    this.#clock.setTimer(() => {
      this.#roomTold = false;
      for (const actor of this.#actors.values()) {
        if (actor.waitsForRoom) {
          actor.retry();
        }
      }
    }, 0);
  }
}

/** A quarter of the places, rounded down, is for what calls wait for. */
function gateOf(places: number): FairGate {
  return new FairGate({ places, forUrgent: Math.floor(places / 4) });
}

function groupByUid(containers: readonly WorkerInfo[]): Map<string, readonly WorkerInfo[]> {
  return Map.groupBy(containers, ({ identity }) => identity.uid);
}
