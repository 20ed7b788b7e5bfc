import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock, Timer } from '../common/clock.ts';
import { type CallOptions, sleep } from '../common/deadline.ts';
import { EsbError, hasCode, messageOf } from '../common/errors.ts';
import type { Health } from '../common/health.ts';
import type { Logger } from '../common/logger.ts';
import type {
  ContainerRuntime,
  RuntimeEvent,
  WorkerAddress,
  WorkerIdentity,
  WorkerInfo,
} from '../runtime/container-runtime.ts';
import { StampSource } from './activity-stamp.ts';
import type { DesiredWorker } from './desired-worker.ts';
import type { Fleet, FleetListener } from './fleet.ts';
import { type FoundMark, readMarks } from './in-flight-mark.ts';
import type { Invocation, InvocationResult } from './invocation.ts';
import { type NodeAmounts, NodeCapacity } from './node-capacity.ts';
import type { SecretReader } from './secret-reader.ts';
import { StartGate } from './start-gate.ts';
import { type ActorContext, WorkerActor } from './worker-actor.ts';
import { WorkerConnection, type WorkerLink } from './worker-http.ts';
import { RecordStore, type WorkerRecord } from './worker-record.ts';
import type { WorkerView } from './worker-view.ts';

const listMs = 10_000;
/** Milliseconds between two attempts to list what is on the node, while the runtime does not answer. */
const relistMs = 1_000;

export interface FleetLimits {
  /** Calls that may wait for one worker. Default 100. */
  readonly maxQueued?: number;
  /** Containers that are made at once. Default 16. */
  readonly maxStarts?: number;
  /** Milliseconds that a container which no resource claims has to exist before it is removed. Default 30,000. */
  readonly minOrphanAgeMs?: number;
}

/** Told of what the fleet does, for the metrics. */
export interface FleetMetrics {
  /** @param outcome `ok` or the code of the error */
  action(kind: string, durationMs: number, outcome: string): void;
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
  readonly connect?: (address: WorkerAddress) => WorkerLink;
}

