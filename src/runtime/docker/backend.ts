import type { CallOptions } from '../../common/deadline.ts';
import { EsbError, messageOf } from '../../common/errors.ts';
import type { Health } from '../../common/health.ts';
import type { DockerContainer } from '../../docker/container-service.ts';
import type { DockerClient } from '../../docker/docker-client.ts';
import type { NodeInventory } from '../contract/inventory.ts';
import type { EnsureRequest, KernelState, WorkerInfo } from '../contract/runtime.ts';
import type { WorkerPlace } from '../lifecycle/creation-steps.ts';
import type { Listing, RemovalRequest, RuntimeBackend } from '../lifecycle/runtime-backend.ts';
import type { RuntimeParts } from '../lifecycle/runtime-parts.ts';
import type { DockerWorkers, MadeDockerWorker } from './containers.ts';
import type { EpochStore } from './epoch-store.ts';
import type { DockerEventFeed } from './events.ts';
import { type DockerImages, unmanagedImages } from './images.ts';
import { DOCKER_NETWORK, dockerWorkerInfo, WORKER_LABEL } from './labels.ts';
import type { LogCopier } from './log-copier.ts';
import type { DockerNetworkKeeper } from './network.ts';
import { dockerVersionFault } from './version.ts';

export interface DockerBackendOptions {
  readonly parts: RuntimeParts;
  readonly client: DockerClient;
  readonly network: DockerNetworkKeeper;
  readonly images: DockerImages;
  readonly epochs: EpochStore;
  readonly copier: LogCopier;
  readonly workers: DockerWorkers;
  readonly feed: DockerEventFeed;
}

const SWITCH_DEADLINE_MS = 30_000;
const READ_DEADLINE_MS = 10_000;
const LIST_DEADLINE_MS = 60_000;

/**
 * Workers as containers of a Docker engine. Network, images and freezing are the engine's. Files keep what the engine
 * cannot: how far a log is copied, and a later epoch.
 */
export class DockerBackend implements RuntimeBackend<MadeDockerWorker> {
  readonly nodeImages = unmanagedImages;
  /** The engine empties the pipes while its disk is full too, and the copier tries again. */
  readonly canLoseOutput = false;
  readonly #options: DockerBackendOptions;

  constructor(options: DockerBackendOptions) {
    this.#options = options;
  }

  get following(): Promise<void> {
    return this.#options.feed.begun;
  }

  async check(options: CallOptions): Promise<string> {
    const call = { deadlineMs: READ_DEADLINE_MS, ...options };
    const found = await this.#options.client.system.version(call);
    const fault = dockerVersionFault(found);
    if (fault !== undefined) {
      throw new EsbError(fault, { code: 'RuntimeTooOld' });
    }
    return `docker://${found.version}`;
  }

  async restore(options: CallOptions): Promise<void> {
    const { copier, epochs } = this.#options;
    await copier.prepare();
    await epochs.load();
    for (const { id, name, status } of await this.#containers(options)) {
      if (status !== 'created') {
        copier.follow(name, id);
      }
    }
  }

