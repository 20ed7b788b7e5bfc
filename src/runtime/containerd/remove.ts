import { containerLabels } from '../../api/label.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { hasCode, undefinedIfNotFound } from '../../common/errors.ts';
import type { ContainerRecord } from '../../containerd/container-service.ts';
import type { TaskProcess } from '../../containerd/task-service.ts';
import type { RemovalRequest } from '../lifecycle/runtime-backend.ts';
import type { ContainerdParts } from './parts.ts';
import { SharedLook } from './shared-look.ts';

const CALL_DEADLINE_MS = 20_000;
const DETACH_DEADLINE_MS = 30_000;
const LOOKS_APART_MS = 1_000;

/**
 * Whether a record stands in for a lost one, until the task of the same name is ended. An agent that dies meanwhile
 * leaves such a record, and a containerd that stood still may make it later.
 */
export function isStandIn({ labels, image }: Pick<ContainerRecord, 'labels' | 'image'>): boolean {
  return image === '' && Object.keys(labels).length === 0;
}

/**
 * Removes everything of a worker, in an order in which each step leaves the preconditions of the next ones. May be
 * repeated, in any state of the worker: a missing thing counts as removed.
 */
export class WorkerRemoval {
  readonly #parts: ContainerdParts;
  /** Containers with a task; undefined where shims that hang take containerd too long. */
  readonly #tasks: SharedLook<ReadonlySet<string> | undefined>;

  constructor(parts: ContainerdParts) {
    this.#parts = parts;
    this.#tasks = new SharedLook(() => this.#listed(), parts.clock, LOOKS_APART_MS);
  }

  async remove(containerId: string, request: RemovalRequest): Promise<void> {
    const { cgroups, client, groups, hostPorts, hosts, inits, isolation, logs, network, tmp } = this.#parts;
    const call: CallOptions = { deadlineMs: CALL_DEADLINE_MS };
    groups.leave(containerId);
    await this.#endTask(containerId, request.graceMs);
    // No process writes the log any more. The record goes later, so that after a crash the log is found.
    await (request.keepLog === true ? logs.keep(containerId) : logs.remove(containerId));
    // Strictly after the task: without its container's record a task cannot be deleted.
    await undefinedIfNotFound(client.containers.delete(containerId, call));
    await Promise.all([
      undefinedIfNotFound(client.snapshots.remove(containerId, call)),
      request.keepNetwork === true ? undefined : network.detach(containerId, { deadlineMs: DETACH_DEADLINE_MS }),
      request.keepNetwork === true ? undefined : hostPorts.release(containerId),
      cgroups.clear(containerId),
      hosts.remove(containerId),
      tmp.files?.remove(containerId),
      inits?.remove(containerId),
    ]);
    await isolation.release(containerId);
    groups.left(containerId);
  }

  async #endTask(containerId: string, graceMs: number): Promise<void> {
    const { bootId, client, logger, shims, tasks } = this.#parts;
    const task = await this.#answered(containerId, () => tasks.find(containerId));
    if (task !== undefined) {
      await this.#answered(containerId, () => this.#endFound(containerId, task, graceMs));
      return;
    }
    const record = await undefinedIfNotFound(client.containers.get(containerId, { deadlineMs: CALL_DEADLINE_MS }));
    const isLost = record === undefined || isStandIn(record);
    // No process outlives its boot.
    if (isLost ? await this.#endLostTask(containerId) : record.labels[containerLabels.boot] !== bootId) {
      return;
    }
    const ended = await shims.end(containerId);
    if (ended > 0) {
      logger.warn({ containerId, ended }, 'a shim that containerd had lost was ended');
    }
  }

  async #endFound(containerId: string, found: TaskProcess, graceMs: number): Promise<void> {
    const { groups, tasks } = this.#parts;
    await tasks.end(containerId, found, graceMs);
    await groups.inTurn(containerId, () => tasks.delete(containerId));
  }

  /** Runs a call on a task. A shim that does not answer is ended, and the rest of the task with it. */
  async #answered<T>(containerId: string, call: () => Promise<T>): Promise<T | undefined> {
    const { cgroups, logger, shims, tasks } = this.#parts;
    try {
      return await call();
    } catch (error) {
      if (!hasCode(error, 'TaskUnanswering')) {
        throw error;
      }
      // A shared shim as well: one that does not answer serves no container.
      if ((await shims.endOf(containerId, await cgroups.processes(containerId))) === 0) {
        throw error;
      }
      logger.warn({ containerId, err: error }, 'a shim that did not answer was ended');
      const left = await tasks.find(containerId);
      if (left !== undefined) {
        await this.#endFound(containerId, left, 0);
      }
      return undefined;
    }
  }

  /**
   * Ends a task whose container's record is gone. containerd lists such a task and refuses everything else: the task
   * gets a record again ({@link isStandIn}) and is ended.
   *
   * @returns whether there was one
   */
  async #endLostTask(containerId: string): Promise<boolean> {
    const { client, logger, runtime, runcRoot, snapshotter, tasks } = this.#parts;
    const told = await this.#tasks.take();
    if (told?.has(containerId) === false) {
      return false;
    }
    try {
      const spec = { ociVersion: '1.1.0' };
      const container = { id: containerId, labels: {}, image: '', snapshotKey: containerId, spec };
      await client.containers.create(
        { ...container, snapshotter, runtime, runcRoot },
        { deadlineMs: CALL_DEADLINE_MS },
      );
    } catch (error) {
      if (!hasCode(error, 'AlreadyExists')) {
        throw error;
      }
    }
    const found = await tasks.find(containerId);
    if (found === undefined) {
      return false;
    }
    logger.warn({ containerId }, 'a task without a container is ended');
    await this.#endFound(containerId, found, 0);
    return true;
  }

  async #listed(): Promise<ReadonlySet<string> | undefined> {
    const all = await this.#parts.tasks.list();
    return all === undefined ? undefined : new Set(all.map(({ containerId }) => containerId));
  }
}
