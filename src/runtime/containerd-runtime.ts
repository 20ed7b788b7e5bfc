import { containerLabels } from '../api/label.ts';
import type { NodeNetwork } from '../cni/node-network.ts';
import { type Clock, systemClock } from '../common/clock.ts';
import { type CallOptions, withDeadline } from '../common/deadline.ts';
import { EsbError, hasCode, messageOf } from '../common/errors.ts';
import type { Health } from '../common/health.ts';
import type { Logger } from '../common/logger.ts';
import { TaskGroup } from '../common/task-group.ts';
import type { ContainerRecord } from '../containerd/container-service.ts';
import { type ContainerdClient, createContainerdClient } from '../containerd/containerd-client.ts';
import type { TaskProcess } from '../containerd/task-service.ts';
import { linuxPlatform } from '../oci/image-config.ts';
import type {
  ContainerRuntime,
  DestroyOptions,
  EnsureRequest,
  RuntimeEvent,
  RuntimeHealth,
  StartOptions,
  TaskState,
  WorkerInfo,
} from './container-runtime.ts';
import { versionFault } from './containerd-version.ts';
import { EventFeed } from './event-feed.ts';
import { FlightLanes } from './flight-lanes.ts';
import { ImageStore } from './image-store.ts';
import { OrphanShims } from './orphan-shim.ts';
import { type Connect, tcpConnect } from './port-probe.ts';
import { TaskControl } from './task-control.ts';
import { WorkerCgroups } from './worker-cgroup.ts';
import { WorkerCreation } from './worker-creation.ts';
import { WorkerLogs } from './worker-log.ts';
import { isWorker, taskStateOf, workerInfoOf } from './worker-record.ts';
import { WorkerRemoval } from './worker-removal.ts';

export interface ContainerdRuntimeOptions {
  /** Path of containerd's socket, as containerd itself is configured. */
  readonly socketPath: string;
  readonly network: NodeNetwork;
  /** Folder of the workers' output. */
  readonly logFolder: string;
  /** `certs.d`: per-registry settings, read by containerd. */
  readonly hostsFolder?: string | undefined;
  /** Mounted over `/etc/resolv.conf` of every worker. */
  readonly resolvConfPath?: string | undefined;
  /**
   * Where runc keeps its states, on tmpfs. A worker has the same container on whichever node it is, so nodes on one
   * machine need one each. Default: a folder that all daemons of a machine share.
   */
  readonly runcRoot?: string | undefined;
  /** Cgroup above the workers' own. Default `/esb`. */
  readonly cgroupParent?: string | undefined;
  /** `oom_score_adj` of workers. Default: as that of the shim. */
  readonly oomScoreAdj?: number | undefined;
  /** Whether workers' system calls are filtered. Default true. */
  readonly seccomp?: boolean | undefined;
  /** Milliseconds that a started worker may take until its port is open. Default 60,000. */
  readonly listenDeadlineMs?: number | undefined;
  /** How a port is tried. Default TCP from this process. */
  readonly connect?: Connect | undefined;
  /** Default: a client of containerd at `socketPath`. */
  readonly client?: ContainerdClient | undefined;
  readonly clock?: Clock | undefined;
  readonly logger: Logger;
}

/** Everything of ours lives in this namespace of containerd, and nothing else does. */
export const CONTAINERD_NAMESPACE = 'esb';
const SNAPSHOTTER = 'overlayfs';
const SHIM = 'io.containerd.runc.v2';

const ENSURE_DEADLINE_MS = 300_000;
const SWITCH_DEADLINE_MS = 30_000;
/** On top of the grace. */
const DESTROY_DEADLINE_MS = 120_000;
const READ_DEADLINE_MS = 10_000;
/** A thousand shims are asked for their state. */
const LIST_DEADLINE_MS = 60_000;
const START_DEADLINE_MS = 60_000;
const PRUNE_EVERY_MS = 5 * 60_000;
/** Longer than the longest pause between two starts of a worker that fails. */
const KEEP_LOG_MS = 15 * 60_000;
const DEFAULT_GRACE_SECONDS = 10;
const DEFAULT_LISTEN_DEADLINE_MS = 60_000;

