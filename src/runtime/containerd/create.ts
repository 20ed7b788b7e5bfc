import { hostname as nodeHostname } from 'node:os';
import { containerLabels } from '../../api/label.ts';
import type { Attachment, NodeNetwork } from '../../cni/node-network.ts';
import type { Clock } from '../../common/clock.ts';
import { isAborted } from '../../common/deadline.ts';
import { EsbError, hasCode, unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerRecord } from '../../containerd/container-service.ts';
import type { ContainerdClient } from '../../containerd/containerd-client.ts';
import type { Mount } from '../../containerd/snapshot-service.ts';
import type { NewTask } from '../../containerd/task-service.ts';
import { buildRuntimeSpec, hostnameOf } from '../../oci/runtime-spec.ts';
import { handlerInItsPlace } from '../../oci/spec-process.ts';
import { labelsOf, workerInfoOf } from '../contract/container-labels.ts';
import { observed, type RuntimeObserver, type StartStage } from '../contract/instrumentation.ts';
import type { EnsureRequest, WorkerAddress, WorkerInfo } from '../contract/runtime.ts';
import { WorkerExitError } from '../contract/worker-exit-error.ts';
import type { ImageStore, LocalImage } from '../images/image-store.ts';
import type { WorkerLogs } from '../logs/worker-logs.ts';
import { createError, creationStep, memoryTooSmall, networkError } from '../start/create-error.ts';
import { HOST_MODE_IP, withHostPorts } from '../start/host-port.ts';
import type { HostPortAllocator } from '../start/host-port-allocator.ts';
import type { Connect } from '../start/port-probe.ts';
import { notListening, waitUntilListening } from '../start/readiness.ts';
import type { WorkerCgroups } from './cgroups.ts';
import type { HostsFiles } from './hosts-files.ts';
import type { Isolation, WorkerIsolation } from './isolation.ts';
import { leaseOf, type WorkerRemoval } from './remove.ts';
import { SHIM_GROUP_ANNOTATION, type ShimGroups } from './shim-groups.ts';

export interface WorkerCreationOptions {
  readonly client: ContainerdClient;
  readonly images: ImageStore;
  readonly network: NodeNetwork;
  readonly hostPorts: HostPortAllocator;
  readonly removal: WorkerRemoval;
  readonly cgroups: WorkerCgroups;
  readonly confinement: Isolation;
  readonly groups: ShimGroups;
  readonly logs: WorkerLogs;
  /** Removes the folder of a task that containerd has forgotten, where that is what a creation failed for. */
  readonly removeBundle: (containerId: string, error: unknown) => Promise<boolean>;
  readonly snapshotter: string;
  readonly runtime: string;
  readonly runcRoot?: string | undefined;
  /** Mounted over the worker's own; absent leaves the image's. */
  readonly resolvConfPath?: string | undefined;
  readonly hosts: HostsFiles;
  readonly bootId: string;
  /** How long a new process may take until it listens. */
  readonly listenDeadlineMs: number;
  readonly connect: Connect;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly observer?: RuntimeObserver | undefined;
  /** Owns work whose end nobody waits for. */
  readonly inBackground: (name: string, work: () => Promise<void>) => void;
}

/** When containerd drops the lease of a creation whose agent has died. */
const LEASE_MS = 60 * 60_000;
const STEP_DEADLINE_MS = 20_000;
/** A shim, runc and a cgroup; tens of milliseconds on a quiet machine. */
const TASK_DEADLINE_MS = 60_000;
const ATTACH_DEADLINE_MS = 60_000;
const LOG_TAIL_BYTES = 2048;
const STOPPED_BEFORE = /cannot start a stopped process/;

interface Prepared {
  readonly record: ContainerRecord;
  readonly address: WorkerAddress;
  readonly rootfs: readonly Mount[];
}

/** A worker of which everything is there, and nothing of its image has run. */
export interface MadeWorker {
  readonly record: ContainerRecord;
  readonly pid: number;
  readonly address: WorkerAddress;
}

