import { type CallOptions, during, sleep } from '../../common/deadline.ts';
import { EsbError, hasCode, undefinedIfNotFound } from '../../common/errors.ts';
import type { ContainerService, DockerContainer } from '../../docker/container-service.ts';
import type { DockerClient } from '../../docker/docker-client.ts';
import type { DockerVersion } from '../../docker/system-service.ts';
import { linuxPlatform } from '../../oci/image-config.ts';
import { handlerInItsPlace } from '../../oci/spec-process.ts';
import { isWorker } from '../contract/container-labels.ts';
import type { NodeInventory } from '../contract/inventory.ts';
import type { EnsureRequest, WorkerInfo } from '../contract/runtime.ts';
import type { TmpOfNode } from '../contract/tmp-storage.ts';
import type { WorkerUsage } from '../contract/usage.ts';
import type { WorkerExit } from '../contract/worker-exit-error.ts';
import { placeOf, type WorkerPlace } from '../lifecycle/creation-steps.ts';
import type { EventSubscription } from '../lifecycle/event-subscription.ts';
import type { Freezing, Listing, RemovalRequest, RuntimeBackend } from '../lifecycle/runtime-backend.ts';
import type { RuntimeParts } from '../lifecycle/runtime-parts.ts';
import { type CreationFault, creationStep } from '../start/create-error.ts';
import { withHostPorts } from '../start/host-port.ts';
import type { EpochStore } from './epoch-store.ts';
import { DockerFreezing } from './freezing.ts';
import { type DockerImages, unmanagedImages } from './images.ts';
import { DOCKER_NETWORK, dockerLabelsOf, dockerWorkerInfo, WORKER_LABEL } from './labels.ts';
import type { LogCopier } from './log-copier.ts';
import type { DockerNetworkKeeper } from './network.ts';
import { dockerSpecOf } from './spec.ts';

export interface DockerParts extends RuntimeParts {
  readonly client: DockerClient;
  readonly network: DockerNetworkKeeper;
  readonly images: DockerImages;
  readonly epochs: EpochStore;
  readonly copier: LogCopier;
  readonly feed: EventSubscription;
  readonly oomScoreAdj: number | undefined;
}

const READ_DEADLINE_MS = 10_000;
const LIST_DEADLINE_MS = 60_000;
const STEP_DEADLINE_MS = 60_000;
const REMOVE_DEADLINE_MS = 60_000;
const REMOVE_RETRY_MS = 100;
/** The engine's words for an image whose user is unknown. */
const UNKNOWN_USER = /unable to find (user|group) /;
/** API of Docker 20.10, the first with a control group namespace for each container. */
const OLDEST_API = [1, 41] as const;

/**
 * Workers as containers of a Docker engine. Network, images and freezing are the engine's. Files keep what the engine
 * cannot: how far a log is copied, and a later epoch. Calls that change something are never cut off, since their effect
 * would not be known: a caller that gives up is heard between two calls, and everything made so far is removed.
 */
export class DockerBackend implements RuntimeBackend {
  readonly nodeImages = unmanagedImages;
  readonly freezing: Freezing;
  readonly images: DockerImages;
  readonly network: DockerNetworkKeeper;
  readonly tmp: TmpOfNode = {
    isOnDisk: false,
    storage: () => Promise.resolve({ medium: 'Tmpfs', message: 'Docker gives no container a disk of a fixed size' }),
  };
  /** The engine empties the pipes while its disk is full too, and the copier tries again. */
  readonly canLoseOutput = false;
  readonly #parts: DockerParts;
  readonly #containers: ContainerService;

