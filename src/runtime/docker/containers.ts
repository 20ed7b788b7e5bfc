import type { Clock } from '../../common/clock.ts';
import { isAborted, sleep } from '../../common/deadline.ts';
import { EsbError, hasCode, unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerService, DockerContainer } from '../../docker/container-service.ts';
import { linuxPlatform } from '../../oci/image-config.ts';
import { handlerInItsPlace } from '../../oci/spec-process.ts';
import { observed, type RuntimeObserver, type StartStage } from '../contract/instrumentation.ts';
import type { EnsureRequest, WorkerAddress, WorkerInfo } from '../contract/runtime.ts';
import { WorkerExitError } from '../contract/worker-exit-error.ts';
import type { WorkerLogs } from '../logs/worker-logs.ts';
import { creationStep } from '../start/create-error.ts';
import { withHostPorts } from '../start/host-port.ts';
import type { HostPortAllocator } from '../start/host-port-allocator.ts';
import type { Connect } from '../start/port-probe.ts';
import { notListening, waitUntilListening } from '../start/readiness.ts';
import type { EpochStore } from './epoch-store.ts';
import type { DockerImages } from './images.ts';
import { dockerLabelsOf, dockerWorkerInfo, isDockerWorker } from './labels.ts';
import type { LogCopier } from './log-copier.ts';
import { dockerSpecOf } from './spec.ts';

export interface DockerWorkersOptions {
  readonly containers: ContainerService;
  readonly images: DockerImages;
  readonly hostPorts: HostPortAllocator;
  readonly epochs: EpochStore;
  readonly logs: WorkerLogs;
  readonly copier: LogCopier;
  readonly oomScoreAdj?: number | undefined;
  /** Milliseconds that a started worker may take until its port is open. */
  readonly listenDeadlineMs: number;
  readonly connect: Connect;
  readonly observer?: RuntimeObserver | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface DockerRemoval {
  /** Milliseconds between SIGTERM and SIGKILL; 0 kills at once. */
  readonly graceMs: number;
  readonly keepLog?: boolean;
  readonly keepPorts?: boolean;
}

/** The engine's id of a worker that was made and not started. */
export type MadeDockerWorker = string;

const STEP_DEADLINE_MS = 60_000;
const READ_DEADLINE_MS = 10_000;
const REMOVE_DEADLINE_MS = 60_000;
const REMOVE_RETRY_MS = 100;
const LOG_TAIL_BYTES = 2048;
/** What the engine says of an image whose user it does not find. */
const UNKNOWN_USER = /unable to find (user|group) /;

/**
 * Makes and removes workers as containers of a Docker engine. Calls that change something are never cut off in the middle,
 * since what they did would not be known then: whoever gives up is heard between them, and what was made so far is
 * removed again.
 */
export class DockerWorkers {
  readonly #options: DockerWorkersOptions;

  constructor(options: DockerWorkersOptions) {
    this.#options = options;
  }

  /** A container of ours; undefined for none, and for one of the same name that is somebody else's. */
  async find(containerId: string, signal?: AbortSignal): Promise<DockerContainer | undefined> {
    try {
      const call = { deadlineMs: READ_DEADLINE_MS, signal };
      const found = await this.#options.containers.inspect(containerId, call);
      return isDockerWorker(found) && found.name === containerId ? found : undefined;
    } catch (error) {
      if (hasCode(error, 'NotFound')) {
        return undefined;
      }
      throw error;
    }
  }

  /** Makes a worker of which there is nothing but maybe a log. Leaves nothing when it fails. */
  async create(request: EnsureRequest, signal: AbortSignal): Promise<WorkerInfo> {
    return await this.launch(request, await this.make(request, signal), signal);
  }

  /** Does all of it but the start. */
  async make(request: EnsureRequest, signal: AbortSignal): Promise<MadeDockerWorker> {
    try {
      return await this.#make(request, signal);
    } catch (error) {
      await this.#undo(request.containerId, error);
      throw error;
    }
  }

