import { dirname, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { containerLabels } from '../../api/label.ts';
import type { NodeNetwork } from '../../cni/node-network.ts';
import { type Clock, systemClock } from '../../common/clock.ts';
import { type CallOptions, withDeadline } from '../../common/deadline.ts';
import { EsbError, hasCode, messageOf } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import type { Health } from '../../common/health.ts';
import { KeyedQueue } from '../../common/keyed-queue.ts';
import { Limiter } from '../../common/limiter.ts';
import type { Logger } from '../../common/logger.ts';
import { TaskGroup } from '../../common/task-group.ts';
import type { ContainerRecord } from '../../containerd/container-service.ts';
import { type ContainerdClient, createContainerdClient } from '../../containerd/containerd-client.ts';
import type { TaskProcess } from '../../containerd/task-service.ts';
import { linuxPlatform } from '../../oci/image-config.ts';
import { isWorker, taskStateOf, workerInfoOf } from '../contract/container-labels.ts';
import type { NodeImages } from '../contract/images.ts';
import type { RuntimeObserver } from '../contract/instrumentation.ts';
import type { NodeInventory } from '../contract/inventory.ts';
import type { WorkerLogReader } from '../contract/logs.ts';
import { fits, refuseForeign } from '../contract/matches.ts';
import { PrecreatedTasks } from '../contract/precreated.ts';
import type {
  ClearOptions,
  ContainerRuntime,
  DestroyOptions,
  EnsureRequest,
  FoundTask,
  KernelState,
  RuntimeEvent,
  RuntimeHealth,
  StartOptions,
  TaskState,
  WorkerInfo,
} from '../contract/runtime.ts';
import { ImageStore } from '../images/image-store.ts';
import { createNodeImages } from '../images/node-images.ts';
import { FILES_KEY_PREFIX } from '../images/user-files.ts';
import type { LogLimits } from '../logs/log-layout.ts';
import { OutputProbe } from '../logs/output-probe.ts';
import { WorkerLogs } from '../logs/worker-logs.ts';
import { HOST_MODE_IP } from '../start/host-port.ts';
import { HostPortAllocator, type HostPortRange } from '../start/host-port-allocator.ts';
import { type Connect, tcpConnect } from '../start/port-probe.ts';
import { readBootId } from './boot-id.ts';
import { CgroupEvents } from './cgroup-events.ts';
import { WorkerCgroups } from './cgroups.ts';
import { type MadeWorker, WorkerCreation } from './create.ts';
import { EventFeed } from './events.ts';
import { Freezer } from './freezer.ts';
import { HostsFiles } from './hosts-files.ts';
import { takeNodeInventory } from './inventory.ts';
import { Isolation, type IsolationOptions } from './isolation.ts';
import { Leftovers } from './leftovers.ts';
import { OrphanShims } from './orphan-shim.ts';
import { isStandIn, WorkerRemoval } from './remove.ts';
import { ShimGroups } from './shim-groups.ts';
import { TaskControl } from './task.ts';
import { uninstallContainerd } from './uninstall.ts';
import { versionFault } from './version.ts';

export interface ContainerdRuntimeOptions {
  /** Path of containerd's socket, as containerd itself is configured. */
  readonly socketPath: string;
  readonly network: NodeNetwork;
  /** Folder of the workers' output. */
  readonly logFolder: string;
  /** Where it is written down which worker has which ports of the node. Default: beside the folder of the output. */
  readonly hostPortFolder?: string | undefined;
  /** Ports that workers in `Host` mode may be given. Default 25000 to 26999. */
  readonly hostPorts?: HostPortRange | undefined;
  /** How much of a worker's output is kept. Default five files of 10 MiB. */
  readonly logLimits?: LogLimits | undefined;
  /** `certs.d`: per-registry settings, read by containerd. */
  readonly hostsFolder?: string | undefined;
  /** Images of one registry that are pulled at the same time. Default 3. */
  readonly maxPulls?: number | undefined;
  readonly observer?: RuntimeObserver | undefined;
  /** Mounted over `/etc/resolv.conf` of every worker. */
  readonly resolvConfPath?: string | undefined;
  /** Folder on a tmpfs for what is mounted over `/etc/hosts` of the workers. */
  readonly etcHostsFolder: string;
  /**
   * Where runc keeps its states, on tmpfs. A worker has the same container on whichever node it is, so nodes on one
   * machine need one each. Default: a folder that all daemons of a machine share.
   */
  readonly runcRoot?: string | undefined;
  /** How workers are held. Default: in cgroups below `/esb` and in no user namespaces. */
  readonly confinement?: IsolationOptions | undefined;
  /** Milliseconds that a started worker may take until its port is open. Default 60,000. */
  readonly listenDeadlineMs?: number | undefined;
  /** How many workers share a shim. Default 1. */
  readonly workersPerShim?: number | undefined;
  /** Names this boot of the machine. Default: as the kernel does. */
  readonly bootId?: string | undefined;
  /** How a port is tried. Default TCP from this process. */
  readonly connect?: Connect | undefined;
  /** Default: a client of containerd at `socketPath`. */
  readonly client?: ContainerdClient | undefined;
  /** Runs the programs of the operating system. Default: as children of this process. */
  readonly runner?: CommandRunner | undefined;
  readonly clock?: Clock | undefined;
  readonly logger: Logger;
}

/** Everything of ours lives in this namespace of containerd, and nothing else does. */
export const CONTAINERD_NAMESPACE = 'esb';

/** Containers that are remembered as removed. */
const MAX_REMOVED = 4_096;
const SNAPSHOTTER = 'overlayfs';
const SHIM = 'io.containerd.runc.v2';

const ENSURE_DEADLINE_MS = 300_000;
const SWITCH_DEADLINE_MS = 30_000;
const SETTLE_DEADLINE_MS = 5_000;
/** Each is a start of runc, of use to nobody's call. */
const SETTLED_AT_ONCE = 2;
/** Tasks whose freezer is read without a pause, at about 20 microseconds each. */
const SEEN_AT_ONCE = 50;
/** On top of the grace. */
const DESTROY_DEADLINE_MS = 120_000;
const READ_DEADLINE_MS = 10_000;
const OUTPUT_DEADLINE_MS = 10_000;
/** A thousand shims are asked for their state. */
const LIST_DEADLINE_MS = 60_000;
/** The records of a thousand containers, which containerd has at hand. */
const RECORDS_DEADLINE_MS = 15_000;
/** containerd asks one shim after the other, and gives each 2 s: five that hang are not waited for. */
const TOLD_DEADLINE_MS = 10_000;
/** For each task that was not told of. Longer than the 2 s that containerd gives its shim. */
const ASK_DEADLINE_MS = 4_000;
const ASKED_AT_ONCE = 16;
const START_DEADLINE_MS = 60_000;
const PRUNE_EVERY_MS = 5 * 60_000;
/** For whoever is to find out why a container was removed, and longer than any pause between two starts. */
const KEEP_LOG_MS = 60 * 60_000;
const DEFAULT_GRACE_SECONDS = 10;
const DEFAULT_LISTEN_DEADLINE_MS = 60_000;

type Unanswering = Extract<TaskState, { readonly kind: 'Unanswering' }>;

/** Workers as tasks of containerd. */
export class ContainerdRuntime implements ContainerRuntime {
  readonly nodeImages: NodeImages;
  readonly #client: ContainerdClient;
  readonly #network: NodeNetwork;
  readonly #logger: Logger;
  readonly #tasks: TaskControl;
  readonly #images: ImageStore;
  readonly #creation: WorkerCreation;
  readonly #prepared: PrecreatedTasks<MadeWorker>;
  readonly #removal: WorkerRemoval;
  readonly #cgroups: WorkerCgroups;
  readonly #confinement: Isolation;
  readonly #limits: CgroupEvents;
  readonly #logs: WorkerLogs;
  readonly #hosts: HostsFiles;
  readonly #output: OutputProbe;
  readonly #hostPorts: HostPortAllocator;
  readonly #traces: Leftovers;
  readonly #lanes = new KeyedQueue();
  readonly #groups: ShimGroups;
  readonly #settling = new Limiter(SETTLED_AT_ONCE);
  readonly #background: TaskGroup;
  readonly #listeners = new Set<(event: RuntimeEvent) => void>();
  readonly #feed: EventFeed;
  #feeding = false;
  readonly #clock: Clock;
  readonly #observer: RuntimeObserver | undefined;
  #pruneAfter = 0;
  /** Whether the parent of all workers has its limits. */
  #limited = false;
  /** Containers that this run has removed last: those of workers that rest Absent, which a call is to start soon. */
  readonly #removed = new Set<string>();

  constructor(options: ContainerdRuntimeOptions) {
    const { logger, network, runner, socketPath } = options;
    const clock = options.clock ?? systemClock;
    const client =
      options.client ??
      createContainerdClient({ socketPath, namespace: CONTAINERD_NAMESPACE, snapshotter: SNAPSHOTTER });
    const { confinement = {} } = options;
    const cgroups = new WorkerCgroups({
      driver: confinement.cgroupDriver,
      parent: confinement.cgroupParent,
      clock,
    });
    const hostPorts = new HostPortAllocator({
      folder: options.hostPortFolder ?? join(dirname(options.logFolder), 'host-ports'),
      range: options.hostPorts,
    });
    const hosts = new HostsFiles(options.etcHostsFolder);
    const bootId = options.bootId ?? readBootId();
    const logs = new WorkerLogs(options.logFolder, { limits: options.logLimits, runner, clock, logger });
    this.#client = client;
    this.#clock = clock;
    this.#observer = options.observer;
    this.#network = network;
    this.#logger = logger;
    this.#cgroups = cgroups;
    this.#confinement = new Isolation(confinement, () =>
      client.containers.list({ deadlineMs: LIST_DEADLINE_MS }),
    );
    this.#logs = logs;
    this.#hosts = hosts;
    this.#output = new OutputProbe({ logs, clock });
    this.#hostPorts = hostPorts;
    this.#traces = new Leftovers({
      socketPath,
      namespace: CONTAINERD_NAMESPACE,
      runcRoot: options.runcRoot,
      runner,
    });
    this.#background = new TaskGroup((name, error) => {
      logger.warn({ task: name, err: error }, 'a task in the background failed');
    });
    const freezer = new Freezer({ folders: (id) => cgroups.freezerFolders(id), clock });
    this.#tasks = new TaskControl({ client, freezer, clock, logger });
    this.#images = new ImageStore({
      client,
      platform: linuxPlatform(process.arch),
      snapshotter: SNAPSHOTTER,
      hostsFolder: options.hostsFolder,
      maxPulls: options.maxPulls,
      observer: options.observer,
      clock,
      logger,
    });
    this.nodeImages = createNodeImages({ client, store: this.#images, snapshotter: SNAPSHOTTER });
    this.#groups = new ShimGroups(options.workersPerShim ?? 1);
    this.#removal = new WorkerRemoval({
      groups: this.#groups,
      client,
      tasks: this.#tasks,
      network,
      hostPorts,
      cgroups,
      confinement: this.#confinement,
      shims: new OrphanShims({ socketPath, namespace: CONTAINERD_NAMESPACE, clock }),
      logs,
      hosts,
      snapshotter: SNAPSHOTTER,
      runtime: SHIM,
      runcRoot: options.runcRoot,
      bootId,
      clock,
      logger,
    });
    this.#creation = new WorkerCreation({
      groups: this.#groups,
      client,
      images: this.#images,
      network,
      hostPorts,
      removal: this.#removal,
      cgroups,
      confinement: this.#confinement,
      logs,
      removeBundle: (containerId, error) => this.#traces.removeBundle(containerId, error),
      snapshotter: SNAPSHOTTER,
      runtime: SHIM,
      runcRoot: options.runcRoot,
      resolvConfPath: options.resolvConfPath,
      hosts,
      bootId,
      listenDeadlineMs: options.listenDeadlineMs ?? DEFAULT_LISTEN_DEADLINE_MS,
      connect: options.connect ?? tcpConnect,
      observer: options.observer,
      clock,
      logger,
      inBackground: (name, work) => this.#background.run(name, work),
    });
    this.#limits = new CgroupEvents({
      read: (id) => cgroups.limitHits(id),
      onHit: (containerId, limit, count) => {
        logger.warn({ containerId, limit, count }, 'a worker ran into its limit');
        options.observer?.limitReached(limit, count);
        this.#tell({ kind: 'LimitReached', containerId });
      },
      clock,
    });
    this.#prepared = new PrecreatedTasks(this.#creation);
    this.#feed = new EventFeed({
      events: client.events,
      namespace: CONTAINERD_NAMESPACE,
      clock,
      logger,
      listener: (event) => {
        if (event.kind === 'OutOfMemory') {
          this.#limits.hint(event.containerId);
        }
        this.#tell(event);
      },
    });
  }

  async start(options: StartOptions = {}): Promise<void> {
    const deadlineMs = options.deadlineMs ?? START_DEADLINE_MS;
    await withDeadline('starting the runtime', deadlineMs, options.signal, async (signal) => {
      const { capabilities } = await this.#check({ signal });
      await this.#logs.prepare();
      await this.#adoptGroups({ signal });
      this.#logs.watch();
      if (!this.#feeding) {
        this.#feeding = true;
        this.#background.run('following events', (ended) => this.#feed.run(ended));
        this.#background.run('watching limits', (ended) => this.#limits.run(ended));
      }
      await this.#feed.begun;
      options.onObserving?.();
      await this.#confinement.prepare(capabilities);
      await this.#limitAll();
      await this.#network.start({ signal });
    });
  }

  async #adoptGroups(call: CallOptions): Promise<void> {
    const records = await this.#client.containers.list({ deadlineMs: LIST_DEADLINE_MS, ...call });
    this.#groups.adopt(
      records.map(({ id, labels }) => ({ containerId: id, group: labels[containerLabels.shimGroup] ?? '' })),
    );
  }

  async leave(options: CallOptions = {}): Promise<string[]> {
    const clearance = {
      client: this.#client,
      namespace: CONTAINERD_NAMESPACE,
      inventory: (call: CallOptions) => this.inventory(new Set(), call),
      removeContainer: async (containerId: string, call: CallOptions) => {
        await this.destroy(containerId, { ...call, graceSeconds: 0 });
        await this.clear(containerId, call);
      },
      logger: this.#logger,
    };
    const failures = await uninstallContainerd(clearance, options);
    failures.push(...(await this.#network.remove(options)));
    try {
      await this.#cgroups.removeParent();
    } catch (error) {
      failures.push(`control group of the workers: ${messageOf(error)}`);
    }
    return failures;
  }

  async stop(): Promise<void> {
    this.#lanes.cancelAll('the runtime stops');
    await this.#lanes.idle();
    await this.#images.stop();
    await this.#background.stop();
    await this.#logs.stop();
    await this.#network.stop();
    this.#client.close();
  }

  async ensure(request: EnsureRequest, options: CallOptions = {}): Promise<WorkerInfo> {
    const { containerId } = request;
    const call = {
      what: `ensuring ${containerId}`,
      deadlineMs: options.deadlineMs ?? ENSURE_DEADLINE_MS,
      signal: options.signal,
    };
    const kind = `ensure ${request.epoch} ${request.shapeHash}`;
    return await this.#lanes.run(containerId, kind, call, (signal) => this.#ensure(request, signal));
  }

  async prepare(request: EnsureRequest, options: CallOptions = {}): Promise<void> {
    const { containerId } = request;
    const call = {
      what: `preparing ${containerId}`,
      deadlineMs: options.deadlineMs ?? ENSURE_DEADLINE_MS,
      signal: options.signal,
    };
    await this.#lanes.run(containerId, `prepare ${request.shapeHash}`, call, async (signal) => {
      if ((await this.#find(containerId)) === undefined) {
        this.#removed.delete(containerId);
        await this.#prepared.make(request, signal);
      }
    });
  }

  async pause(containerId: string, options: CallOptions = {}): Promise<void> {
    await this.#switch('pause', containerId, options, (signal) => this.#tasks.pause(containerId, signal));
  }

  async resume(containerId: string, options: CallOptions = {}): Promise<void> {
    // Nobody to wait for and nobody to ask: a call is waiting for this.
    const direct = options.signal?.aborted !== true && !this.#lanes.has(containerId);
    const begun = this.#clock.monotonic();
    if (!direct || !this.#tasks.thawDirectly(containerId)) {
      await this.#switch('resume', containerId, options, () => this.#tasks.resume(containerId));
    }
    this.#observer?.stage('thaw', this.#clock.monotonic() - begun);
  }

  async settle(containerId: string, options: CallOptions = {}): Promise<boolean> {
    const call = {
      what: `settling ${containerId}`,
      deadlineMs: options.deadlineMs ?? SETTLE_DEADLINE_MS,
      signal: options.signal,
    };
    try {
      return await this.#lanes.run(containerId, 'settle', call, (ended) => {
        // The lane tells a few steps later that its last caller has left: too late for a call that is about to be sent.
        const signal = options.signal === undefined ? ended : AbortSignal.any([ended, options.signal]);
        return this.#settling.run(() => this.#tasks.settle(containerId, signal), signal);
      });
    } catch (error) {
      if (!hasCode(error, 'Aborted') && !hasCode(error, 'DeadlineExceeded')) {
        throw error;
      }
      // The lane has thawed it when the last one left. That the kernel agrees is read before anybody sends anything.
      if (this.#tasks.isFrozen(containerId)) {
        await this.#switch('resume', containerId, {}, () => this.#tasks.resume(containerId));
      }
      return false;
    }
  }

  async destroy(containerId: string, options: DestroyOptions = {}): Promise<void> {
    const graceMs = (options.graceSeconds ?? DEFAULT_GRACE_SECONDS) * 1000;
    const what = `destroying ${containerId}`;
    const keepLog = options.keepLog === true;
    const kind = `${graceMs === 0 ? 'kill' : 'destroy'}${keepLog ? ', keeping its log' : ''}`;
    this.#lanes.cancel(containerId, (kind) => /^(ensure|prepare) /.test(kind), what);
    const call = {
      what,
      deadlineMs: options.deadlineMs ?? DESTROY_DEADLINE_MS + graceMs,
      signal: options.signal,
    };
    // Once begun it is carried through: half a removal is of no use to anybody.
    await this.#lanes.run(containerId, kind, call, async () => {
      this.#prepared.forget(containerId);
      await this.#removal.remove(containerId, { graceMs, keepLog });
      this.#noteRemoved(containerId);
      this.#limits.reset(containerId);
      // A shim that was killed leaves its socket and what runc had noted.
      await this.#traces.remove(containerId, undefined);
    });
  }

  async inventory(known: ReadonlySet<string>, options: CallOptions = {}): Promise<NodeInventory> {
    const parts = {
      client: this.#client,
      cgroups: this.#cgroups,
      host: this.#traces,
      uidOf: (labels: Readonly<Record<string, string>>) => labels[containerLabels.uid] ?? '',
      snapshotFolder: (call: CallOptions) => this.#snapshotFolder(call),
      writers: () => this.#logs.writers(),
    };
    return await takeNodeInventory(parts, () => this.#lanes.keys(), known, {
      deadlineMs: LIST_DEADLINE_MS,
      ...options,
    });
  }

  async clear(containerId: string, options: ClearOptions = {}): Promise<boolean> {
    const call = {
      what: `clearing up after ${containerId}`,
      deadlineMs: options.deadlineMs ?? DESTROY_DEADLINE_MS,
      signal: options.signal,
    };
    const keepLog = options.keepLog === true;
    return await this.#lanes.run(containerId, keepLog ? 'clear some' : 'clear', call, async () => {
      const short = { deadlineMs: READ_DEADLINE_MS };
      const record = await missingIsUndefined(this.#client.containers.get(containerId, short));
      if (record !== undefined && !isStandIn(record)) {
        return false;
      }
      if (containerId.startsWith(FILES_KEY_PREFIX)) {
        await missingIsUndefined(this.#client.snapshots.remove(containerId, short));
        await missingIsUndefined(this.#client.leases.delete(containerId, short));
        return true;
      }
      this.#prepared.forget(containerId);
      await this.#removal.remove(containerId, { graceMs: 0, keepLog });
      await this.#traces.remove(containerId, await this.#snapshotFolder(short));
      return true;
    });
  }

  kernelState(containerId: string): KernelState {
    return this.#tasks.kernelState(containerId);
  }

  async list(options: CallOptions = {}): Promise<WorkerInfo[]> {
    const deadlineMs = options.deadlineMs ?? LIST_DEADLINE_MS;
    return await withDeadline('listing the workers', deadlineMs, options.signal, (signal) =>
      this.#list(signal),
    );
  }

  async #list(signal: AbortSignal): Promise<WorkerInfo[]> {
    const [records, tasks] = await Promise.all([
      this.#answered(this.#client.containers.list({ signal, deadlineMs: RECORDS_DEADLINE_MS })),
      this.#told(signal),
    ]);
    this.#pruneLogs(new Set(records.map((record) => record.id)));
    const seen = new Map<string, FoundTask>();
    for (const [index, task] of tasks.entries()) {
      if (index % SEEN_AT_ONCE === SEEN_AT_ONCE - 1) {
        // What the kernel says is read synchronously: calls are let in between.
        await setImmediate();
      }
      // A shim that did not answer in time is left out of the list, or told as unknown: it is asked alone.
      if (task.status !== 'UNKNOWN') {
        seen.set(task.containerId, this.#tasks.see(task));
      }
    }
    const asked = new Limiter(ASKED_AT_ONCE);
    const workers = records.filter(isWorker).map(async (record) => {
      const task =
        seen.get(record.id) ??
        (await asked.run(() => this.#ask(record.id, { signal, deadlineMs: ASK_DEADLINE_MS }), signal));
      return await this.#infoOf(record, task);
    });
    return (await Promise.all(workers)).filter(({ containerId }) => !this.#prepared.has(containerId));
  }

  /** What containerd tells of all tasks in one go. Empty where shims that hang take it too long. */
  async #told(signal: AbortSignal): Promise<readonly TaskProcess[]> {
    try {
      return await this.#client.tasks.list({ signal, deadlineMs: TOLD_DEADLINE_MS });
    } catch (error) {
      if (hasCode(error, 'DeadlineExceeded')) {
        return [];
      }
      throw error;
    }
  }

  /** One task, asked alone. */
  async #ask(containerId: string, call: CallOptions): Promise<FoundTask | Unanswering | undefined> {
    try {
      return await this.#tasks.find(containerId, call);
    } catch (error) {
      if (!hasCode(error, 'TaskUnanswering')) {
        throw error;
      }
      return { kind: 'Unanswering', kernel: this.#tasks.kernelState(containerId) };
    }
  }

  /** A question to containerd alone, which no shim can hold up. */
  async #answered<T>(call: Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (error) {
      throw hasCode(error, 'DeadlineExceeded')
        ? new EsbError('containerd does not answer', {
            code: 'RuntimeUnavailable',
            retryable: true,
            cause: error,
          })
        : error;
    }
  }

  async inspect(containerId: string, options: CallOptions = {}): Promise<WorkerInfo | undefined> {
    const found = await this.#find(containerId, options);
    return this.#prepared.has(containerId) ? undefined : found;
  }

  async #find(containerId: string, options: CallOptions = {}): Promise<WorkerInfo | undefined> {
    const call = { deadlineMs: READ_DEADLINE_MS, ...options };
    const [record, task] = await Promise.all([
      this.#answered(missingIsUndefined(this.#client.containers.get(containerId, call))),
      this.#ask(containerId, call),
    ]);
    if (record !== undefined) {
      return await this.#infoOf(record, task);
    }
    const attachment = await this.#network.get(containerId);
    if (attachment === undefined) {
      return undefined;
    }
    return {
      containerId,
      identity: { namespace: '', name: '', uid: '', functionName: '' },
      epoch: 0,
      shapeHash: '',
      image: '',
      task: { kind: 'Missing' },
      createdAt: new Date(0),
    };
  }

  get workerLogs(): WorkerLogReader {
    return this.#logs;
  }

  async readLog(containerId: string, maxBytes: number): Promise<Buffer> {
    return await this.#logs.read(containerId, 0, maxBytes);
  }

  async logOffset(containerId: string): Promise<number> {
    return await this.#logs.size(containerId);
  }

  async readLogSince(containerId: string, offset: number, maxBytes: number): Promise<Buffer> {
    return await this.#logs.read(containerId, offset, maxBytes);
  }

  async isOutputLost(containerId: string, pid: number, options: CallOptions = {}): Promise<boolean> {
    const deadlineMs = options.deadlineMs ?? OUTPUT_DEADLINE_MS;
    return await withDeadline(`checking the output of ${containerId}`, deadlineMs, options.signal, (signal) =>
      this.#output.isLost(containerId, pid, signal),
    );
  }

  async removeLogsOf(uid: string): Promise<void> {
    await this.#logs.removeOf(uid);
  }

  subscribe(listener: (event: RuntimeEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async health(options: CallOptions = {}): Promise<RuntimeHealth> {
    try {
      return { ok: true, version: (await this.#check(options)).version };
    } catch (error) {
      const { code, message } = EsbError.from(error);
      const reason = code === 'RuntimeTooOld' || code === 'SnapshotterMissing' ? code : 'RuntimeUnavailable';
      return { ok: false, reason, message };
    }
  }

  async networkHealth(options: CallOptions = {}): Promise<Health> {
    try {
      return await this.#network.health(options);
    } catch (error) {
      return { ok: false, reason: 'NetworkFailed', message: messageOf(error) };
    }
  }

  async images(options: CallOptions = {}): Promise<string[]> {
    return await this.#images.names({ deadlineMs: LIST_DEADLINE_MS, ...options });
  }

  async #ensure(request: EnsureRequest, signal: AbortSignal): Promise<WorkerInfo> {
    const { containerId } = request;
    const started = await this.#prepared.start(request, signal);
    if (started !== undefined) {
      return started;
    }
    // Of what this run has removed nothing is left, and nobody else makes containers of ours.
    const found = this.#removed.delete(containerId) ? undefined : await this.#find(containerId);
    if (found === undefined || found.identity.uid === '') {
      return await this.#create(request, signal);
    }
    refuseForeign(found.identity.uid, request);
    if (found.task.kind === 'Unanswering') {
      throw new EsbError(`the shim of ${containerId} does not answer`, {
        code: 'TaskUnanswering',
        retryable: true,
      });
    }
    if (!fits(found, request)) {
      this.#logger.info(
        { containerId, task: found.task.kind },
        'what is left of a worker is removed and made anew',
      );
      // What it has of the other mode is of no use to it.
      const wasHosted = found.address?.ip === HOST_MODE_IP;
      const keepNetwork = wasHosted === (request.shape.networkMode === 'Host');
      const graceMs = request.shape.terminationGraceSeconds * 1000;
      await this.#removal.remove(containerId, { graceMs, keepNetwork, keepLog: true });
      return await this.#create(request, signal);
    }
    if (found.task.kind === 'Paused') {
      request.onProgress?.('Resuming');
      await this.#tasks.resume(containerId);
    }
    if (found.epoch !== request.epoch) {
      const labels = { [containerLabels.epoch]: String(request.epoch) };
      await this.#client.containers.setLabels(containerId, labels);
    }
    // An agent that died while it made the worker did not get to see this.
    request.onProgress?.('Starting');
    const { pid } = found.task;
    await this.#creation.waitUntilListening(containerId, { address: found.address, pid }, signal);
    return { ...found, epoch: request.epoch, task: { kind: 'Running', pid } };
  }

  /** Never rejects: a worker is held by its own limits all the same. */
  async #limitAll(): Promise<void> {
    try {
      const { kind } = await this.#confinement.limit();
      this.#limited = kind === 'Limited';
      if (kind === 'InUse') {
        this.#logger.warn('workers hold more memory than they are promised, their common limit waits');
      }
    } catch (error) {
      this.#logger.warn({ err: error }, 'the workers cannot be limited together');
    }
  }

  #noteRemoved(containerId: string): void {
    if (this.#removed.size >= MAX_REMOVED) {
      this.#removed.clear();
    }
    this.#removed.add(containerId);
  }

  async #create(request: EnsureRequest, signal: AbortSignal): Promise<WorkerInfo> {
    this.#limits.reset(request.containerId);
    const info = await this.#creation.create(request, signal);
    this.#limits.watch(request.containerId);
    if (!this.#limited) {
      this.#background.run('limiting the workers together', () => this.#limitAll());
    }
    return info;
  }

  async #switch(
    kind: 'pause' | 'resume',
    containerId: string,
    options: CallOptions,
    work: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const call = {
      what: `${kind === 'pause' ? 'pausing' : 'resuming'} ${containerId}`,
      deadlineMs: options.deadlineMs ?? SWITCH_DEADLINE_MS,
      signal: options.signal,
    };
    await this.#lanes.run(containerId, kind, call, work);
  }

  async #infoOf(record: ContainerRecord, task: FoundTask | Unanswering | undefined): Promise<WorkerInfo> {
    const state: TaskState =
      task !== undefined && 'kernel' in task
        ? task
        : await taskStateOf(
            task,
            async () => this.#limits.isStarved(record.id) || (await this.#cgroups.oomKills(record.id)) > 0,
          );
    if (state.kind === 'Unanswering') {
      return workerInfoOf(record, state);
    }
    if (state.kind === 'Running' || state.kind === 'Paused') {
      this.#limits.watch(record.id);
    } else {
      this.#limits.forget(record.id);
    }
    const limits = this.#limits.of(record.id);
    return { ...workerInfoOf(record, state), ...(limits === undefined ? {} : { limits }) };
  }

  /** The version, and what the snapshotter says it can do. */
  async #check(
    options: CallOptions,
  ): Promise<{ readonly version: string; readonly capabilities: readonly string[] }> {
    const call = { deadlineMs: READ_DEADLINE_MS, ...options };
    const { version } = await this.#client.version.get(call);
    const fault = versionFault(version);
    if (fault !== undefined) {
      throw new EsbError(fault, { code: 'RuntimeTooOld' });
    }
    const filter = `type==io.containerd.snapshotter.v1,id==${SNAPSHOTTER}`;
    const [plugin] = await this.#client.introspection.plugins([filter], call);
    if (plugin === undefined || plugin.error !== undefined) {
      throw new EsbError(
        `containerd has no working ${SNAPSHOTTER} snapshotter: ${plugin?.error ?? 'it is not loaded'}`,
        { code: 'SnapshotterMissing' },
      );
    }
    return { version, capabilities: plugin.capabilities };
  }

  /** Where containerd keeps its snapshots, as it tells itself. */
  async #snapshotFolder(options: CallOptions): Promise<string | undefined> {
    const filter = `type==io.containerd.snapshotter.v1,id==${SNAPSHOTTER}`;
    const [plugin] = await this.#client.introspection.plugins([filter], options);
    return plugin?.exports.root;
  }

  /** Now and then, when it is known anyway what there is. */
  #pruneLogs(containerIds: ReadonlySet<string>): void {
    const now = this.#clock.monotonic();
    if (now < this.#pruneAfter) {
      return;
    }
    this.#pruneAfter = now + PRUNE_EVERY_MS;
    const before = this.#clock.now() - KEEP_LOG_MS;
    this.#background.run('removing old logs', () => this.#logs.prune(containerIds, before));
    this.#background.run('limiting the workers together', () => this.#limitAll());
    this.#background.run('removing old hosts files', () => this.#hosts.prune(containerIds, before));
    this.#background.run('giving ports back', async () => void (await this.#hostPorts.prune(containerIds)));
  }

  #tell(event: RuntimeEvent): void {
    const { containerId, kind } = event;
    if (kind === 'Exited' && this.#prepared.forget(containerId)) {
      this.#background.run('removing a prepared worker that ended', () =>
        this.destroy(containerId, { graceSeconds: 0 }),
      );
    }
    for (const listener of this.#listeners) {
      try {
        listener(event);
      } catch (error) {
        this.#logger.error({ err: error, event: event.kind }, 'a listener to events failed');
      }
    }
  }
}

async function missingIsUndefined<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (hasCode(error, 'NotFound')) {
      return undefined;
    }
    throw error;
  }
}
