import { setImmediate } from 'node:timers/promises';
import { containerLabels } from '../../api/label.ts';
import type { NodeNetwork } from '../../cni/contract.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { EsbError, hasCode, messageOf, undefinedIfNotFound } from '../../common/errors.ts';
import { Limiter } from '../../common/limiter.ts';
import type { ContainerRecord } from '../../containerd/container-service.ts';
import type { ContainerdClient } from '../../containerd/containerd-client.ts';
import type { Plugin } from '../../containerd/introspection-service.ts';
import type { TaskProcess } from '../../containerd/task-service.ts';
import { isWorker, taskStateOf, workerInfoOf } from '../contract/container-labels.ts';
import type { NodeImages } from '../contract/images.ts';
import type { NodeInventory } from '../contract/inventory.ts';
import type { EnsureRequest, FoundTask, TaskState, WorkerInfo } from '../contract/runtime.ts';
import type { ImageStore } from '../images/image-store.ts';
import { FILES_KEY_PREFIX } from '../images/user-files.ts';
import type { WorkerPlace } from '../lifecycle/creation-steps.ts';
import type { Freezing, Listing, RemovalRequest, RuntimeBackend } from '../lifecycle/runtime-backend.ts';
import type { RuntimeParts } from '../lifecycle/runtime-parts.ts';
import type { CgroupEvents } from './cgroup-events.ts';
import type { WorkerCgroups } from './cgroups.ts';
import type { MadeWorker, WorkerCreation } from './create.ts';
import type { EventFeed } from './events.ts';
import type { HostsFiles } from './hosts-files.ts';
import { takeNodeInventory } from './inventory.ts';
import type { Isolation } from './isolation.ts';
import type { Leftovers } from './leftovers.ts';
import { isStandIn, type WorkerRemoval } from './remove.ts';
import type { ShimGroups } from './shim-groups.ts';
import type { TaskControl } from './task.ts';
import { uninstallContainerd } from './uninstall.ts';
import { versionFault } from './version.ts';

export interface ContainerdBackendOptions {
  readonly parts: RuntimeParts;
  readonly client: ContainerdClient;
  /** Namespace of containerd that holds nothing but ours. */
  readonly namespace: string;
  readonly snapshotter: string;
  readonly network: NodeNetwork;
  readonly images: ImageStore;
  readonly nodeImages: NodeImages;
  readonly tasks: TaskControl;
  readonly creation: WorkerCreation;
  readonly removal: WorkerRemoval;
  readonly cgroups: WorkerCgroups;
  readonly isolation: Isolation;
  readonly limits: CgroupEvents;
  readonly hosts: HostsFiles;
  readonly leftovers: Leftovers;
  readonly groups: ShimGroups;
  readonly feed: EventFeed;
}

/** Tasks whose freezer is read without a pause, at about 20 microseconds each. */
const SEEN_AT_ONCE = 50;
const READ_DEADLINE_MS = 10_000;
/** A thousand shims are asked for their state. */
const LIST_DEADLINE_MS = 60_000;
/** The records of a thousand containers, which containerd has at hand. */
const RECORDS_DEADLINE_MS = 15_000;
/** containerd asks one shim after the other and gives each 2 s. Five that hang are not waited for. */
const TOLD_DEADLINE_MS = 10_000;
/** Deadline for a task that the list left out. Longer than the 2 s that containerd gives its shim. */
const ASK_DEADLINE_MS = 4_000;
const ASKED_AT_ONCE = 16;

type Unanswering = Extract<TaskState, { readonly kind: 'Unanswering' }>;

/** Workers as tasks of containerd. */
export class ContainerdBackend implements RuntimeBackend<MadeWorker> {
  readonly nodeImages: NodeImages;
  readonly freezing: Freezing;
  readonly images: ImageStore;
  readonly network: NodeNetwork;
  readonly canLoseOutput = true;
  readonly #options: ContainerdBackendOptions;
  /** Whether the parent of all workers has its limits. */
  #isLimited = false;

  constructor(options: ContainerdBackendOptions) {
    this.#options = options;
    this.nodeImages = options.nodeImages;
    this.freezing = options.tasks;
    this.images = options.images;
    this.network = options.network;
  }

  get following(): Promise<void> {
    return this.#options.feed.begun;
  }

  async check(options: CallOptions): Promise<string> {
    const { client, snapshotter } = this.#options;
    const call = { deadlineMs: READ_DEADLINE_MS, ...options };
    const { version } = await client.version.get(call);
    const fault = versionFault(version);
    if (fault !== undefined) {
      throw new EsbError(fault, { code: 'RuntimeTooOld' });
    }
    const plugin = await this.#snapshotterPlugin(call);
    if (plugin === undefined || plugin.error !== undefined) {
      throw new EsbError(
        `containerd has no working ${snapshotter} snapshotter: ${plugin?.error ?? 'it is not loaded'}`,
        { code: 'SnapshotterMissing' },
      );
    }
    return version;
  }

