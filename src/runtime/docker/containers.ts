import { type CallOptions, sleep } from '../../common/deadline.ts';
import { EsbError, hasCode, undefinedIfNotFound } from '../../common/errors.ts';
import type { ContainerService, DockerContainer } from '../../docker/container-service.ts';
import { linuxPlatform } from '../../oci/image-config.ts';
import { handlerInItsPlace } from '../../oci/spec-process.ts';
import { isWorker } from '../contract/container-labels.ts';
import type { EnsureRequest, WorkerInfo } from '../contract/runtime.ts';
import type { WorkerExit } from '../contract/worker-exit-error.ts';
import type { WorkerPlace } from '../lifecycle/creation-steps.ts';
import type { RemovalRequest } from '../lifecycle/runtime-backend.ts';
import type { RuntimeParts } from '../lifecycle/runtime-parts.ts';
import { creationStep } from '../start/create-error.ts';
import { withHostPorts } from '../start/host-port.ts';
import type { EpochStore } from './epoch-store.ts';
import type { DockerImages } from './images.ts';
import { dockerLabelsOf, dockerWorkerInfo } from './labels.ts';
import type { LogCopier } from './log-copier.ts';
import { dockerSpecOf } from './spec.ts';

export interface DockerWorkersOptions {
  readonly parts: RuntimeParts;
  readonly containers: ContainerService;
  readonly images: DockerImages;
  readonly epochs: EpochStore;
  readonly copier: LogCopier;
  readonly oomScoreAdj?: number | undefined;
}

/** The engine's id of a worker that was made and not started. */
export type MadeDockerWorker = string;

const STEP_DEADLINE_MS = 60_000;
const READ_DEADLINE_MS = 10_000;
const REMOVE_DEADLINE_MS = 60_000;
const REMOVE_RETRY_MS = 100;
/** The engine's words for an image whose user is unknown. */
const UNKNOWN_USER = /unable to find (user|group) /;

/**
 * Makes and removes workers as containers of a Docker engine. Calls that change something are never cut off, since their
 * effect would not be known: a caller that gives up is heard between two calls, and everything made so far is removed.
 */
export class DockerWorkers {
  readonly #options: DockerWorkersOptions;

  constructor(options: DockerWorkersOptions) {
    this.#options = options;
  }