  constructor(parts: DockerParts) {
    this.#parts = parts;
    this.#containers = parts.client.containers;
    this.freezing = new DockerFreezing(this.#containers, (containerId) => this.#find(containerId));
    this.images = parts.images;
    this.network = parts.network;
  }

  async check(options: CallOptions): Promise<string> {
    const found = await this.#parts.client.system.version({ deadlineMs: READ_DEADLINE_MS, ...options });
    const fault = dockerVersionFault(found);
    if (fault !== undefined) {
      throw new EsbError(fault, { code: 'RuntimeTooOld' });
    }
    return `docker://${found.version}`;
  }

  async restore(options: CallOptions): Promise<void> {
    const { copier, epochs } = this.#parts;
    await copier.prepare();
    await epochs.load();
    for (const { id, name, status } of await this.#all(options)) {
      if (status !== 'created') {
        copier.follow(name, id);
      }
    }
  }

  follow(): Promise<void> {
    const { background, feed } = this.#parts;
    background.run('following events', (signal) => feed.run(signal));
    return feed.begun;
  }

  async prepareNode(options: CallOptions): Promise<void> {
    await this.network.prepare(options);
  }

  async create(request: EnsureRequest, signal: AbortSignal): Promise<WorkerInfo> {
    try {
      return await this.#start(request, await this.#make(request, signal), signal);
    } catch (error) {
      await this.#undo(request.containerId, error);
      throw error;
    }
  }

  async #start(request: EnsureRequest, engineId: string, signal: AbortSignal): Promise<WorkerInfo> {
    const { copier, steps } = this.#parts;
    const { containerId } = request;
    await this.#step('StartFailed', signal, () =>
      steps.observed('start', this.#containers.start(engineId, { deadlineMs: STEP_DEADLINE_MS })),
    );
    copier.follow(containerId, engineId);
    request.onProgress?.('Starting');
    const info = this.#infoOf(await this.#containers.inspect(engineId, { deadlineMs: READ_DEADLINE_MS }));
    const { runtimeInterface, task } = info;
    const pid = task.kind === 'Running' ? task.pid : undefined;
    // An init that has ended may have told why.
    if (pid === undefined && runtimeInterface === 'Emulator') {
      throw await steps.exitError(containerId, await this.#exitOf(containerId, engineId), runtimeInterface);
    }
    const place = placeOf(info, pid ?? 0, request.shape);
    await steps.observed('listen', this.untilReady(containerId, place, signal));
    return info;
  }

  async untilReady(containerId: string, place: WorkerPlace, signal: AbortSignal): Promise<void> {
    const process = {
      exited: (ended: AbortSignal) => this.#containers.wait(containerId, ended),
      exitOf: () => this.#exitOf(containerId, containerId),
      isStarved: () => this.#isStarved(containerId),
    };
    await this.#parts.steps.untilReady(containerId, place, process, signal);
  }

  async find(containerId: string, options: CallOptions = {}): Promise<WorkerInfo | undefined> {
    const found = await this.#find(containerId, options);
    return found === undefined ? undefined : this.#infoOf(found);
  }

  async usage(containerId: string, options: CallOptions): Promise<WorkerUsage | undefined> {
    const usage = await undefinedIfNotFound(this.#containers.usage(containerId, options));
    return usage === undefined ? undefined : { ...usage, takenAt: this.#parts.clock.now() };
  }

  async list(signal: AbortSignal): Promise<Listing> {
    const workers = (await this.#all({ signal })).map((each) => this.#infoOf(each));
    return { workers, containerIds: new Set(workers.map(({ containerId }) => containerId)) };
  }

  async setEpoch(containerId: string, epoch: number): Promise<void> {
    await this.#parts.epochs.set(containerId, epoch);
  }

  /** Removes a worker. A stranger's container of the same name stays. */
  async remove(containerId: string, removal: RemovalRequest): Promise<void> {
    const { copier, epochs, hostPorts, inits, logs } = this.#parts;
    const found = await this.#find(containerId);
    if (found !== undefined) {
      const isAlive = found.status === 'running' || found.status === 'paused';
      if (isAlive && (removal.graceMs > 0 || removal.keepLog === true)) {
        await undefinedIfNotFound(this.#end(found, removal.graceMs));
      }
      // The engine's log goes with the container.
      if (removal.keepLog === true) {
        await copier.drain(containerId);
      }
      await this.#remove(found.id);
    }
    await copier.end(containerId);
    await (removal.keepLog === true ? logs.keep(containerId) : logs.remove(containerId));
    if (removal.keepNetwork !== true) {
      await hostPorts.release(containerId);
    }
    await epochs.forget(containerId);
    await inits?.remove(containerId);
  }

  async has(containerId: string): Promise<boolean> {
    return (await this.#find(containerId)) !== undefined;
  }

  async clear(containerId: string, keepLog: boolean): Promise<void> {
    await this.remove(containerId, { graceMs: 0, keepLog });
  }

  /** The engine removes what its containers leave: nothing is ours but containers, their output and files of inits. */
  async inventory(
    busy: () => Iterable<string>,
    _known: ReadonlySet<string>,
    options: CallOptions,
  ): Promise<NodeInventory> {
    const before = [...busy()];
    const writers = new Set(await this.#parts.logs.writers());
    const initialized = (await this.#parts.inits?.list()) ?? [];
    const workers = (await this.#all(options)).map((each) => this.#infoOf(each));
    return {
      containers: new Set(workers.map(({ containerId }) => containerId)),
      uids: new Set(workers.map(({ identity }) => identity.uid)),
      busy: new Set([...before, ...busy()]),
      traces: initialized.map((containerId) => ({ kind: 'init', containerId })),
      writers,
    };
  }

  async upkeep(): Promise<void> {
    // The engine keeps no files of ours.
  }

  /** Images stay: other users of the engine may have them in use. */
  async leave(
    remove: (containerId: string, options: CallOptions) => Promise<void>,
    options: CallOptions,
  ): Promise<string[]> {
    const left: string[] = [];
    const attempt = async (what: string, work: Promise<void>): Promise<void> => {
      await work.catch((error: unknown) => left.push(during(what, error)));
    };
    const names = (await this.#all(options)).map(({ name }) => name);
    for (const name of new Set([...names, ...((await this.#parts.inits?.list()) ?? [])])) {
      await attempt(`container ${name}`, remove(name, options));
    }
    // The engine refuses while there are workers in the network.
    await attempt(`network ${DOCKER_NETWORK}`, this.network.remove(options));
    return left;
  }

  async stop(): Promise<void> {
    await this.images.stop();
    await this.#parts.copier.stop();
    this.#parts.client.close();
  }

  async #all(options: CallOptions): Promise<DockerContainer[]> {
    return await this.#containers.list(WORKER_LABEL, { deadlineMs: LIST_DEADLINE_MS, ...options });
  }

  /** A container of ours; undefined for none, and for a stranger's of the same name. */
  async #find(containerId: string, options: CallOptions = {}): Promise<DockerContainer | undefined> {
    const call = { deadlineMs: READ_DEADLINE_MS, ...options };
    const found = await undefinedIfNotFound(this.#containers.inspect(containerId, call));
    return found !== undefined && isWorker(found) && found.name === containerId ? found : undefined;
  }

  #infoOf(container: DockerContainer): WorkerInfo {
    return dockerWorkerInfo(container, this.#parts.epochs.of(container.name));
  }

  /** Makes the container of a worker, and returns the engine's id of it. */
  async #make(request: EnsureRequest, signal: AbortSignal): Promise<string> {
    const { copier, hostPorts, images, logs, oomScoreAdj, steps } = this.#parts;
    const { containerId, identity, shape: wanted } = request;
    const { namespace, functionName } = identity;
    const onPulling = (detail?: string): void => request.onProgress?.('Pulling', detail);
    const image = await steps.observed('image', images.obtain(wanted.image, { signal, namespace, onPulling }));
    request.onProgress?.('Creating');
    const shape =
      wanted.networkMode === 'Host'
        ? withHostPorts(wanted, image.config, await hostPorts.allocate(containerId))
        : wanted;
    const init = await this.#step('CreateFailed', signal, () => steps.init(containerId, namespace, shape));
    const container = dockerSpecOf({
      containerId,
      init,
      functionName,
      labels: dockerLabelsOf(request, shape.port, image.byDigest, handlerInItsPlace(wanted, image.config)),
      shape,
      image: image.config,
      architecture: linuxPlatform(process.arch).architecture,
      imageId: image.id,
      oomScoreAdj,
    });
    await copier.end(containerId);
    await this.#step('CreateFailed', signal, () => logs.begin(containerId, identity.uid));
    return await this.#step('CreateFailed', signal, () =>
      steps.observed('create', this.#containers.create(container, { deadlineMs: STEP_DEADLINE_MS })),
    );
  }

  /** SIGTERM, grace, SIGKILL. A frozen process is killed frozen and runs no more. */
  async #end({ id, status }: DockerContainer, graceMs: number): Promise<void> {
    await (status === 'paused' || graceMs === 0
      ? this.#containers.kill(id, { deadlineMs: STEP_DEADLINE_MS })
      : this.#containers.stop(id, graceMs / 1000, { deadlineMs: STEP_DEADLINE_MS + graceMs }));
  }

  /** Removes a container. While another removal is under way the engine refuses: then that one is waited for. */
  async #remove(id: string): Promise<void> {
    const { clock } = this.#parts;
    const deadline = clock.monotonic() + REMOVE_DEADLINE_MS;
    for (;;) {
      try {
        await undefinedIfNotFound(this.#containers.remove(id, { deadlineMs: REMOVE_DEADLINE_MS }));
        return;
      } catch (error) {
        if (!hasCode(error, 'FailedPrecondition') || clock.monotonic() > deadline) {
          throw error;
        }
      }
      await sleep(clock, REMOVE_RETRY_MS);
    }
  }

  async #exitOf(containerId: string, engineId: string): Promise<Omit<WorkerExit, 'output'>> {
    await this.#parts.copier.drain(containerId);
    // The engine learns of an end first, and of the kernel's reason a moment later.
    const found = await this.#containers.inspect(engineId, { deadlineMs: READ_DEADLINE_MS });
    const { exitCode, finishedAt = new Date(this.#parts.clock.now()) } = found;
    return { exitCode, oomKilled: exitCode !== 0 && found.oomKilled, finishedAt };
  }

  async #isStarved(containerId: string): Promise<boolean> {
    const found = await undefinedIfNotFound(
      this.#containers.inspect(containerId, { deadlineMs: READ_DEADLINE_MS }),
    ).catch(() => undefined);
    return found?.oomKilled === true;
  }

  async #step<T>(code: CreationFault, signal: AbortSignal, call: () => Promise<T>): Promise<T> {
    try {
      return await creationStep(code, signal, call);
    } catch (error) {
      const { cause, message } = EsbError.from(error);
      throw UNKNOWN_USER.test(message)
        ? new EsbError(`the image's user is not in its /etc/passwd: ${message}`, { code: 'ImageInvalid', cause })
        : error;
    }
  }

  async #undo(containerId: string, cause: unknown): Promise<void> {
    // The output before the failure of an init may not have been copied yet.
    const unheard = hasCode(cause, 'InitFailed');
    await this.#parts.steps.undo(containerId, cause, (keepLog) =>
      this.remove(containerId, { graceMs: 0, keepLog: keepLog || unheard }),
    );
  }
}

/** The reason why an engine cannot be used; undefined for a usable one. */
export function dockerVersionFault({ apiVersion, os, version }: DockerVersion): string | undefined {
  if (os !== 'linux') {
    return `the engine runs containers of ${os}, and workers are containers of Linux`;
  }
  const [major = 0, minor = 0] = apiVersion.split('.').map(Number);
  return major > OLDEST_API[0] || (major === OLDEST_API[0] && minor >= OLDEST_API[1])
    ? undefined
    : `Docker ${version} is too old: 20.10 is the oldest that can be used`;
}