  /** Starts what was made, and waits until it listens. Leaves nothing when it fails. */
  async launch(request: EnsureRequest, made: MadeDockerWorker, signal: AbortSignal): Promise<WorkerInfo> {
    const { containers, copier, epochs } = this.#options;
    const { containerId } = request;
    try {
      await this.#step('StartFailed', signal, () =>
        this.#observed('start', containers.start(made, { deadlineMs: STEP_DEADLINE_MS })),
      );
      copier.follow(containerId, made);
      request.onProgress?.('Starting');
      const started = await containers.inspect(made, { deadlineMs: READ_DEADLINE_MS });
      const info = dockerWorkerInfo(started, epochs.of(containerId));
      const { address, task } = info;
      if (task.kind !== 'Running') {
        throw await this.#exitError(containerId, made);
      }
      if (address === undefined) {
        throw new EsbError(`the engine has given ${containerId} no address`, {
          code: 'NetworkFailed',
          retryable: true,
        });
      }
      await this.#observed(
        'listen',
        this.waitUntilListening(containerId, { address, pid: task.pid }, signal),
      );
      return info;
    } catch (error) {
      await this.#undo(containerId, error);
      throw error;
    }
  }

  /** Waits until a running worker listens, or has ended instead. */
  async waitUntilListening(
    containerId: string,
    place: { readonly address: WorkerAddress; readonly pid: number },
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, connect, containers, listenDeadlineMs: deadlineMs, logs } = this.#options;
    const exited = (ended: AbortSignal): Promise<void> => containers.wait(containerId, { signal: ended });
    const wait = { ...place, clock, connect, deadlineMs, exited };
    const outcome = await waitUntilListening(wait, signal);
    switch (outcome.kind) {
      case 'Listening':
        return;
      case 'Exited':
        throw await this.#exitError(containerId, containerId);
      case 'Late':
        throw notListening(containerId, wait, (await logs.read(containerId, 0, LOG_TAIL_BYTES)).toString());
      default:
        unreachable(outcome);
    }
  }

  /** Missing is success. What bears the name and is somebody else's stays. */
  async remove(containerId: string, removal: DockerRemoval): Promise<void> {
    const { copier, epochs, hostPorts, logs } = this.#options;
    const found = await this.find(containerId);
    if (found !== undefined) {
      const isAlive = found.status === 'running' || found.status === 'paused';
      if (isAlive && (removal.graceMs > 0 || removal.keepLog === true)) {
        await missingIsDone(this.#end(found, removal.graceMs));
      }
      // The engine's log goes with the container.
      if (removal.keepLog === true) {
        await copier.drain(containerId);
      }
      await this.#remove(found.id);
    }
    await copier.end(containerId);
    await (removal.keepLog === true ? logs.keep(containerId) : logs.remove(containerId));
    if (removal.keepPorts !== true) {
      await hostPorts.release(containerId);
    }
    await epochs.forget(containerId);
  }

  async #make(request: EnsureRequest, signal: AbortSignal): Promise<MadeDockerWorker> {
    const { containers, copier, hostPorts, images, logs, oomScoreAdj } = this.#options;
    const { containerId, identity, shape: wanted } = request;
    const image = await this.#observed(
      'image',
      images.obtain(wanted.image, {
        signal,
        namespace: identity.namespace,
        onPulling: (detail) => request.onProgress?.('Pulling', detail),
      }),
    );
    request.onProgress?.('Creating');
    const shape =
      wanted.networkMode === 'Host'
        ? withHostPorts(wanted, image.config, await hostPorts.allocate(containerId))
        : wanted;
    const container = dockerSpecOf({
      containerId,
      functionName: identity.functionName,
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
      this.#observed('create', containers.create(container, { deadlineMs: STEP_DEADLINE_MS })),
    );
  }

  /** SIGTERM, grace, SIGKILL. A frozen process is killed as it is, so that it runs no more. */
  async #end({ id, status }: DockerContainer, graceMs: number): Promise<void> {
    const { containers } = this.#options;
    await (status === 'paused' || graceMs === 0
      ? containers.kill(id, { deadlineMs: STEP_DEADLINE_MS })
      : containers.stop(id, graceMs / 1000, { deadlineMs: STEP_DEADLINE_MS + graceMs }));
  }

  /** Also one that is being removed by somebody else already, which the engine refuses to do once more. */
  async #remove(id: string): Promise<void> {
    const { clock, containers } = this.#options;
    const deadline = clock.monotonic() + REMOVE_DEADLINE_MS;
    for (;;) {
      try {
        await missingIsDone(containers.remove(id, { deadlineMs: REMOVE_DEADLINE_MS }));
        return;
      } catch (error) {
        if (!hasCode(error, 'FailedPrecondition') || clock.monotonic() > deadline) {
          throw error;
        }
      }
      await sleep(clock, REMOVE_RETRY_MS);
    }
  }

  async #exitError(containerId: string, engineId: string): Promise<EsbError> {
    const { clock, containers, copier, logs } = this.#options;
    await copier.drain(containerId);
    // The engine hears of an end and of the kernel's reason for it apart, and of the reason a moment later.
    const container = await containers.inspect(engineId, { deadlineMs: READ_DEADLINE_MS });
    const output = await logs.read(containerId, 0, LOG_TAIL_BYTES);
    return new WorkerExitError(containerId, {
      exitCode: container.exitCode,
      oomKilled: container.exitCode !== 0 && container.oomKilled,
      finishedAt: container.finishedAt ?? new Date(clock.now()),
      output: output.toString('utf8'),
    });
  }

  #observed<T>(stage: StartStage, work: Promise<T>): Promise<T> {
    const { clock, observer } = this.#options;
    return observed(observer, stage, () => clock.monotonic(), work);
  }

  async #step<T>(
    code: 'CreateFailed' | 'StartFailed',
    signal: AbortSignal,
    call: () => Promise<T>,
  ): Promise<T> {
    try {
      return await creationStep(code, signal, call);
    } catch (error) {
      const failure = EsbError.from(error);
      throw UNKNOWN_USER.test(failure.message)
        ? new EsbError(`the image's user is not in its /etc/passwd: ${failure.message}`, {
            code: 'ImageInvalid',
            cause: failure.cause,
          })
        : failure;
    }
  }

  async #undo(containerId: string, cause: unknown): Promise<void> {
    const { logger, logs } = this.#options;
    try {
      // What it wrote is all that tells why it failed; a caller who gave up has no use for it.
      const keepLog = !isAborted(cause) && (await logs.size(containerId)) > 0;
      await this.remove(containerId, { graceMs: 0, keepLog });
    } catch (error) {
      // It shows as half-made in the next list, and is removed or made anew from there.
      logger.error({ containerId, err: error }, 'what a failed creation left could not be removed');
    }
  }
}

async function missingIsDone(call: Promise<unknown>): Promise<void> {
  try {
    await call;
  } catch (error) {
    if (!hasCode(error, 'NotFound')) {
      throw error;
    }
  }
}