/**
 * Makes workers. Calls that change something are never cut off in the middle, since what they did would not be known
 * then: whoever gives up is heard between them, and what was made so far is removed again.
 */
export class WorkerCreation {
  readonly #options: WorkerCreationOptions;

  constructor(options: WorkerCreationOptions) {
    this.#options = options;
  }

  /** Makes a worker of which there is nothing but maybe an attachment and a log. Leaves nothing when it fails. */
  async create(request: EnsureRequest, signal: AbortSignal): Promise<WorkerInfo> {
    return await this.launch(request, await this.make(request, signal), signal);
  }

  /** Does all of it but the start. */
  async make(request: EnsureRequest, signal: AbortSignal): Promise<MadeWorker> {
    const { containerId } = request;
    const leased = this.#lease(containerId);
    // Until the container's record refers to the image.
    const release = this.#options.images.hold(request.shape.image.reference);
    // It is waited for where it is needed first, and in any case before anything is undone.
    leased.catch(() => undefined);
    try {
      return await this.#make(request, leased, signal);
    } catch (error) {
      await leased.catch(() => undefined);
      await this.#undo(containerId, error);
      throw error;
    } finally {
      release();
    }
  }

  /** Starts what was made, and waits until it listens. Leaves nothing when it fails. */
  async launch(request: EnsureRequest, made: MadeWorker, signal: AbortSignal): Promise<WorkerInfo> {
    const { client } = this.#options;
    const { containerId } = request;
    const { address, pid, record } = made;
    try {
      await creationStep('StartFailed', signal, () =>
        this.#observed('start', client.tasks.start(containerId, { deadlineMs: TASK_DEADLINE_MS })),
      );
      request.onProgress?.('Starting');
      await this.#observed('listen', this.waitUntilListening(containerId, { address, pid }, signal));
      return workerInfoOf(record, { kind: 'Running', pid });
    } catch (thrown) {
      const error = await this.#starved(containerId, thrown);
      await this.#undo(containerId, error);
      throw error;
    }
  }

  /** runc's first process may be ended for want of memory between its creation and its start: it is only stopped then. */
  async #starved(containerId: string, error: unknown): Promise<unknown> {
    const isDead = hasCode(error, 'StartFailed') && STOPPED_BEFORE.test(error.message);
    return isDead && (await this.#options.cgroups.oomKills(containerId)) > 0 ? memoryTooSmall(error) : error;
  }

  /** Waits until a running worker listens, or has ended instead. */
  async waitUntilListening(
    containerId: string,
    place: Pick<MadeWorker, 'address' | 'pid'>,
    signal: AbortSignal,
  ): Promise<void> {
    const { client, clock, connect, listenDeadlineMs, logs } = this.#options;
    const wait = {
      ...place,
      connect,
      clock,
      deadlineMs: listenDeadlineMs,
      exited: (ended: AbortSignal) => client.tasks.wait(containerId, { signal: ended }),
    };
    const outcome = await waitUntilListening(wait, signal);
    switch (outcome.kind) {
      case 'Listening':
        return;
      case 'Exited':
        throw await this.#exitError(containerId, outcome.exit.exitCode, outcome.exit.exitedAt);
      case 'Late':
        throw notListening(
          containerId,
          wait,
          (await logs.read(containerId, 0, LOG_TAIL_BYTES)).toString('utf8'),
        );
      default:
        unreachable(outcome);
    }
  }