/** A {@link Fleet} with what the node's own status shows of it. */
export interface NodeFleet extends Fleet {
  /** What the containers of the node take. */
  allocation(): NodeAmounts;
  /** Whether the records can be written. */
  storageHealth(): Health;
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
  readonly #context: ActorContext;
  readonly #actors = new Map<string, WorkerActor>();
  readonly #byContainer = new Map<string, WorkerActor>();
  /** Containers that were there before any resource was known to claim them, by uid. */
  readonly #orphans = new Map<string, WorkerInfo>();
  readonly #listeners = new Set<FleetListener>();
  readonly #stamps: StampSource;
  #unsubscribe: (() => void) | undefined;
  #runtimeDown = false;
  #relist: Timer | undefined;
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
    this.#context = {
      runtime,
      clock,
      logger,
      secrets: rememberingSecrets(options.secretReader),
      capacity: this.#capacity,
      records: this.#records,
      stamps: this.#stamps,
      startGate: new StartGate(limits.maxStarts ?? 16),
      marksFolder: options.runDir,
      maxQueued: limits.maxQueued ?? 100,
      connect: options.connect ?? ((address) => new WorkerConnection(address, clock)),
      runtimeDown: () => this.#runtimeDown,
      onRuntime: (answers) => {
        this.#runtimeDown = !answers;
      },
      onAction: (kind, durationMs, outcome) => options.metrics?.action(kind, durationMs, outcome),
      onChanged: (view) => this.#tellChanged(view),
      onGone: (uid) => this.#forget(uid),
    };
  }

  async adopt(options: CallOptions = {}): Promise<void> {
    mkdirSync(this.#runDir, { recursive: true, mode: 0o700 });
    const records = await this.#records.load();
    // Before the list: what happens in between is told by an event.
    this.#unsubscribe = this.#runtime.subscribe((event) => this.#onRuntimeEvent(event));
    const containers = await this.#list(options);
    const marks = new Map(this.#marks().map((mark) => [mark.uid, mark]));
    for (const mark of marks.values()) {
      this.#stamps.notBefore(mark.stamp ?? '');
    }
    const byUid = new Map((containers ?? []).map((info) => [info.identity.uid, info]));
    for (const record of records) {
      const { uid } = record.desired.identity;
      const container = containers === undefined ? undefined : (byUid.get(uid) ?? 'missing');
      byUid.delete(uid);
      this.#adoptOne(record, container, marks.get(uid));
    }
    for (const [uid, info] of byUid) {
      this.#orphans.set(uid, info);
    }
    if (containers === undefined) {
      this.#relistLater();
    }
    for (const actor of this.#actors.values()) {
      actor.begin();
    }
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
    const orphan = this.#orphans.get(uid);
    this.#orphans.delete(uid);
    const mark = orphan === undefined ? undefined : this.#marks().find((found) => found.uid === uid);
    this.#add(
      new WorkerActor(this.#context, {
        desired,
        ...(orphan === undefined ? {} : { container: orphan }),
        ...(mark === undefined ? {} : { mark }),
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
    for (const info of await this.#runtime.list({ deadlineMs: listMs })) {
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
    return await this.#actor(uid).ensure(epoch, options);
  }

  async pause(uid: string, epoch: number, options: CallOptions = {}): Promise<WorkerView> {
    return await this.#actor(uid).pause(epoch, options);
  }

  async resume(uid: string, epoch: number, options: CallOptions = {}): Promise<WorkerView> {
    return await this.#actor(uid).resume(epoch, options);
  }

  async destroy(uid: string, epoch: number, options: CallOptions = {}): Promise<WorkerView> {
    return await this.#actor(uid).destroy(epoch, options);
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

  allocation(): NodeAmounts {
    return this.#capacity.allocated;
  }

  storageHealth(): Health {
    return this.#records.health;
  }

  async stop(drainMs: number): Promise<void> {
    this.#stopping = true;
    this.#relist?.cancel();
    this.#unsubscribe?.();
    const actors = [...this.#actors.values()];
    const over = new AbortController();
    await Promise.race([
      Promise.all(actors.map((actor) => actor.drain())),
      sleep(this.#clock, drainMs, over.signal).catch(() => undefined),
    ]);
    over.abort();
    await Promise.all(actors.map((actor) => actor.stop()));
    await this.#records.flush();
  }

  #adoptOne(
    record: WorkerRecord,
    container: WorkerInfo | 'missing' | undefined,
    mark: FoundMark | undefined,
  ): void {
    for (const stamp of record.stamps) {
      this.#stamps.notBefore(stamp);
    }
    this.#add(
      new WorkerActor(this.#context, {
        desired: record.desired,
        record,
        ...(container === undefined ? {} : { container }),
        ...(mark === undefined ? {} : { mark }),
      }),
    );
  }

  #add(actor: WorkerActor): WorkerActor {
    this.#actors.set(actor.uid, actor);
    this.#byContainer.set(actor.containerId, actor);
    return actor;
  }

  #actor(uid: string): WorkerActor {
    const actor = this.#actors.get(uid);
    if (actor === undefined) {
      throw new EsbError('no such worker on this node', { code: 'NotFound' });
    }
    return actor;
  }

  #forget(uid: string): void {
    const actor = this.#actors.get(uid);
    if (actor === undefined) {
      return;
    }
    this.#actors.delete(uid);
    this.#byContainer.delete(actor.containerId);
    for (const listener of this.#listeners) {
      listener.removed(uid);
    }
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
    if (event.kind === 'Reconnected') {
      this.#runtimeDown = false;
      this.#look().catch((error: unknown) => {
        this.#logger.warn({ err: error }, 'cannot list the containers of the node');
        this.#relistLater();
      });
      return;
    }
    this.#byContainer.get(event.containerId)?.hint(event.kind);
  }

  /** Reads everything anew, and tries again what had to wait. */
  async #look(): Promise<void> {
    const before = [...this.#actors.values()].map((actor) => ({ actor, turn: actor.turn }));
    for (const { actor } of before) {
      actor.retry();
    }
    const found = new Map(
      (await this.#runtime.list({ deadlineMs: listMs })).map((info) => [info.containerId, info]),
    );
    for (const { actor, turn } of before) {
      actor.seen(found.get(actor.containerId), turn);
    }
  }

  #relistLater(): void {
    if (this.#stopping) {
      return;
    }
    this.#relist = this.#clock.setTimer(() => {
      this.#runtime.list({ deadlineMs: listMs }).then(
        (containers) => this.#claimLater(containers),
        () => this.#relistLater(),
      );
    }, relistMs);
  }

  /** What the list says that could not be read when the fleet began. */
  #claimLater(containers: readonly WorkerInfo[]): void {
    this.#runtimeDown = false;
    for (const info of containers) {
      if (!this.#actors.has(info.identity.uid)) {
        this.#orphans.set(info.identity.uid, info);
      }
    }
    for (const actor of this.#actors.values()) {
      actor.retry();
    }
  }

  async #list(options: CallOptions): Promise<readonly WorkerInfo[] | undefined> {
    try {
      return await this.#runtime.list({ deadlineMs: listMs, ...options });
    } catch (error) {
      if (hasCode(error, 'Aborted')) {
        throw error;
      }
      this.#runtimeDown = true;
      this.#logger.warn({ err: error }, 'cannot list the containers of the node, serving from the records');
      return undefined;
    }
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
    try {
      await this.#runtime.destroy(info.containerId, { graceSeconds: 0 });
    } catch (error) {
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

/** Secrets as they were read last, for when the API cannot be asked: a cold start does not depend on it. */
function rememberingSecrets(reader: SecretReader): SecretReader {
  const known = new Map<string, string | undefined>();
  return {
    async read(namespace, name, key, options) {
      const id = `${namespace}/${name}/${key}`;
      try {
        const value = await reader.read(namespace, name, key, options);
        known.set(id, value);
        return value;
      } catch (error) {
        if (known.has(id)) {
          return known.get(id);
        }
        throw error;
      }
    },
  };
}
