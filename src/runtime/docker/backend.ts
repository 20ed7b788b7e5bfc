import type { CallOptions } from '../../common/deadline.ts';
import { EsbError, messageOf } from '../../common/errors.ts';
import type { DockerContainer } from '../../docker/container-service.ts';
import type { DockerClient } from '../../docker/docker-client.ts';
import type { NodeInventory } from '../contract/inventory.ts';
import type { EnsureRequest, WorkerInfo } from '../contract/runtime.ts';
import type { WorkerPlace } from '../lifecycle/creation-steps.ts';
import type { Freezing, Listing, RemovalRequest, RuntimeBackend } from '../lifecycle/runtime-backend.ts';
import type { RuntimeParts } from '../lifecycle/runtime-parts.ts';
import type { DockerWorkers, MadeDockerWorker } from './containers.ts';
import type { EpochStore } from './epoch-store.ts';
import type { DockerEventFeed } from './events.ts';
import { DockerFreezing } from './freezing.ts';
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

const READ_DEADLINE_MS = 10_000;
const LIST_DEADLINE_MS = 60_000;

/**
 * Workers as containers of a Docker engine. Network, images and freezing are the engine's. Files keep what the engine
 * cannot: how far a log is copied, and a later epoch.
 */
export class DockerBackend implements RuntimeBackend<MadeDockerWorker> {
  readonly nodeImages = unmanagedImages;
  readonly freezing: Freezing;
  readonly images: DockerImages;
  readonly network: DockerNetworkKeeper;
  /** The engine empties the pipes while its disk is full too, and the copier tries again. */
  readonly canLoseOutput = false;
  readonly #options: DockerBackendOptions;

  constructor(options: DockerBackendOptions) {
    this.#options = options;
    this.freezing = new DockerFreezing(options.client.containers, options.workers);
    this.images = options.images;
    this.network = options.network;
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

  async #containers(options: CallOptions): Promise<DockerContainer[]> {
    const call = { deadlineMs: LIST_DEADLINE_MS, ...options };
    return await this.#options.client.containers.list(WORKER_LABEL, call);
  }
}