/** Workers as tasks of containerd. */
export class ContainerdRuntime implements ContainerRuntime {
  readonly #client: ContainerdClient;
  readonly #network: NodeNetwork;
  readonly #logger: Logger;
  readonly #tasks: TaskControl;
  readonly #images: ImageStore;
  readonly #creation: WorkerCreation;
  readonly #removal: WorkerRemoval;
  readonly #cgroups: WorkerCgroups;
  readonly #logs: WorkerLogs;
  readonly #lanes = new FlightLanes();
  readonly #background: TaskGroup;
  readonly #listeners = new Set<(event: RuntimeEvent) => void>();
  readonly #feed: EventFeed;
  #feeding = false;
  readonly #clock: Clock;
  #pruneAfter = 0;

  constructor(options: ContainerdRuntimeOptions) {
    const { logger, network, socketPath } = options;
    const clock = options.clock ?? systemClock;
    const client =
      options.client ??
      createContainerdClient({ socketPath, namespace: CONTAINERD_NAMESPACE, snapshotter: SNAPSHOTTER });
    const cgroups = new WorkerCgroups({ parent: options.cgroupParent ?? '/esb', clock });
    const logs = new WorkerLogs(options.logFolder);
    this.#client = client;
    this.#clock = clock;
    this.#network = network;
    this.#logger = logger;
    this.#cgroups = cgroups;
    this.#logs = logs;
    this.#background = new TaskGroup((name, error) => {
      logger.warn({ task: name, err: error }, 'a task in the background failed');
    });
    this.#tasks = new TaskControl({ client, cgroups, clock, logger });
    this.#images = new ImageStore({
      client,
      platform: linuxPlatform(process.arch),
      snapshotter: SNAPSHOTTER,
      hostsFolder: options.hostsFolder,
      clock,
      logger,
    });
    this.#removal = new WorkerRemoval({
      client,
      tasks: this.#tasks,
      network,
      cgroups,
      shims: new OrphanShims({ socketPath, namespace: CONTAINERD_NAMESPACE, clock }),
      logs,
      snapshotter: SNAPSHOTTER,
      runtime: SHIM,
      runcRoot: options.runcRoot,
      logger,
    });
    this.#creation = new WorkerCreation({
      client,
      images: this.#images,
      network,
      removal: this.#removal,
      cgroups,
      logs,
      snapshotter: SNAPSHOTTER,
      runtime: SHIM,
      runcRoot: options.runcRoot,
      resolvConfPath: options.resolvConfPath,
      oomScoreAdj: options.oomScoreAdj,
      seccomp: options.seccomp,
      listenDeadlineMs: options.listenDeadlineMs ?? DEFAULT_LISTEN_DEADLINE_MS,
      connect: options.connect ?? tcpConnect,
      clock,
      logger,
      inBackground: (name, work) => this.#background.run(name, work),
    });
    this.#feed = new EventFeed({
      events: client.events,
      namespace: CONTAINERD_NAMESPACE,
      clock,
      logger,
      listener: (event) => this.#tell(event),
    });
  }

  async start(options: StartOptions = {}): Promise<void> {
    const deadlineMs = options.deadlineMs ?? START_DEADLINE_MS;
    await withDeadline('starting the runtime', deadlineMs, options.signal, async (signal) => {
      await this.#check({ signal });
      await this.#logs.prepare();
      if (!this.#feeding) {
        this.#feeding = true;
        this.#background.run('following events', (ended) => this.#feed.run(ended));
      }
      await this.#feed.begun;
      options.onObserving?.();
      await this.#network.start({ signal });
    });
  }

  async stop(): Promise<void> {
    this.#lanes.cancelAll('the runtime stops');
    await this.#lanes.idle();
    await this.#images.stop();
    await this.#background.stop();
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

  async pause(containerId: string, options: CallOptions = {}): Promise<void> {
    await this.#switch('pause', containerId, options, () => this.#tasks.pause(containerId));
  }

  async resume(containerId: string, options: CallOptions = {}): Promise<void> {
    await this.#switch('resume', containerId, options, () => this.#tasks.resume(containerId));
  }

  async destroy(containerId: string, options: DestroyOptions = {}): Promise<void> {
    const graceMs = (options.graceSeconds ?? DEFAULT_GRACE_SECONDS) * 1000;
    const what = `destroying ${containerId}`;
    this.#lanes.cancel(containerId, (kind) => kind.startsWith('ensure '), what);
    const call = {
      what,
      deadlineMs: options.deadlineMs ?? DESTROY_DEADLINE_MS + graceMs,
      signal: options.signal,
    };
    // Once begun it is carried through: half a removal is of no use to anybody.
    await this.#lanes.run(containerId, graceMs === 0 ? 'kill' : 'destroy', call, () =>
      this.#removal.remove(containerId, { graceMs }),
    );
  }

  async list(options: CallOptions = {}): Promise<WorkerInfo[]> {
    const call = { deadlineMs: LIST_DEADLINE_MS, ...options };
    const [records, tasks] = await Promise.all([
      this.#client.containers.list(call),
      this.#client.tasks.list(call),
    ]);
    this.#pruneLogs(new Set(records.map((record) => record.id)));
    const byId = new Map(tasks.map((task) => [task.containerId, task]));
    const workers = records.filter(isWorker).map(async (record) => {
      const task = byId.get(record.id);
      // A shim that did not answer in time is left out of the list, or told as unknown: it is asked alone.
      const clear = task !== undefined && task.status !== 'UNKNOWN';
      return await this.#infoOf(record, clear ? task : await this.#tasks.find(record.id));
    });
    return await Promise.all(workers);
  }

  async inspect(containerId: string, options: CallOptions = {}): Promise<WorkerInfo | undefined> {
    const call = { deadlineMs: READ_DEADLINE_MS, ...options };
    const [record, task] = await Promise.all([
      missingIsUndefined(this.#client.containers.get(containerId, call)),
      this.#tasks.find(containerId, call),
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

  async readLog(containerId: string, maxBytes: number): Promise<Buffer> {
    return await this.#logs.read(containerId, 0, maxBytes);
  }

  async logOffset(containerId: string): Promise<number> {
    return await this.#logs.size(containerId);
  }

  async readLogSince(containerId: string, offset: number, maxBytes: number): Promise<Buffer> {
    return await this.#logs.read(containerId, offset, maxBytes);
  }

  subscribe(listener: (event: RuntimeEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async health(options: CallOptions = {}): Promise<RuntimeHealth> {
    try {
      return { ok: true, version: await this.#check(options) };
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
    const found = await this.inspect(containerId);
    if (found === undefined || found.identity.uid === '') {
      return await this.#creation.create(request, signal);
    }
    if (!fits(found, request)) {
      this.#logger.info(
        { containerId, task: found.task.kind },
        'what is left of a worker is removed and made anew',
      );
      const keepNetwork = request.shape.networkMode === 'Bridge';
      const graceMs = request.shape.terminationGraceSeconds * 1000;
      await this.#removal.remove(containerId, { graceMs, keepNetwork, keepLog: true });
      return await this.#creation.create(request, signal);
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
    await this.#creation.waitUntilListening(containerId, found.address, signal);
    return { ...found, epoch: request.epoch, task: { kind: 'Running', pid: found.task.pid } };
  }

  async #switch(
    kind: 'pause' | 'resume',
    containerId: string,
    options: CallOptions,
    work: () => Promise<void>,
  ): Promise<void> {
    const call = {
      what: `${kind === 'pause' ? 'pausing' : 'resuming'} ${containerId}`,
      deadlineMs: options.deadlineMs ?? SWITCH_DEADLINE_MS,
      signal: options.signal,
    };
    await this.#lanes.run(containerId, kind, call, work);
  }

  async #infoOf(record: ContainerRecord, task: TaskProcess | undefined): Promise<WorkerInfo> {
    const state: TaskState = await taskStateOf(
      task,
      async () => (await this.#cgroups.oomKills(record.id)) > 0,
    );
    return workerInfoOf(record, state);
  }

  /** Returns the version. */
  async #check(options: CallOptions): Promise<string> {
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
    return version;
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
  }

  #tell(event: RuntimeEvent): void {
    for (const listener of this.#listeners) {
      try {
        listener(event);
      } catch (error) {
        this.#logger.error({ err: error, event: event.kind }, 'a listener to events failed');
      }
    }
  }
}

type LiveWorker = WorkerInfo & {
  readonly address: NonNullable<WorkerInfo['address']>;
  readonly task: Extract<TaskState, { kind: 'Running' | 'Paused' }>;
};

/** Whether a container can be used as it is, at most thawed. */
function fits(found: WorkerInfo, request: EnsureRequest): found is LiveWorker {
  const alive = found.task.kind === 'Running' || found.task.kind === 'Paused';
  return (
    alive &&
    found.address !== undefined &&
    found.shapeHash === request.shapeHash &&
    found.identity.uid === request.identity.uid
  );
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
