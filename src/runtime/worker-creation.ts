import type { Attachment, NodeNetwork } from '../cni/node-network.ts';
import type { Clock } from '../common/clock.ts';
import { AbortedError, isAborted } from '../common/deadline.ts';
import { EsbError } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';
import type { ContainerdClient } from '../containerd/containerd-client.ts';
import { buildRuntimeSpec } from '../oci/runtime-spec.ts';
import type { EnsureRequest, WorkerAddress, WorkerInfo, WorkerShape } from './container-runtime.ts';
import { createError, networkError } from './create-error.ts';
import { freeHostPort, HOST_MODE_IP, withHostPort } from './host-port.ts';
import type { ImageStore, LocalImage } from './image-store.ts';
import { type Connect, waitForPort } from './port-probe.ts';
import type { WorkerCgroups } from './worker-cgroup.ts';
import { WorkerExitError } from './worker-exit-error.ts';
import type { WorkerLogs } from './worker-log.ts';
import { labelsOf, workerInfoOf } from './worker-record.ts';
import { leaseOf, type WorkerRemoval } from './worker-removal.ts';

export interface WorkerCreationOptions {
  readonly client: ContainerdClient;
  readonly images: ImageStore;
  readonly network: NodeNetwork;
  readonly removal: WorkerRemoval;
  readonly cgroups: WorkerCgroups;
  readonly logs: WorkerLogs;
  readonly snapshotter: string;
  readonly runtime: string;
  readonly runcRoot?: string | undefined;
  /** Mounted over the worker's own; absent leaves the image's. */
  readonly resolvConfPath?: string | undefined;
  readonly oomScoreAdj?: number | undefined;
  readonly seccomp?: boolean | undefined;
  /** How long a new process may take until it listens. */
  readonly listenDeadlineMs: number;
  readonly connect: Connect;
  readonly clock: Clock;
  readonly logger: Logger;
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

interface Prepared {
  readonly image: LocalImage;
  readonly shape: WorkerShape;
  readonly address: WorkerAddress;
  readonly netnsPath?: string;
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
    const { containerId } = request;
    const leased = this.#lease(containerId);
    // It is waited for where it is needed first, and in any case before anything is undone.
    leased.catch(() => undefined);
    try {
      return await this.#create(request, leased, signal);
    } catch (error) {
      await leased.catch(() => undefined);
      await this.#undo(containerId, error);
      throw error;
    }
  }

  /** Waits until a running worker listens, or has ended instead. */
  async waitUntilListening(containerId: string, address: WorkerAddress, signal: AbortSignal): Promise<void> {
    const { client, clock, connect, listenDeadlineMs } = this.#options;
    const controller = new AbortController();
    const giveUp = (): void => controller.abort(new AbortedError('waiting for the port', signal.reason));
    signal.addEventListener('abort', giveUp, { once: true });
    let late = false;
    const timer = clock.setTimer(() => {
      late = true;
      controller.abort(new AbortedError('waiting for the port'));
    }, listenDeadlineMs);
    try {
      if (signal.aborted) {
        throw new AbortedError('waiting for the port', signal.reason);
      }
      const opened = waitForPort(address, connect, clock, controller.signal).then(() => undefined);
      const exited = client.tasks.wait(containerId, { signal: controller.signal });
      // The one that is not waited for ends by the signal below.
      exited.catch(() => undefined);
      const exit = await Promise.race([opened, exited]);
      if (exit !== undefined) {
        throw await this.#exitError(containerId, exit.exitCode, exit.exitedAt);
      }
    } catch (error) {
      if (late && isAborted(error)) {
        throw await this.#notListening(containerId, address, error);
      }
      throw error;
    } finally {
      timer.cancel();
      controller.abort(new AbortedError('waiting for the port'));
      signal.removeEventListener('abort', giveUp);
    }
  }