  followers(): Readonly<Record<string, (signal: AbortSignal) => Promise<void>>> {
    return { 'following events': (signal) => this.#options.feed.run(signal) };
  }

  async prepareNode(options: CallOptions): Promise<void> {
    await this.#options.network.prepare(options);
  }

  async make(request: EnsureRequest, signal: AbortSignal): Promise<MadeDockerWorker> {
    return await this.#options.workers.make(request, signal);
  }

  async launch(request: EnsureRequest, made: MadeDockerWorker, signal: AbortSignal): Promise<WorkerInfo> {
    return await this.#options.workers.launch(request, made, signal);
  }

  async untilListening(containerId: string, place: WorkerPlace, signal: AbortSignal): Promise<void> {
    await this.#options.workers.untilListening(containerId, place, signal);
  }

  async find(containerId: string, options: CallOptions = {}): Promise<WorkerInfo | undefined> {
    const { epochs, workers } = this.#options;
    const found = await workers.find(containerId, options);
    return found === undefined ? undefined : dockerWorkerInfo(found, epochs.of(containerId));
  }

  async list(signal: AbortSignal): Promise<Listing> {
    const containers = await this.#containers({ signal });
    return {
      workers: containers.map((each) => dockerWorkerInfo(each, this.#options.epochs.of(each.name))),
      containerIds: new Set(containers.map(({ name }) => name)),
    };
  }

  async setEpoch(containerId: string, epoch: number): Promise<void> {
    await this.#options.epochs.set(containerId, epoch);
  }

  async pause(containerId: string): Promise<void> {
    await this.#switch('pause', containerId);
  }

  async resume(containerId: string): Promise<void> {
    await this.#switch('resume', containerId);
  }

  /** Always false: the engine chooses where its control groups are. */
  thawDirectly(): boolean {
    return false;
  }

  kernelState(): KernelState {
    return 'Untold';
  }

  async remove(containerId: string, request: RemovalRequest): Promise<void> {
    await this.#options.workers.remove(containerId, request);
  }

  async has(containerId: string): Promise<boolean> {
    return (await this.#options.workers.find(containerId)) !== undefined;
  }

  async clear(containerId: string, keepLog: boolean): Promise<void> {
    await this.#options.workers.remove(containerId, { graceMs: 0, keepLog });
  }

  /** The engine removes what its containers leave: nothing is ours but containers and their output. */
  async inventory(
    busy: () => Iterable<string>,
    _known: ReadonlySet<string>,
    options: CallOptions,
  ): Promise<NodeInventory> {
    const before = [...busy()];
    const writers = new Set(await this.#options.parts.logs.writers());
    const workers = (await this.#containers(options)).map((each) => dockerWorkerInfo(each, undefined));
    return {
      containers: new Set(workers.map(({ containerId }) => containerId)),
      uids: new Set(workers.map(({ identity }) => identity.uid)),
      busy: new Set([...before, ...busy()]),
      traces: [],
      writers,
    };
  }

  async imageNames(options: CallOptions): Promise<string[]> {
    return await this.#options.images.names(options);
  }

  async networkHealth(options: CallOptions): Promise<Health> {
    return await this.#options.network.health({ deadlineMs: READ_DEADLINE_MS, ...options });
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
      try {
        await work;
      } catch (error) {
        left.push(`${what}: ${messageOf(error)}`);
      }
    };
    for (const { name } of await this.#containers(options)) {
      await attempt(`container ${name}`, remove(name, options));
    }
    // The engine refuses while there are workers in the network.
    await attempt(`network ${DOCKER_NETWORK}`, this.#options.network.remove(options));
    return left;
  }

  async stop(): Promise<void> {
    const { client, copier, images } = this.#options;
    await images.stop();
    await copier.stop();
    client.close();
  }

  /** Freezes or thaws. The engine refuses a repetition and an impossible change in the same words: the state decides. */
  async #switch(kind: 'pause' | 'resume', containerId: string): Promise<void> {
    const { client, workers } = this.#options;
    const wanted = kind === 'pause' ? 'paused' : 'running';
    const opposite = kind === 'pause' ? 'running' : 'paused';
    const before = await workers.find(containerId);
    if (before?.status === wanted) {
      return;
    }
    if (before?.status !== opposite) {
      throw new EsbError(`${containerId} does not run`, { code: 'NotFound' });
    }
    const { containers } = client;
    const call = { deadlineMs: SWITCH_DEADLINE_MS };
    try {
      await (kind === 'pause' ? containers.pause(before.id, call) : containers.unpause(before.id, call));
    } catch (error) {
      const after = await workers.find(containerId);
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
    const call = { deadlineMs: LIST_DEADLINE_MS, ...options };
    return await this.#options.client.containers.list(WORKER_LABEL, call);
  }
}
