import { hostname as nodeHostname } from 'node:os';
import { containerLabels } from '../../api/label.ts';
import type { Attachment } from '../../cni/contract.ts';
import type { EgressClass } from '../../cni/host/egress-rules.ts';
import { hasCode } from '../../common/errors.ts';
import type { ContainerRecord } from '../../containerd/container-service.ts';
import type { Mount } from '../../containerd/snapshot-service.ts';
import type { NewTask, TaskExitStatus } from '../../containerd/task-service.ts';
import { buildRuntimeSpec, hostnameOf } from '../../oci/runtime-spec.ts';
import { handlerInItsPlace } from '../../oci/spec-process.ts';
import { labelsOf, workerInfoOf } from '../contract/container-labels.ts';
import type { EnsureRequest, WorkerInfo } from '../contract/runtime.ts';
import type { LocalImage } from '../images/image-store.ts';
import { type FirstProcess, placeOf, type WorkerPlace } from '../lifecycle/creation-steps.ts';
import { creationStep, memoryTooSmall, networkError } from '../start/create-error.ts';
import { HOST_MODE_IP, withHostPorts } from '../start/host-port.ts';
import type { TmpFile } from '../tmp/tmp-files.ts';
import type { TmpChoice } from '../tmp/tmp-medium.ts';
import { withTmp } from '../tmp/tmp-mount.ts';
import type { WorkerIsolation } from './isolation.ts';
import type { ContainerdParts } from './parts.ts';
import type { WorkerRemoval } from './remove.ts';
import { SHIM_GROUP_ANNOTATION } from './shim-groups.ts';

const STEP_DEADLINE_MS = 20_000;
/** For a shim, runc and a cgroup: tens of milliseconds on a quiet machine. */
const TASK_DEADLINE_MS = 60_000;
const ATTACH_DEADLINE_MS = 60_000;
const STOPPED_BEFORE = /cannot start a stopped process/;

interface Prepared {
  readonly record: ContainerRecord;
  readonly rootfs: readonly Mount[];
}

/** A complete worker of whose image nothing has run. */
interface MadeWorker {
  readonly record: ContainerRecord;
  readonly pid: number;
}

/**
 * Makes workers. Calls that change something are never cut off, since their effect would not be known: a caller that
 * gives up is heard between two calls, and everything made so far is removed.
 */
export class WorkerCreation {
  readonly #parts: ContainerdParts;
  readonly #removal: WorkerRemoval;

  constructor(parts: ContainerdParts, removal: WorkerRemoval) {
    this.#parts = parts;
    this.#removal = removal;
  }

  /**
   * Makes a worker, starts it, and waits until it can take calls. Nothing may exist of the worker but an attachment and a
   * log. Leaves nothing when it fails.
   */
  async create(request: EnsureRequest, signal: AbortSignal): Promise<WorkerInfo> {
    const { containerId } = request;
    try {
      return await this.#start(request, await this.#made(request, signal), signal);
    } catch (thrown) {
      const error = this.#starved(containerId, thrown);
      await this.#undo(containerId, error);
      throw error;
    }
  }