  async #create(request: EnsureRequest, leased: Promise<void>, signal: AbortSignal): Promise<WorkerInfo> {
    const { client, logs, snapshotter, runtime, runcRoot } = this.#options;
    const { containerId } = request;
    const call = { deadlineMs: STEP_DEADLINE_MS };
    const lease = leaseOf(containerId);
    const prepared = await this.#prepare(request, signal);
    const { image, address } = prepared;
    const spec = buildRuntimeSpec({
      containerId,
      functionName: request.identity.functionName,
      shape: prepared.shape,
      image: image.config,
      cgroupsPath: this.#options.cgroups.path(containerId),
      ...(prepared.netnsPath === undefined ? {} : { netnsPath: prepared.netnsPath }),
      ...(this.#options.resolvConfPath === undefined
        ? {}
        : { etcFiles: { resolvConf: this.#options.resolvConfPath } }),
      ...(image.userFiles === undefined ? {} : image.userFiles),
      ...(this.#options.oomScoreAdj === undefined ? {} : { oomScoreAdj: this.#options.oomScoreAdj }),
      ...(this.#options.seccomp === undefined ? {} : { seccomp: this.#options.seccomp }),
    });
    const record = await this.#step('CreateFailed', signal, () =>
      client.containers.create(
        {
          id: containerId,
          labels: labelsOf(request, address, image.byDigest),
          image: image.reference.name,
          snapshotter,
          snapshotKey: containerId,
          runtime,
          runcRoot,
          spec,
        },
        call,
      ),
    );
    await leased;
    const rootfs = await this.#step('CreateFailed', signal, () =>
      client.snapshots.prepare(containerId, image.chainId, { ...call, lease }),
    );
    const task = { containerId, rootfs, logUri: logs.uri(containerId) };
    const { pid } = await this.#step('CreateFailed', signal, () =>
      client.tasks.create(task, { deadlineMs: TASK_DEADLINE_MS }),
    );
    await this.#step('StartFailed', signal, () =>
      client.tasks.start(containerId, { deadlineMs: TASK_DEADLINE_MS }),
    );
    request.onProgress?.('Starting');
    // The container's record refers to the snapshot by now; nobody has to wait for the lease to go.
    this.#options.inBackground('ending a lease', () => client.leases.delete(lease, call));
    await this.waitUntilListening(containerId, address, signal);
    return workerInfoOf(record, { kind: 'Running', pid });
  }

  /** The image and the attachment, which do not need each other. */
  async #prepare(request: EnsureRequest, signal: AbortSignal): Promise<Prepared> {
    const { images } = this.#options;
    const { containerId, shape } = request;
    const isLikelyHere = images.isLikelyHere(shape.image);
    const pulled = Promise.withResolvers<'pulling'>();
    const image = images.obtain(shape.image, {
      signal,
      onPulling: () => {
        request.onProgress?.('Pulling');
        pulled.resolve('pulling');
      },
    });
    // While an image is pulled, for minutes maybe, no address is held.
    const here = isLikelyHere ? Promise.resolve(undefined) : image;
    const attached = Promise.race([here, pulled.promise]).then(async (outcome) => {
      if (outcome === 'pulling') {
        await image;
      }
      request.onProgress?.('Creating');
      return shape.networkMode === 'Host' ? undefined : await this.#attach(containerId, signal);
    });
    const outcomes = await Promise.allSettled([image, attached]);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') {
        throw outcome.reason;
      }
    }
    const [found, attachment] = await Promise.all([image, attached]);
    if (attachment === undefined) {
      const port = await freeHostPort();
      return {
        image: found,
        shape: withHostPort(shape, found.config, port),
        address: { ip: HOST_MODE_IP, port },
      };
    }
    return {
      image: found,
      shape,
      address: { ip: attachment.ip, port: shape.port },
      netnsPath: attachment.netnsPath,
    };
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

  async #step<T>(
    code: 'CreateFailed' | 'StartFailed',
    signal: AbortSignal,
    call: () => Promise<T>,
  ): Promise<T> {
    if (signal.aborted) {
      throw new AbortedError('making a worker', signal.reason);
    }
    try {
      return await call();
    } catch (error) {
      throw createError(code, error);
    }
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

  async #notListening(containerId: string, address: WorkerAddress, cause: unknown): Promise<EsbError> {
    const { listenDeadlineMs, logs } = this.#options;
    const output = (await logs.read(containerId, 0, LOG_TAIL_BYTES)).toString('utf8').trim();
    return new EsbError(
      `nothing listens on port ${address.port} of ${containerId} after ${Math.round(listenDeadlineMs / 1000)} s: is spec.port the port of the emulator?${output === '' ? '' : ` Its last output: ${output}`}`,
      { code: 'NotListening', retryable: true, cause },
    );
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
