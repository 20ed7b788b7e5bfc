import { setImmediate } from 'node:timers/promises';
import { containerLabels } from '../../api/label.ts';
import type { NodeNetwork } from '../../cni/contract.ts';
import { type CallOptions, during } from '../../common/deadline.ts';
import { EsbError, hasCode, undefinedIfNotFound } from '../../common/errors.ts';
import { Limiter } from '../../common/limiter.ts';
import type { ContainerRecord } from '../../containerd/container-service.ts';
import type { Plugin } from '../../containerd/introspection-service.ts';
import { isWorker, taskStateOf, workerInfoOf } from '../contract/container-labels.ts';
import type { NodeImages } from '../contract/images.ts';
import type { NodeInventory } from '../contract/inventory.ts';
import type { EnsureRequest, FoundTask, TaskState, WorkerInfo } from '../contract/runtime.ts';
import type { TmpOfNode } from '../contract/tmp-storage.ts';
import type { WorkerUsage } from '../contract/usage.ts';
import type { ImageStore } from '../images/image-store.ts';
import { createNodeImages, snapshotterPlugin } from '../images/node-images.ts';
import { FILES_KEY_PREFIX } from '../images/user-files.ts';
import type { WorkerPlace } from '../lifecycle/creation-steps.ts';
import type { Freezing, Listing, RemovalRequest, RuntimeBackend } from '../lifecycle/runtime-backend.ts';
import type { TmpFiles } from '../tmp/tmp-files.ts';
import type { WorkerCreation } from './create.ts';
import { takeNodeInventory } from './inventory.ts';
import { CONTAINERD_NAMESPACE, type ContainerdParts } from './parts.ts';
import { isStandIn, type WorkerRemoval } from './remove.ts';
import { tryTmpFile } from './tmp-trial.ts';
import { uninstallContainerd } from './uninstall.ts';
import { versionFault } from './version.ts';

/** Tasks whose freezer is read without a pause, at about 20 microseconds each. */
const SEEN_AT_ONCE = 50;
const READ_DEADLINE_MS = 10_000;
/** A thousand shims are asked for their state. */
const LIST_DEADLINE_MS = 60_000;
/** The records of a thousand containers, which containerd has at hand. */
const RECORDS_DEADLINE_MS = 15_000;
/** Deadline for a task that the list left out. Longer than the 2 s that containerd gives its shim. */
const ASK_DEADLINE_MS = 4_000;
const ASKED_AT_ONCE = 16;
/** For a shim and runc, as in a creation. */
const TRIAL_DEADLINE_MS = 30_000;

type Unanswering = Extract<TaskState, { readonly kind: 'Unanswering' }>;

/** Workers as tasks of containerd. */
export class ContainerdBackend implements RuntimeBackend {
  readonly nodeImages: NodeImages;
  readonly freezing: Freezing;
  readonly images: ImageStore;
  readonly network: NodeNetwork;
  readonly tmp: TmpOfNode;
  readonly canLoseOutput = true;
  readonly #parts: ContainerdParts;
  readonly #creation: WorkerCreation;
  readonly #removal: WorkerRemoval;

  constructor(parts: ContainerdParts, creation: WorkerCreation, removal: WorkerRemoval) {
    this.#parts = parts;
    this.#creation = creation;
    this.#removal = removal;
    this.nodeImages = createNodeImages(parts);
    this.freezing = parts.tasks;
    this.images = parts.images;
    this.network = parts.network;
    this.tmp = parts.tmp;
  }

  async check(options: CallOptions): Promise<string> {
    const { client, snapshotter } = this.#parts;
    const call = { deadlineMs: READ_DEADLINE_MS, ...options };
    const { version } = await client.version.get(call);
    const fault = versionFault(version);
    if (fault !== undefined) {
      throw new EsbError(fault, { code: 'RuntimeTooOld' });
    }
    const plugin = await this.#snapshotterPlugin(options);
    if (plugin === undefined || plugin.error !== undefined) {
      throw new EsbError(
        `containerd has no working ${snapshotter} snapshotter: ${plugin?.error ?? 'it is not loaded'}`,
        { code: 'SnapshotterMissing' },
      );
    }
    return version;
  }

  async restore(options: CallOptions): Promise<void> {
    const { client, groups } = this.#parts;
    const records = await client.containers.list({ deadlineMs: LIST_DEADLINE_MS, ...options });
    groups.adopt(
      records.map(({ id, labels }) => ({ containerId: id, group: labels[containerLabels.shimGroup] ?? '' })),
    );
  }