  /** A container of ours; undefined for none, and for a stranger's of the same name. */
  async find(containerId: string, options: CallOptions = {}): Promise<DockerContainer | undefined> {
    const call = { deadlineMs: READ_DEADLINE_MS, ...options };
    const found = await undefinedIfNotFound(this.#options.containers.inspect(containerId, call));
    return found !== undefined && isWorker(found) && found.name === containerId ? found : undefined;
  }

  /** Makes everything of a worker but its first process. Leaves nothing when it fails. */
  async make(request: EnsureRequest, signal: AbortSignal): Promise<MadeDockerWorker> {
    try {
      return await this.#make(request, signal);
    } catch (error) {
      await this.#undo(request.containerId, error);
      throw error;
    }
  }

  /** Starts a worker that was made, and waits until it listens. Leaves nothing when that fails. */
  async launch(request: EnsureRequest, made: MadeDockerWorker, signal: AbortSignal): Promise<WorkerInfo> {
    const { containers, copier, epochs, parts } = this.#options;
    const { containerId } = request;
    try {
      await this.#step('StartFailed', signal, () =>
        parts.steps.observed('start', containers.start(made, { deadlineMs: STEP_DEADLINE_MS })),
      );
      copier.follow(containerId, made);
      request.onProgress?.('Starting');
      const started = await containers.inspect(made, { deadlineMs: READ_DEADLINE_MS });
      const info = dockerWorkerInfo(started, epochs.of(containerId));
      const { address, task } = info;
      if (task.kind !== 'Running') {
        throw await parts.steps.exitError(containerId, await this.#exitOf(containerId, made));
      }
      if (address === undefined) {
        throw new EsbError(`the engine has given ${containerId} no address`, { code: 'NetworkFailed' });
      }
      const place = { address, pid: task.pid };
      await parts.steps.observed('listen', this.untilListening(containerId, place, signal));
      return info;
    } catch (error) {
      await this.#undo(containerId, error);
      throw error;
    }
  }

  /** Waits until a running worker listens, or fails with its exit. */
  async untilListening(containerId: string, place: WorkerPlace, signal: AbortSignal): Promise<void> {
    const { containers, parts } = this.#options;
    await parts.steps.untilListening(
      containerId,
      place,
      (ended) => containers.wait(containerId, { signal: ended }),
      () => this.#exitOf(containerId, containerId),
      signal,
    );
  }

  /** Removes a worker. Missing is success; a stranger's container of the same name stays. */
  async remove(containerId: string, removal: RemovalRequest): Promise<void> {
    const { copier, epochs, parts } = this.#options;
    const { hostPorts, logs } = parts;
    const found = await this.find(containerId);
    if (found !== undefined) {
      const isAlive = found.status === 'running' || found.status === 'paused';
      if (isAlive && (removal.graceMs > 0 || removal.keepLog === true)) {
        await undefinedIfNotFound(this.#end(found, removal.graceMs));
      }
      // The engine's log goes with the container.
      if (removal.keepLog === true) {
        await copier.drain(containerId);
      }
      await this.#remove(found.id);
    }
    await copier.end(containerId);
    await (removal.keepLog === true ? logs.keep(containerId) : logs.remove(containerId));
    if (removal.keepNetwork !== true) {
      await hostPorts.release(containerId);
    }
    await epochs.forget(containerId);
  }

  async #make(request: EnsureRequest, signal: AbortSignal): Promise<MadeDockerWorker> {
    const { containers, copier, images, oomScoreAdj, parts } = this.#options;
    const { hostPorts, logs, steps } = parts;
    const { containerId, identity, shape: wanted } = request;
    const image = await steps.observed(
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
      steps.observed('create', containers.create(container, { deadlineMs: STEP_DEADLINE_MS })),
    );
  }

  /** SIGTERM, grace, SIGKILL. A frozen process is killed frozen and runs no more. */
  async #end({ id, status }: DockerContainer, graceMs: number): Promise<void> {
    const { containers } = this.#options;
    await (status === 'paused' || graceMs === 0
      ? containers.kill(id, { deadlineMs: STEP_DEADLINE_MS })
      : containers.stop(id, graceMs / 1000, { deadlineMs: STEP_DEADLINE_MS + graceMs }));
  }

  /** Removes a container. While another removal is under way the engine refuses: then that one is waited for. */
  async #remove(id: string): Promise<void> {
    const { containers, parts } = this.#options;
    const { clock } = parts;
    const deadline = clock.monotonic() + REMOVE_DEADLINE_MS;
    for (;;) {
      try {
        await undefinedIfNotFound(containers.remove(id, { deadlineMs: REMOVE_DEADLINE_MS }));
        return;
      } catch (error) {
        if (!hasCode(error, 'FailedPrecondition') || clock.monotonic() > deadline) {
          throw error;
        }
      }
      await sleep(clock, REMOVE_RETRY_MS);
    }
  }

  async #exitOf(containerId: string, engineId: string): Promise<Omit<WorkerExit, 'output'>> {
    const { containers, copier, parts } = this.#options;
    await copier.drain(containerId);
    // The engine learns of an end first, and of the kernel's reason a moment later.
    const { exitCode, finishedAt, oomKilled } = await containers.inspect(engineId, {
      deadlineMs: READ_DEADLINE_MS,
    });
    return {
      exitCode,
      oomKilled: exitCode !== 0 && oomKilled,
      finishedAt: finishedAt ?? new Date(parts.clock.now()),
    };
  }

  async #step<T>(code: 'CreateFailed' | 'StartFailed', signal: AbortSignal, call: () => Promise<T>): Promise<T> {
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
    await this.#options.parts.steps.undo(containerId, cause, (keepLog) =>
      this.remove(containerId, { graceMs: 0, keepLog }),
    );
  }
}