  async restore(options: CallOptions): Promise<void> {
    const { client, groups } = this.#options;
    const records = await client.containers.list({ deadlineMs: LIST_DEADLINE_MS, ...options });
    groups.adopt(
      records.map(({ id, labels }) => ({ containerId: id, group: labels[containerLabels.shimGroup] ?? '' })),
    );
  }

  followers(): Readonly<Record<string, (signal: AbortSignal) => Promise<void>>> {
    const { feed, limits } = this.#options;
    return {
      'following events': (signal) => feed.run(signal),
      'watching limits': (signal) => limits.run(signal),
    };
  }

  async prepareNode(options: CallOptions): Promise<void> {
    const plugin = await this.#snapshotterPlugin({ deadlineMs: READ_DEADLINE_MS, ...options });
    await this.#options.isolation.prepare(plugin?.capabilities ?? []);
    await this.#limitAll();
    await this.#options.network.start(options);
  }

  async make(request: EnsureRequest, signal: AbortSignal): Promise<MadeWorker> {
    this.#options.limits.reset(request.containerId);
    return await this.#options.creation.make(request, signal);
  }

  async launch(request: EnsureRequest, made: MadeWorker, signal: AbortSignal): Promise<WorkerInfo> {
    const { creation, limits, parts } = this.#options;
    const info = await creation.launch(request, made, signal);
    limits.watch(request.containerId);
    if (!this.#isLimited) {
      parts.background.run('limiting the workers together', () => this.#limitAll());
    }
    return info;
  }

  async untilListening(containerId: string, place: WorkerPlace, signal: AbortSignal): Promise<void> {
    await this.#options.creation.untilListening(containerId, place, signal);
  }

  async setEpoch(containerId: string, epoch: number): Promise<void> {
    const labels = { [containerLabels.epoch]: String(epoch) };
    await this.#options.client.containers.setLabels(containerId, labels);
  }

  async remove(containerId: string, request: RemovalRequest): Promise<void> {
    const { leftovers, limits, removal } = this.#options;
    await removal.remove(containerId, request);
    limits.reset(containerId);
    // A shim that was killed leaves its socket and runc's state.
    await leftovers.remove(containerId, undefined);
  }

  async has(containerId: string): Promise<boolean> {
    const { containers } = this.#options.client;
    const record = await undefinedIfNotFound(containers.get(containerId, { deadlineMs: READ_DEADLINE_MS }));
    return record !== undefined && !isStandIn(record);
  }

  async clear(containerId: string, keepLog: boolean): Promise<void> {
    const { client, leftovers, removal } = this.#options;
    const call = { deadlineMs: READ_DEADLINE_MS };
    if (containerId.startsWith(FILES_KEY_PREFIX)) {
      await undefinedIfNotFound(client.snapshots.remove(containerId, call));
      await undefinedIfNotFound(client.leases.delete(containerId, call));
      return;
    }
    await removal.remove(containerId, { graceMs: 0, keepLog });
    await leftovers.remove(containerId, await this.#snapshotFolder(call));
  }

  async inventory(
    busy: () => Iterable<string>,
    known: ReadonlySet<string>,
    options: CallOptions,
  ): Promise<NodeInventory> {
    const { cgroups, client, leftovers, parts } = this.#options;
    const sources = {
      client,
      cgroups,
      host: leftovers,
      uidOf: (labels: Readonly<Record<string, string>>) => labels[containerLabels.uid] ?? '',
      snapshotFolder: (call: CallOptions) => this.#snapshotFolder(call),
      writers: () => parts.logs.writers(),
    };
    return await takeNodeInventory(sources, busy, known, options);
  }

  async list(signal: AbortSignal): Promise<Listing> {
    const { client, tasks } = this.#options;
    const [records, told] = await Promise.all([
      answered(client.containers.list({ signal, deadlineMs: RECORDS_DEADLINE_MS })),
      this.#toldTasks(signal),
    ]);
    const seen = new Map<string, FoundTask>();
    for (const [index, task] of told.entries()) {
      if (index % SEEN_AT_ONCE === SEEN_AT_ONCE - 1) {
        // The kernel's files are read synchronously: calls are let in between.
        await setImmediate();
      }
      // containerd leaves out a shim that did not answer in time, or calls it unknown. Such a task is asked alone.
      if (task.status !== 'UNKNOWN') {
        seen.set(task.containerId, tasks.see(task));
      }
    }
    const asked = new Limiter(ASKED_AT_ONCE);
    const workers = records.filter(isWorker).map(async (record) => {
      const task =
        seen.get(record.id) ??
        (await asked.run(() => this.#ask(record.id, { signal, deadlineMs: ASK_DEADLINE_MS }), signal));
      return await this.#infoOf(record, task);
    });
    return { workers: await Promise.all(workers), containerIds: new Set(records.map(({ id }) => id)) };
  }

  async find(containerId: string, options: CallOptions = {}): Promise<WorkerInfo | undefined> {
    const { client, network } = this.#options;
    const call = { deadlineMs: READ_DEADLINE_MS, ...options };
    const [record, task] = await Promise.all([
      answered(undefinedIfNotFound(client.containers.get(containerId, call))),
      this.#ask(containerId, call),
    ]);
    if (record !== undefined) {
      return await this.#infoOf(record, task);
    }
    const attachment = await network.get(containerId);
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

  async upkeep(containerIds: ReadonlySet<string>, before: number): Promise<void> {
    await this.#limitAll();
    await this.#options.hosts.prune(containerIds, before);
  }

  async leave(
    remove: (containerId: string, options: CallOptions) => Promise<void>,
    options: CallOptions,
  ): Promise<string[]> {
    const { cgroups, client, namespace, network, parts } = this.#options;
    const failures = await uninstallContainerd(
      {
        client,
        namespace,
        inventory: (call) => this.inventory(() => [], new Set(), call),
        removeContainer: remove,
        logger: parts.logger,
      },
      options,
    );
    failures.push(...(await network.remove(options)));
    try {
      await cgroups.removeParent();
    } catch (error) {
      failures.push(`control group of the workers: ${messageOf(error)}`);
    }
    return failures;
  }

  async stop(): Promise<void> {
    const { client, images, network } = this.#options;
    await images.stop();
    await network.stop();
    client.close();
  }

  /** All tasks by one call. Empty where shims that hang take containerd too long. */
  async #toldTasks(signal: AbortSignal): Promise<readonly TaskProcess[]> {
    try {
      return await this.#options.client.tasks.list({ signal, deadlineMs: TOLD_DEADLINE_MS });
    } catch (error) {
      if (hasCode(error, 'DeadlineExceeded')) {
        return [];
      }
      throw error;
    }
  }

  /** One task, asked alone. */
  async #ask(containerId: string, call: CallOptions): Promise<FoundTask | Unanswering | undefined> {
    const { tasks } = this.#options;
    try {
      return await tasks.find(containerId, call);
    } catch (error) {
      if (!hasCode(error, 'TaskUnanswering')) {
        throw error;
      }
      return { kind: 'Unanswering', kernel: tasks.kernelState(containerId) };
    }
  }

  async #infoOf(record: ContainerRecord, task: FoundTask | Unanswering | undefined): Promise<WorkerInfo> {
    const { cgroups, limits } = this.#options;
    if (task !== undefined && 'kernel' in task) {
      return workerInfoOf(record, task);
    }
    const state = await taskStateOf(
      task,
      async () => limits.isStarved(record.id) || (await cgroups.oomKills(record.id)) > 0,
    );
    if (state.kind === 'Running' || state.kind === 'Paused') {
      limits.watch(record.id);
    } else {
      limits.forget(record.id);
    }
    const hits = limits.of(record.id);
    return { ...workerInfoOf(record, state), ...(hits === undefined ? {} : { limits: hits }) };
  }

  /** Holds all workers together to their promise. Never rejects: each worker has limits of its own. */
  async #limitAll(): Promise<void> {
    const { isolation, parts } = this.#options;
    try {
      const { kind } = await isolation.limit();
      this.#isLimited = kind === 'Limited';
      if (kind === 'InUse') {
        parts.logger.warn('workers hold more memory than they are promised, their common limit waits');
      }
    } catch (error) {
      parts.logger.warn({ err: error }, 'the workers cannot be limited together');
    }
  }

  async #snapshotterPlugin(options: CallOptions): Promise<Plugin | undefined> {
    const { client, snapshotter } = this.#options;
    const filter = `type==io.containerd.snapshotter.v1,id==${snapshotter}`;
    return (await client.introspection.plugins([filter], options))[0];
  }

  /** Folder of containerd's snapshots, as containerd tells it. */
  async #snapshotFolder(options: CallOptions): Promise<string | undefined> {
    return (await this.#snapshotterPlugin(options))?.exports.root;
  }
}

/** A call that only containerd answers and no shim can hold up: its deadline blames containerd. */
async function answered<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    throw hasCode(error, 'DeadlineExceeded')
      ? new EsbError('containerd does not answer', { code: 'RuntimeUnavailable', cause: error })
      : error;
  }
}