  follow(): Promise<void> {
    const { background, clock, feed, limits, logger, tmp } = this.#parts;
    background.run('following events', (signal) => feed.run(signal));
    background.run('watching limits', (signal) => limits.run(signal));
    background.run('trying /tmp on disk again', async (signal) => {
      if (await tmp.keepTrying((files) => this.#tryTmp(files, { signal }), clock, signal)) {
        logger.info('/tmp of workers that are made from now on is on disk');
      }
    });
    return feed.begun;
  }

  async prepareNode(options: CallOptions): Promise<void> {
    // containerd's garbage collection spares open streams, but only those of namespaces that are there. The stream of the
    // first pull is open before that pull makes anything.
    await this.#parts.client.namespaces.ensure(CONTAINERD_NAMESPACE, { deadlineMs: READ_DEADLINE_MS, ...options });
    const plugin = await this.#snapshotterPlugin(options);
    await this.#parts.isolation.prepare(plugin?.capabilities ?? []);
    await this.#limitAll();
    await Promise.all([
      this.#parts.network.start(options),
      this.#parts.tmp.decide((files) => this.#tryTmp(files, options)),
    ]);
  }

  async #tryTmp(files: TmpFiles, options: CallOptions): Promise<string | undefined> {
    return await tryTmpFile(this.#parts, this.#removal, files, { deadlineMs: TRIAL_DEADLINE_MS, ...options });
  }

  async create(request: EnsureRequest, signal: AbortSignal): Promise<WorkerInfo> {
    const { background, limits } = this.#parts;
    limits.reset(request.containerId);
    const info = await this.#creation.create(request, signal);
    limits.watch(request.containerId);
    if (!this.#parts.isolation.isLimited) {
      background.run('limiting the workers together', () => this.#limitAll());
    }
    return info;
  }

  async untilReady(containerId: string, place: WorkerPlace, signal: AbortSignal): Promise<void> {
    await this.#creation.untilReady(containerId, place, signal);
  }

  async setEpoch(containerId: string, epoch: number): Promise<void> {
    const labels = { [containerLabels.epoch]: String(epoch) };
    await this.#parts.client.containers.setLabels(containerId, labels);
  }

  async remove(containerId: string, request: RemovalRequest): Promise<void> {
    const { leftovers, limits } = this.#parts;
    await this.#removal.remove(containerId, request);
    limits.reset(containerId);
    // A shim that was killed leaves its socket and runc's state.
    await leftovers.remove(containerId, undefined);
  }

  async has(containerId: string): Promise<boolean> {
    const { containers } = this.#parts.client;
    const record = await undefinedIfNotFound(containers.get(containerId, { deadlineMs: READ_DEADLINE_MS }));
    return record !== undefined && !isStandIn(record);
  }

  async clear(containerId: string, keepLog: boolean): Promise<void> {
    const { client, leftovers } = this.#parts;
    const call = { deadlineMs: READ_DEADLINE_MS };
    if (containerId.startsWith(FILES_KEY_PREFIX)) {
      await undefinedIfNotFound(client.snapshots.remove(containerId, call));
      await undefinedIfNotFound(client.leases.delete(containerId, call));
      return;
    }
    await this.#removal.remove(containerId, { graceMs: 0, keepLog });
    await leftovers.remove(containerId, await this.#snapshotFolder(call));
  }

  async inventory(
    busy: () => Iterable<string>,
    known: ReadonlySet<string>,
    options: CallOptions,
  ): Promise<NodeInventory> {
    return await takeNodeInventory(this.#parts, busy, known, options);
  }

  async list(signal: AbortSignal): Promise<Listing> {
    const { client, tasks } = this.#parts;
    const [records, told] = await Promise.all([
      answered(client.containers.list({ signal, deadlineMs: RECORDS_DEADLINE_MS })),
      tasks.list(signal),
    ]);
    const seen = new Map<string, FoundTask>();
    for (const [index, task] of (told ?? []).entries()) {
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
      return this.#infoOf(record, task);
    });
    return { workers: await Promise.all(workers), containerIds: new Set(records.map(({ id }) => id)) };
  }

  async find(containerId: string, options: CallOptions = {}): Promise<WorkerInfo | undefined> {
    const { client, network } = this.#parts;
    const call = { deadlineMs: READ_DEADLINE_MS, ...options };
    const record = await answered(undefinedIfNotFound(client.containers.get(containerId, call)));
    if (record !== undefined) {
      return this.#infoOf(record, await this.#ask(containerId, call));
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
      runtimeInterface: 'Emulator',
      createdAt: new Date(0),
    };
  }

  async usage(containerId: string): Promise<WorkerUsage | undefined> {
    return await this.#parts.cgroups.usage(containerId);
  }

  async upkeep(containerIds: ReadonlySet<string>, before: number): Promise<void> {
    await this.#limitAll();
    await this.#parts.hosts.prune(containerIds, before);
  }

  async leave(
    remove: (containerId: string, options: CallOptions) => Promise<void>,
    options: CallOptions,
  ): Promise<string[]> {
    const { cgroups, network } = this.#parts;
    const failures = await uninstallContainerd(this.#parts, remove, options);
    failures.push(...(await network.remove(options)));
    try {
      await cgroups.removeParent();
    } catch (error) {
      failures.push(during('control group of the workers', error));
    }
    return failures;
  }

  async stop(): Promise<void> {
    const { client, images, network } = this.#parts;
    await images.stop();
    await network.stop();
    client.close();
  }

  async #ask(containerId: string, call: CallOptions): Promise<FoundTask | Unanswering | undefined> {
    const { tasks } = this.#parts;
    try {
      return await tasks.find(containerId, call);
    } catch (error) {
      if (!hasCode(error, 'TaskUnanswering')) {
        throw error;
      }
      return { kind: 'Unanswering', kernel: tasks.kernelState(containerId) };
    }
  }

  #infoOf(record: ContainerRecord, task: FoundTask | Unanswering | undefined): WorkerInfo {
    const { cgroups, limits } = this.#parts;
    if (task !== undefined && 'kernel' in task) {
      return workerInfoOf(record, task);
    }
    const state = taskStateOf(task, () => limits.isStarved(record.id) || cgroups.oomKills(record.id) > 0);
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
    const { isolation, logger } = this.#parts;
    try {
      const { kind } = await isolation.limit();
      if (kind === 'InUse') {
        logger.warn('workers hold more memory than they are promised, their common limit waits');
      }
    } catch (error) {
      logger.warn({ err: error }, 'the workers cannot be limited together');
    }
  }

  async #snapshotterPlugin(options: CallOptions): Promise<Plugin | undefined> {
    return await snapshotterPlugin(this.#parts, { deadlineMs: READ_DEADLINE_MS, ...options });
  }

  async #snapshotFolder(options: CallOptions = {}): Promise<string | undefined> {
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
