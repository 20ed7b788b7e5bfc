import { dirname, join } from 'node:path';
import { type Clock, systemClock } from '../../common/clock.ts';
import { type CallOptions, withDeadline } from '../../common/deadline.ts';
import { EsbError, messageOf } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import type { Health } from '../../common/health.ts';
import { KeyedQueue } from '../../common/keyed-queue.ts';
import type { Logger } from '../../common/logger.ts';
import { TaskGroup } from '../../common/task-group.ts';
import type { DockerContainer } from '../../docker/container-service.ts';
import { createDockerClient, type DockerClient } from '../../docker/docker-client.ts';
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
  KernelState,
  RuntimeEvent,
  RuntimeHealth,
  StartOptions,
  WorkerInfo,
} from '../contract/runtime.ts';
import type { LogLimits } from '../logs/log-layout.ts';
import { WorkerLogs } from '../logs/worker-logs.ts';
import { HostPortAllocator, type HostPortRange } from '../start/host-port-allocator.ts';
import { type Connect, tcpConnect } from '../start/port-probe.ts';
import { DockerWorkers, type MadeDockerWorker } from './containers.ts';
import { EpochStore } from './epoch-store.ts';
import { DockerEventFeed } from './events.ts';
import { DockerImages, unmanagedImages } from './images.ts';
import { DOCKER_NETWORK, dockerWorkerInfo, WORKER_LABEL } from './labels.ts';
import { LogCopier } from './log-copier.ts';
import { DockerNetworkKeeper } from './network.ts';
import { dockerVersionFault } from './version.ts';

export interface DockerRuntimeOptions {
  /** Path of the engine's socket. */
  readonly socketPath: string;
  /** Folder of the workers' output. */
  readonly logFolder: string;
  /** What the engine cannot keep of a container. Default: `docker` beside the folder of the output. */
  readonly notesFolder?: string | undefined;
  /** Where it is written down which worker has which ports of the node. Default: beside the folder of the output. */
  readonly hostPortFolder?: string | undefined;
  /** Ports that workers in `Host` mode may be given. Default 25000 to 26999. */
  readonly hostPorts?: HostPortRange | undefined;
  /** How much of a worker's output is kept. Default five files of 10 MiB. */
  readonly logLimits?: LogLimits | undefined;
  /** Images of one registry that are pulled at the same time. Default 3. */
  readonly maxPulls?: number | undefined;
  readonly observer?: RuntimeObserver | undefined;
  /** How much sooner than others the kernel ends a worker when memory is short, 0 to 1000. Default: as the engine has it. */
  readonly oomScoreAdj?: number | undefined;
  /** Milliseconds that a started worker may take until its port is open. Default 60,000. */
  readonly listenDeadlineMs?: number | undefined;
  /** How a port is tried. Default TCP from this process. */
  readonly connect?: Connect | undefined;
  /** Default: a client of the engine at `socketPath`. */
  readonly client?: DockerClient | undefined;
  /** Runs the programs of the operating system. Default: as children of this process. */
  readonly runner?: CommandRunner | undefined;
  readonly clock?: Clock | undefined;
  readonly logger: Logger;
}

const ENSURE_DEADLINE_MS = 300_000;
const SWITCH_DEADLINE_MS = 30_000;
/** On top of the grace. */
const DESTROY_DEADLINE_MS = 180_000;
const READ_DEADLINE_MS = 10_000;
const LIST_DEADLINE_MS = 60_000;
const START_DEADLINE_MS = 60_000;
const DEFAULT_LISTEN_DEADLINE_MS = 60_000;
const DEFAULT_GRACE_SECONDS = 10;
const PRUNE_EVERY_MS = 5 * 60_000;
/** For whoever is to find out why a container was removed, and longer than any pause between two starts. */
const KEEP_LOG_MS = 60 * 60_000;

/**
 * Workers as containers of a Docker engine, for machines where that is what there is. Network, images and freezing are the
 * engine's; what it cannot keep (how far a log is copied, a later epoch) is kept in files.
 */
