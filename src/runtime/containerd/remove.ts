import type { NodeNetwork } from '../../cni/node-network.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { hasCode, undefinedIfNotFound } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerRecord } from '../../containerd/container-service.ts';
import type { ContainerdClient } from '../../containerd/containerd-client.ts';
import type { TaskProcess } from '../../containerd/task-service.ts';
import type { RemovalRequest } from '../lifecycle/runtime-backend.ts';
import type { WorkerLogs } from '../logs/worker-logs.ts';
import type { HostPortAllocator } from '../start/host-port-allocator.ts';
import { isOfAnotherBoot } from './boot-id.ts';
import type { WorkerCgroups } from './cgroups.ts';
import type { HostsFiles } from './hosts-files.ts';
import type { Isolation } from './isolation.ts';
import type { OrphanShims } from './orphan-shim.ts';
import { SharedLook } from './shared-look.ts';
import type { ShimGroups } from './shim-groups.ts';
import type { TaskControl } from './task.ts';

export interface WorkerRemovalOptions {
  readonly client: ContainerdClient;
  readonly tasks: TaskControl;
  readonly network: NodeNetwork;
  readonly hostPorts: Pick<HostPortAllocator, 'release'>;
  readonly cgroups: WorkerCgroups;
  readonly isolation: Pick<Isolation, 'release'>;
  readonly shims: OrphanShims;
  readonly groups: ShimGroups;
  readonly logs: WorkerLogs;
  readonly hosts: Pick<HostsFiles, 'remove'>;
  readonly snapshotter: string;
  readonly runtime: string;
  readonly runcRoot?: string | undefined;
  readonly bootId: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

const CALL_DEADLINE_MS = 20_000;
const DETACH_DEADLINE_MS = 30_000;
/** containerd asks one shim after the other, and gives each 2 s: five that hang are not waited for. */
const TOLD_DEADLINE_MS = 10_000;
const LOOKS_APART_MS = 1_000;
const LEASE_PREFIX = 'esb-create-';

/** The lease that a worker's creation holds; named after it so that a removal finds it. */
export function leaseOf(containerId: string): string {
  return `${LEASE_PREFIX}${containerId}`;
}

/** The opposite of {@link leaseOf}; undefined for leases of anything else. */
export function containerOfLease(lease: string): string | undefined {
  return lease.startsWith(LEASE_PREFIX) ? lease.slice(LEASE_PREFIX.length) : undefined;
}

/**
 * Whether a record stands in for one that was lost, until the task of its name is ended. An agent that dies meanwhile
 * leaves it, and a containerd that stood still makes it after that.
 */
export function isStandIn({ labels, image }: Pick<ContainerRecord, 'labels' | 'image'>): boolean {
  return image === '' && Object.keys(labels).length === 0;
}

/**
 * Removes whatever there is of a worker, in an order in which each step leaves what the next ones need. It may be
 * repeated, and does not ask how things came to be as they are: what is missing counts as removed.
 */
export class WorkerRemoval {
  readonly #options: WorkerRemovalOptions;
  /** Tasks by container; undefined where shims that hang take containerd too long to tell. */
  readonly #tasks: SharedLook<ReadonlySet<string> | undefined>;

  constructor(options: WorkerRemovalOptions) {
    this.#options = options;
    this.#tasks = new SharedLook(() => this.#told(), options.clock, LOOKS_APART_MS);
  }

  async remove(containerId: string, request: RemovalRequest): Promise<void> {
    const { cgroups, client, groups, hostPorts, hosts, isolation, logs, network } = this.#options;
    const call: CallOptions = { deadlineMs: CALL_DEADLINE_MS };
    groups.leave(containerId);
    await this.#endTask(containerId, request.graceMs);
    // Nobody writes it any more. As long as there is a record, whoever comes after a crash knows that there was a log.
    await (request.keepLog === true ? logs.keep(containerId) : logs.remove(containerId));
    // Strictly after the task: a task without its container's record cannot be deleted any more.
    await undefinedIfNotFound(client.containers.delete(containerId, call));
    await Promise.all([
      undefinedIfNotFound(client.snapshots.remove(containerId, call)),
      request.keepNetwork === true
        ? undefined
        : network.detach(containerId, { deadlineMs: DETACH_DEADLINE_MS }),
      request.keepNetwork === true ? undefined : hostPorts.release(containerId),
      undefinedIfNotFound(client.leases.delete(leaseOf(containerId), call)),
      cgroups.clear(containerId),
      hosts.remove(containerId),
    ]);
    await isolation.release(containerId);
    groups.left(containerId);
  }

  async #endTask(containerId: string, graceMs: number): Promise<void> {
    const { bootId, client, logger, shims, tasks } = this.#options;
    const task = await this.#answered(containerId, () => tasks.find(containerId));
    if (task !== undefined) {
      await this.#answered(containerId, () => this.#endFound(containerId, task, graceMs));
      return;
    }
    const record = await undefinedIfNotFound(
      client.containers.get(containerId, { deadlineMs: CALL_DEADLINE_MS }),
    );
    if (record === undefined ? await this.#endLostTask(containerId) : isOfAnotherBoot(record, bootId)) {
      return;
    }
    const ended = await shims.end(containerId);
    if (ended > 0) {
      logger.warn({ containerId, ended }, 'a shim that containerd had lost was ended');
    }
  }

  async #endFound(containerId: string, found: TaskProcess, graceMs: number): Promise<void> {
    const { groups, tasks } = this.#options;
    await tasks.end(containerId, found, graceMs);
    await groups.inTurn(containerId, () => tasks.delete(containerId));
  }

  /** Does something to a task. A shim that does not answer is ended, and what is left of the task is ended in its place. */
  async #answered<T>(containerId: string, call: () => Promise<T>): Promise<T | undefined> {
    const { cgroups, logger, shims, tasks } = this.#options;
    try {
      return await call();
    } catch (error) {
      if (!hasCode(error, 'TaskUnanswering')) {
        throw error;
      }
      // Also one that it shares: what does not answer serves nobody.
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
   * A task whose container's record is gone is listed, and nothing else can be done with it: it is given a record
   * again ({@link isStandIn}), and ended.
   *
   * @returns whether there was one
   */
  async #endLostTask(containerId: string): Promise<boolean> {
    const { client, logger, runtime, runcRoot, snapshotter, tasks } = this.#options;
    const told = await this.#tasks.take();
    if (told?.has(containerId) === false) {
      return false;
    }
    try {
      await client.containers.create(
        {
          id: containerId,
          labels: {},
          image: '',
          snapshotter,
          snapshotKey: containerId,
          runtime,
          runcRoot,
          spec: { ociVersion: '1.1.0' },
        },
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

  async #told(): Promise<ReadonlySet<string> | undefined> {
    try {
      const all = await this.#options.client.tasks.list({ deadlineMs: TOLD_DEADLINE_MS });
      return new Set(all.map(({ containerId }) => containerId));
    } catch (error) {
      if (hasCode(error, 'DeadlineExceeded')) {
        return undefined;
      }
      throw error;
    }
  }
}