  async #make(request: EnsureRequest, leased: Promise<void>, signal: AbortSignal): Promise<MadeWorker> {
    const { client, logs } = this.#options;
    const { containerId } = request;
    const begun = logs.begin(containerId, request.identity.uid);
    begun.catch(() => undefined);
    const { record, address, rootfs } = await this.#prepare(request, leased, signal);
    await creationStep('CreateFailed', signal, () => begun);
    const task = { containerId, rootfs, logUri: logs.uri(containerId) };
    const { pid } = await creationStep('CreateFailed', signal, () =>
      this.#options.groups.inTurn(containerId, () => this.#observed('create', this.#createTask(task))),
    );
    // The container's record refers to the snapshot by now; nobody has to wait for the lease to go.
    this.#options.inBackground('ending a lease', () =>
      client.leases.delete(leaseOf(containerId), { deadlineMs: STEP_DEADLINE_MS }),
    );
    return { record, pid, address };
  }

  /** Once more where only the folder of a task that containerd has forgotten was in the way. */
  async #createTask(task: NewTask): Promise<{ readonly pid: number }> {
    const { client, logger, removeBundle } = this.#options;
    const { containerId } = task;
    try {
      return await client.tasks.create(task, { deadlineMs: TASK_DEADLINE_MS });
    } catch (error) {
      if (!(await removeBundle(containerId, error))) {
        throw error;
      }
      logger.warn({ containerId, err: error }, 'removed what containerd had forgotten of a task');
      return await client.tasks.create(task, { deadlineMs: TASK_DEADLINE_MS });
    }
  }

  /** All that a task needs. The image comes first; attachment, snapshot and record wait for each other only where they must. */
  async #prepare(request: EnsureRequest, leased: Promise<void>, signal: AbortSignal): Promise<Prepared> {
    const { images } = this.#options;
    const { containerId, shape } = request;
    const isLikelyHere = images.isLikelyHere(shape.image);
    const pulled = Promise.withResolvers<'pulling'>();
    const image = this.#observed(
      'image',
      images.obtain(shape.image, {
        signal,
        namespace: request.identity.namespace,
        onPulling: (detail) => {
          request.onProgress?.('Pulling', detail);
          pulled.resolve('pulling');
        },
      }),
    );
    // While an image is pulled, for minutes maybe, no address is held.
    const here = isLikelyHere ? Promise.resolve(undefined) : image;
    const attached = Promise.race([here, pulled.promise]).then(async (outcome) => {
      if (outcome === 'pulling') {
        await image;
      }
      request.onProgress?.('Creating');
      return shape.networkMode === 'Host'
        ? undefined
        : await this.#observed('network', this.#attach(containerId, signal));
    });
    const confinement = creationStep('CreateFailed', signal, () =>
      this.#options.confinement.take(containerId),
    );
    const snapshot = this.#snapshot(containerId, { image, confinement, leased }, signal);
    const recorded = Promise.all([image, attached, confinement]).then(([found, attachment, confined]) =>
      this.#record(request, { image: found, attachment, confined }, signal),
    );
    // Whatever fails, nothing may be under way any more when what was made is undone.
    const outcomes = await Promise.allSettled([image, attached, confinement, snapshot, recorded]);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') {
        throw outcome.reason;
      }
    }
    const [rootfs, rest] = await Promise.all([snapshot, recorded]);
    return { ...rest, rootfs };
  }

  /** Writes down what the container is to be. */
  async #record(
    request: EnsureRequest,
    parts: {
      readonly image: LocalImage;
      /** Undefined in the network of the node. */
      readonly attachment: Attachment | undefined;
      readonly confined: WorkerIsolation;
    },
    signal: AbortSignal,
  ): Promise<Omit<Prepared, 'rootfs'>> {
    const { client, snapshotter, runtime, runcRoot } = this.#options;
    const { containerId } = request;
    const { image, attachment, confined } = parts;
    const ports = attachment === undefined ? await this.#options.hostPorts.allocate(containerId) : undefined;
    const shape = ports === undefined ? request.shape : withHostPorts(request.shape, image.config, ports);
    const address = { ip: attachment?.ip ?? HOST_MODE_IP, port: ports?.port ?? shape.port };
    const { resolvConfPath } = this.#options;
    const hostname = attachment === undefined ? nodeHostname() : hostnameOf(containerId);
    const hosts = await creationStep('CreateFailed', signal, () =>
      this.#options.hosts.write(containerId, address.ip, hostname),
    );
    const spec = buildRuntimeSpec({
      ...confined.spec,
      containerId,
      functionName: request.identity.functionName,
      shape,
      image: image.config,
      ...(attachment === undefined ? {} : { netnsPath: attachment.netnsPath }),
      etcFiles: { hosts, ...(resolvConfPath === undefined ? {} : { resolvConf: resolvConfPath }) },
      ...(image.userFiles === undefined ? {} : image.userFiles),
    });
    const group = this.#options.groups.join(containerId);
    const record = await creationStep('CreateFailed', signal, () =>
      client.containers.create(
        {
          id: containerId,
          labels: {
            ...labelsOf(request, address, image.byDigest, handlerInItsPlace(request.shape, image.config)),
            ...confined.labels,
            [containerLabels.boot]: this.#options.bootId,
            ...(group === undefined ? {} : { [containerLabels.shimGroup]: group }),
          },
          image: image.reference.name,
          snapshotter,
          snapshotKey: containerId,
          runtime,
          runcRoot,
          systemdCgroup: confined.systemdCgroup,
          spec: group === undefined ? spec : { ...spec, annotations: { [SHIM_GROUP_ANNOTATION]: group } },
        },
        { deadlineMs: STEP_DEADLINE_MS },
      ),
    );
    return { record, address };
  }

  /** The lease keeps it until the container's record refers to it. */
  async #snapshot(
    containerId: string,
    after: {
      readonly image: Promise<LocalImage>;
      readonly confinement: Promise<WorkerIsolation>;
      readonly leased: Promise<void>;
    },
    signal: AbortSignal,
  ): Promise<readonly Mount[]> {
    const [{ chainId }, { snapshotLabels }] = await Promise.all([
      after.image,
      after.confinement,
      after.leased,
    ]);
    return await creationStep('CreateFailed', signal, () =>
      this.#observed(
        'snapshot',
        this.#options.client.snapshots.prepare(containerId, chainId, {
          deadlineMs: STEP_DEADLINE_MS,
          lease: leaseOf(containerId),
          labels: snapshotLabels,
        }),
      ),
    );
  }

  async #lease(containerId: string): Promise<void> {
    const { client, clock } = this.#options;
    const lease = leaseOf(containerId);
    const expires = new Date(clock.now() + LEASE_MS);
    const call = { deadlineMs: STEP_DEADLINE_MS };
    try {
      await client.leases.create(lease, expires, call);
    } catch (error) {
      if (EsbError.from(error).code !== 'AlreadyExists') {
        throw createError('CreateFailed', error);
      }
      // Of a creation that was cut off by the end of its agent, and about to expire at some time.
      await client.leases.delete(lease, call);
      await client.leases.create(lease, expires, call);
    }
  }

  async #attach(containerId: string, signal: AbortSignal): Promise<Attachment> {
    try {
      return await this.#options.network.attach(containerId, { signal, deadlineMs: ATTACH_DEADLINE_MS });
    } catch (error) {
      throw networkError(error);
    }
  }

  #observed<T>(stage: StartStage, work: Promise<T>): Promise<T> {
    const { clock, observer } = this.#options;
    return observed(observer, stage, () => clock.monotonic(), work);
  }

  async #exitError(containerId: string, exitCode: number, exitedAt: Date | undefined): Promise<EsbError> {
    const { cgroups, clock, logs } = this.#options;
    const output = await logs.read(containerId, 0, LOG_TAIL_BYTES);
    return new WorkerExitError(containerId, {
      exitCode,
      oomKilled: exitCode !== 0 && (await cgroups.oomKills(containerId)) > 0,
      finishedAt: exitedAt ?? new Date(clock.now()),
      output: output.toString('utf8'),
    });
  }

  async #undo(containerId: string, cause: unknown): Promise<void> {
    const { logger, logs, removal } = this.#options;
    try {
      // What it wrote is all that tells why it failed; a caller who gave up has no use for it.
      const keepLog = !isAborted(cause) && (await logs.size(containerId)) > 0;
      await removal.remove(containerId, { graceMs: 0, keepLog });
    } catch (error) {
      // It shows as half-made in the next list, and is removed or made anew from there.
      logger.error({ containerId, err: error }, 'what a failed creation left could not be removed');
    }
  }
}