export class DockerRuntime implements ContainerRuntime {
  readonly nodeImages: NodeImages = unmanagedImages;
  readonly #client: DockerClient;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #observer: RuntimeObserver | undefined;
  readonly #network: DockerNetworkKeeper;
  readonly #images: DockerImages;
  readonly #hostPorts: HostPortAllocator;
  readonly #epochs: EpochStore;
  readonly #logs: WorkerLogs;
  readonly #copier: LogCopier;
  readonly #workers: DockerWorkers;
  readonly #prepared: PrecreatedTasks<MadeDockerWorker>;
  readonly #lanes = new KeyedQueue();
  readonly #background: TaskGroup;
  readonly #listeners = new Set<(event: RuntimeEvent) => void>();
  readonly #feed: DockerEventFeed;
  #feeding = false;
  #pruneAfter = 0;

  constructor(options: DockerRuntimeOptions) {
    const { logger, logFolder, observer } = options;
    const clock = options.clock ?? systemClock;
    const client = options.client ?? createDockerClient({ socketPath: options.socketPath, clock });
    const notes = options.notesFolder ?? join(dirname(logFolder), 'docker');
    this.#client = client;
    this.#clock = clock;
    this.#logger = logger;
    this.#observer = observer;
    this.#network = new DockerNetworkKeeper(client.networks);
    this.#images = new DockerImages({
      images: client.images,
      maxPulls: options.maxPulls,
      observer,
      clock,
      logger,
    });
    this.#hostPorts = new HostPortAllocator({
      folder: options.hostPortFolder ?? join(dirname(logFolder), 'host-ports'),
      range: options.hostPorts,
    });
    this.#epochs = new EpochStore(join(notes, 'epochs'));
    this.#logs = new WorkerLogs(logFolder, {
      limits: options.logLimits,
      runner: options.runner,
      clock,
      logger,
    });
    this.#copier = new LogCopier({
      containers: client.containers,
      logs: this.#logs,
      folder: join(notes, 'copied'),
      clock,
      logger,
    });
    this.#workers = new DockerWorkers({
      containers: client.containers,
      images: this.#images,
      hostPorts: this.#hostPorts,
      epochs: this.#epochs,
      logs: this.#logs,
      copier: this.#copier,
      oomScoreAdj: options.oomScoreAdj,
      listenDeadlineMs: options.listenDeadlineMs ?? DEFAULT_LISTEN_DEADLINE_MS,
      connect: options.connect ?? tcpConnect,
      observer,
      clock,
      logger,
    });
    this.#prepared = new PrecreatedTasks(this.#workers);
    this.#background = new TaskGroup((name, error) => {
      logger.warn({ task: name, err: error }, 'a task in the background failed');
    });
    this.#feed = new DockerEventFeed({
      events: client.events,
      listener: (event) => this.#tell(event),
      clock,
      logger,
    });
  }

  async start(options: StartOptions = {}): Promise<void> {
    const deadlineMs = options.deadlineMs ?? START_DEADLINE_MS;
    await withDeadline('starting the runtime', deadlineMs, options.signal, async (signal) => {
      await this.#check({ signal });
      await this.#logs.prepare();
      await this.#copier.prepare();
      await this.#epochs.load();
      this.#logs.watch();
      if (!this.#feeding) {
        this.#feeding = true;
        this.#background.run('following events', (ended) => this.#feed.run(ended));
      }
      await this.#feed.begun;
      for (const container of await this.#containers({ signal })) {
        if (container.status !== 'created') {
          this.#copier.follow(container.name, container.id);
        }
      }
      options.onObserving?.();
      await this.#network.prepare({ signal });
    });
  }

  async stop(): Promise<void> {
    this.#lanes.cancelAll('the runtime stops');
    await this.#lanes.idle();
    await this.#images.stop();
    await this.#background.stop();
    await this.#copier.stop();
    await this.#logs.stop();
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
      if ((await this.#workers.find(containerId)) === undefined) {
        await this.#prepared.make(request, signal);
      }
    });
  }

  async pause(containerId: string, options: CallOptions = {}): Promise<void> {
    await this.#switch('pause', containerId, options);
  }

  async resume(containerId: string, options: CallOptions = {}): Promise<void> {
    const begun = this.#clock.monotonic();
    await this.#switch('resume', containerId, options);
    this.#observer?.stage('thaw', this.#clock.monotonic() - begun);
  }

  /** The engine thaws by itself, so it knows. */
  settle(): Promise<boolean> {
    return Promise.resolve(true);
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
      await this.#workers.remove(containerId, { graceMs, keepLog });
    });
  }

  /** The engine looks after what its containers leave: there is nothing of ours but them and their output. */
  async inventory(_known: ReadonlySet<string>, options: CallOptions = {}): Promise<NodeInventory> {
    const before = [...this.#lanes.keys()];
    const writers = new Set(await this.#logs.writers());
    const workers = (await this.#containers(options)).map((each) => dockerWorkerInfo(each, undefined));
    return {
      containers: new Set(workers.map(({ containerId }) => containerId)),
      uids: new Set(workers.map(({ identity }) => identity.uid)),
      busy: new Set([...before, ...this.#lanes.keys()]),
      traces: [],
      writers,
    };
  }

  async clear(containerId: string, options: ClearOptions = {}): Promise<boolean> {
    const call = {
      what: `clearing up after ${containerId}`,
      deadlineMs: options.deadlineMs ?? DESTROY_DEADLINE_MS,
      signal: options.signal,
    };
    const keepLog = options.keepLog === true;
    return await this.#lanes.run(containerId, keepLog ? 'clear some' : 'clear', call, async () => {
      if ((await this.#workers.find(containerId)) !== undefined) {
        return false;
      }
      this.#prepared.forget(containerId);
      await this.#workers.remove(containerId, { graceMs: 0, keepLog });
      return true;
    });
  }

  /** Images stay: they may be in use by whoever else has the engine. */
  async leave(options: CallOptions = {}): Promise<string[]> {
    const left: string[] = [];
    const attempt = async (what: string, work: Promise<void>): Promise<void> => {
      try {
        await work;
      } catch (error) {
        left.push(`${what}: ${messageOf(error)}`);
      }
    };
    for (const { name } of await this.#containers(options)) {
      await attempt(`container ${name}`, this.destroy(name, { ...options, graceSeconds: 0 }));
    }
    // With workers on it the engine refuses.
    await attempt(`network ${DOCKER_NETWORK}`, this.#network.remove(options));
    return left;
  }

  /** The engine decides where its control groups are. */
  kernelState(): KernelState {
    return 'Untold';
  }

  async list(options: CallOptions = {}): Promise<WorkerInfo[]> {
    const containers = await this.#containers(options);
    this.#pruneLogs(new Set(containers.map(({ name }) => name)));
    return containers
      .filter(({ name }) => !this.#prepared.has(name))
      .map((container) => dockerWorkerInfo(container, this.#epochs.of(container.name)));
  }

  async inspect(containerId: string, options: CallOptions = {}): Promise<WorkerInfo | undefined> {
    const deadlineMs = options.deadlineMs ?? READ_DEADLINE_MS;
    const found = await withDeadline(`inspecting ${containerId}`, deadlineMs, options.signal, (signal) =>
      this.#workers.find(containerId, signal),
    );
    return found === undefined || this.#prepared.has(containerId)
      ? undefined
      : dockerWorkerInfo(found, this.#epochs.of(containerId));
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

  /** The engine empties the pipes also while it can write nothing, and what we could not copy is copied later. */
  isOutputLost(): Promise<boolean> {
    return Promise.resolve(false);
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
      return { ok: true, version: `docker://${await this.#check(options)}` };
    } catch (error) {
      const { code, message } = EsbError.from(error);
      return { ok: false, reason: code === 'RuntimeTooOld' ? code : 'RuntimeUnavailable', message };
    }
  }

  async networkHealth(options: CallOptions = {}): Promise<Health> {
    return await this.#network.health({ deadlineMs: READ_DEADLINE_MS, ...options });
  }

  async images(options: CallOptions = {}): Promise<string[]> {
    return await this.#images.names({ deadlineMs: LIST_DEADLINE_MS, ...options });
  }

  async #ensure(request: EnsureRequest, signal: AbortSignal): Promise<WorkerInfo> {
    const { containerId, epoch } = request;
    const started = await this.#prepared.start(request, signal);
    if (started !== undefined) {
      return started;
    }
    const container = await this.#workers.find(containerId);
    if (container === undefined) {
      return await this.#workers.create(request, signal);
    }
    const found = dockerWorkerInfo(container, this.#epochs.of(containerId));
    refuseForeign(found.identity.uid, request);
    if (!fits(found, request)) {
      this.#logger.info(
        { containerId, task: found.task.kind },
        'what is left of a worker is removed and made anew',
      );
      const graceMs = request.shape.terminationGraceSeconds * 1000;
      await this.#workers.remove(containerId, { graceMs, keepLog: true, keepPorts: true });
      return await this.#workers.create(request, signal);
    }
    if (found.task.kind === 'Paused') {
      request.onProgress?.('Resuming');
      await this.#turn('resume', containerId);
    }
    if (found.epoch !== epoch) {
      await this.#epochs.set(containerId, epoch);
    }
    this.#copier.follow(containerId, container.id);
    // An agent that died while it made the worker did not get to see this.
    request.onProgress?.('Starting');
    const { pid } = found.task;
    await this.#workers.waitUntilListening(containerId, { address: found.address, pid }, signal);
    return { ...found, epoch, task: { kind: 'Running', pid } };
  }

  async #switch(kind: 'pause' | 'resume', containerId: string, options: CallOptions): Promise<void> {
    const call = {
      what: `${kind === 'pause' ? 'pausing' : 'resuming'} ${containerId}`,
      deadlineMs: options.deadlineMs ?? SWITCH_DEADLINE_MS,
      signal: options.signal,
    };
    await this.#lanes.run(containerId, kind, call, () => this.#turn(kind, containerId));
  }

  /**
   * Freezes or thaws. The engine refuses what is done already with the same words as what cannot be done, so the state
   * decides.
   */
  async #turn(kind: 'pause' | 'resume', containerId: string): Promise<void> {
    const wanted = kind === 'pause' ? 'paused' : 'running';
    const opposite = kind === 'pause' ? 'running' : 'paused';
    const before = await this.#workers.find(containerId);
    if (before?.status === wanted) {
      return;
    }
    if (before?.status !== opposite) {
      throw new EsbError(`${containerId} does not run`, { code: 'NotFound' });
    }
    const { containers } = this.#client;
    const call = { deadlineMs: SWITCH_DEADLINE_MS };
    try {
      await (kind === 'pause' ? containers.pause(before.id, call) : containers.unpause(before.id, call));
    } catch (error) {
      const after = await this.#workers.find(containerId);
      if (after?.status === wanted) {
        return;
      }
      if (after?.status !== opposite) {
        throw new EsbError(`${containerId} does not run any more`, { code: 'NotFound', cause: error });
      }
      throw error;
    }
  }

  async #containers(options: CallOptions): Promise<DockerContainer[]> {
    return await this.#client.containers.list(WORKER_LABEL, { deadlineMs: LIST_DEADLINE_MS, ...options });
  }

  async #check(options: CallOptions): Promise<string> {
    const found = await this.#client.system.version({ deadlineMs: READ_DEADLINE_MS, ...options });
    const fault = dockerVersionFault(found);
    if (fault !== undefined) {
      throw new EsbError(fault, { code: 'RuntimeTooOld' });
    }
    return found.version;
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
        this.#logger.error({ err: error, event: kind }, 'a listener to events failed');
      }
    }
  }
}