  /** Holds the image until the container's record refers to it. */
  async #made(request: EnsureRequest, signal: AbortSignal): Promise<MadeWorker> {
    const release = this.#parts.images.hold(request.shape.image.reference);
    try {
      return await this.#make(request, signal);
    } finally {
      release();
    }
  }

  async #start(request: EnsureRequest, { pid, record }: MadeWorker, signal: AbortSignal): Promise<WorkerInfo> {
    const { client, steps } = this.#parts;
    const { containerId } = request;
    await creationStep('StartFailed', signal, () =>
      steps.observed('start', client.tasks.start(containerId, { deadlineMs: TASK_DEADLINE_MS })),
    );
    request.onProgress?.('Starting');
    const info = workerInfoOf(record, { kind: 'Running', pid });
    await steps.observed('listen', this.untilReady(containerId, placeOf(info, pid, request.shape), signal));
    return info;
  }

  /** The kernel may end runc's first process for want of memory before its start: containerd calls that stopped only. */
  #starved(containerId: string, error: unknown): unknown {
    const isDead = hasCode(error, 'StartFailed') && STOPPED_BEFORE.test(error.message);
    return isDead && this.#parts.cgroups.oomKills(containerId) > 0 ? memoryTooSmall(error) : error;
  }

  /** Waits until a running worker can take calls, or fails with its exit. */
  async untilReady(containerId: string, place: WorkerPlace, signal: AbortSignal): Promise<void> {
    const { cgroups, client, clock, steps, tasks } = this.#parts;
    const isStarved = (): boolean => cgroups.oomKills(containerId) > 0;
    const process: FirstProcess<TaskExitStatus> = {
      exited: (ended) => client.tasks.wait(containerId, { signal: ended }),
      exitOf: async ({ exitCode, exitedAt }) => ({
        exitCode,
        oomKilled: exitCode !== 0 && isStarved(),
        finishedAt: exitedAt ?? new Date(clock.now()),
      }),
      isStarved,
      thaw: () => void tasks.thawDirectly(containerId),
    };
    await steps.untilReady(containerId, place, process, signal);
  }

  async #make(request: EnsureRequest, signal: AbortSignal): Promise<MadeWorker> {
    const { groups, logs, steps } = this.#parts;
    const { containerId } = request;
    const { record, rootfs } = await this.#prepare(request, signal);
    const task = { containerId, rootfs, logUri: logs.uri(containerId) };
    const { pid } = await creationStep('CreateFailed', signal, () =>
      groups.inTurn(containerId, () => steps.observed('create', this.#createTask(task))),
    );
    return { record, pid };
  }

  /** Creates a task, a second time where only the folder of a forgotten task was in the way. */
  async #createTask(task: NewTask): Promise<{ readonly pid: number }> {
    const { client, leftovers, logger } = this.#parts;
    const { containerId } = task;
    try {
      return await client.tasks.create(task, { deadlineMs: TASK_DEADLINE_MS });
    } catch (error) {
      if (!(await leftovers.removeBundle(containerId, error))) {
        throw error;
      }
      logger.warn({ containerId, err: error }, 'removed the folder of a task that containerd had forgotten');
      return await client.tasks.create(task, { deadlineMs: TASK_DEADLINE_MS });
    }
  }

  /**
   * Everything that a task needs. The image comes first, then the attachment, and the record before the snapshot:
   * containerd keeps a snapshot that a record refers to, and collects any other.
   */
  async #prepare(request: EnsureRequest, signal: AbortSignal): Promise<Prepared> {
    const { images, isolation, logs, steps } = this.#parts;
    const { containerId, identity, shape } = request;
    const choice = await this.#parts.tmp.chosen(signal);
    const logged = creationStep('CreateFailed', signal, () => logs.begin(containerId, identity.uid));
    const isLikelyHere = images.isLikelyHere(shape.image, identity.namespace);
    const pulled = Promise.withResolvers<'pulling'>();
    const image = steps.observed(
      'image',
      images.obtain(shape.image, {
        signal,
        namespace: identity.namespace,
        onPulling: (detail) => {
          request.onProgress?.('Pulling', detail);
          pulled.resolve('pulling');
        },
      }),
    );
    // No address and no disk is held during a pull, which may take minutes.
    const here = isLikelyHere ? Promise.resolve(undefined) : image;
    const begun = Promise.race([here, pulled.promise]).then(async (outcome) => {
      if (outcome === 'pulling') {
        await image;
      }
      request.onProgress?.('Creating');
    });
    const attached = begun.then(() =>
      shape.networkMode === 'Host'
        ? undefined
        : steps.observed('network', this.#attach(containerId, shape.egress, signal)),
    );
    const tmp = begun.then(() => this.#tmp(request, choice, signal));
    const isolated = creationStep('CreateFailed', signal, () => isolation.take(containerId));
    const recorded = Promise.all([image, attached, isolated]).then(([local, attachment, confined]) =>
      this.#record(request, { image: local, attachment, confined, tmpOnDisk: choice.kind === 'Disk' }, signal),
    );
    const snapshot = recorded.then(() => this.#snapshot(containerId, { image, isolated }, signal));
    // After a failure all steps have to end before the undo.
    const outcomes = await Promise.allSettled([image, attached, isolated, recorded, snapshot, tmp, logged]);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') {
        throw outcome.reason;
      }
    }
    const [mounts, file, rest] = await Promise.all([snapshot, tmp, recorded]);
    return { ...rest, rootfs: file === undefined ? mounts : await withTmp(mounts, file) };
  }

  /** Makes the file of `/tmp`; undefined where that is in memory. */
  async #tmp(
    { containerId, shape }: EnsureRequest,
    choice: TmpChoice,
    signal: AbortSignal,
  ): Promise<TmpFile | undefined> {
    return choice.kind === 'Memory'
      ? undefined
      : await creationStep('CreateFailed', signal, () =>
          this.#parts.steps.observed('tmp', choice.files.make(containerId, shape.ephemeralStorageMiB, signal)),
        );
  }

  async #record(
    request: EnsureRequest,
    found: {
      readonly image: LocalImage;
      /** Undefined for the network of the node. */
      readonly attachment: Attachment | undefined;
      readonly confined: WorkerIsolation;
      readonly tmpOnDisk: boolean;
    },
    signal: AbortSignal,
  ): Promise<Omit<Prepared, 'rootfs'>> {
    const { bootId, client, groups, hostPorts, resolvConfPath, runcRoot, runtime, snapshotter, steps } = this.#parts;
    const { containerId } = request;
    const { image, attachment, confined, tmpOnDisk } = found;
    const ports = attachment === undefined ? await hostPorts.allocate(containerId) : undefined;
    const shape = ports === undefined ? request.shape : withHostPorts(request.shape, image.config, ports);
    const address = { ip: attachment?.ip ?? HOST_MODE_IP, port: ports?.port ?? shape.port };
    const hostname = attachment === undefined ? nodeHostname() : hostnameOf(containerId);
    const hosts = await creationStep('CreateFailed', signal, () =>
      this.#parts.hosts.write(containerId, address.ip, hostname),
    );
    const init = await creationStep('CreateFailed', signal, () =>
      steps.init(containerId, request.identity.namespace, shape),
    );
    const spec = buildRuntimeSpec({
      ...confined.spec,
      containerId,
      functionName: request.identity.functionName,
      shape,
      image: image.config,
      init,
      netnsPath: attachment?.netnsPath,
      etcFiles: { hosts, resolvConf: resolvConfPath },
      tmpOnDisk,
      ...image.userFiles,
    });
    const group = groups.join(containerId);
    const record = await creationStep('CreateFailed', signal, () =>
      client.containers.create(
        {
          id: containerId,
          labels: {
            ...labelsOf(request, address, image.byDigest, handlerInItsPlace(request.shape, image.config)),
            ...confined.labels,
            ...(tmpOnDisk ? { [containerLabels.tmpOnDisk]: 'true' } : {}),
            [containerLabels.boot]: bootId,
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
    return { record };
  }

  /** Prepares the snapshot that the container's record refers to. */
  async #snapshot(
    containerId: string,
    after: { readonly image: Promise<LocalImage>; readonly isolated: Promise<WorkerIsolation> },
    signal: AbortSignal,
  ): Promise<readonly Mount[]> {
    const [{ chainId }, { snapshotLabels }] = await Promise.all([after.image, after.isolated]);
    return await creationStep('CreateFailed', signal, () =>
      this.#parts.steps.observed(
        'snapshot',
        this.#parts.client.snapshots.prepare(containerId, chainId, {
          deadlineMs: STEP_DEADLINE_MS,
          labels: snapshotLabels,
        }),
      ),
    );
  }

  async #attach(containerId: string, egress: EgressClass | undefined, signal: AbortSignal): Promise<Attachment> {
    try {
      return await this.#parts.network.attach(containerId, { egress, signal, deadlineMs: ATTACH_DEADLINE_MS });
    } catch (error) {
      throw networkError(error);
    }
  }

  async #undo(containerId: string, cause: unknown): Promise<void> {
    await this.#parts.steps.undo(containerId, cause, (keepLog) =>
      this.#removal.remove(containerId, { graceMs: 0, keepLog }),
    );
  }
}
