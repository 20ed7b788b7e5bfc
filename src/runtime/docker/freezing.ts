import { EsbError } from '../../common/errors.ts';
import type { ContainerService } from '../../docker/container-service.ts';
import type { KernelState } from '../contract/runtime.ts';
import type { Freezing } from '../lifecycle/runtime-backend.ts';
import type { DockerWorkers } from './containers.ts';

const SWITCH_DEADLINE_MS = 30_000;

/** Freezing by the engine, whose own tools always know the state, and which chooses where its control groups are. */
export class DockerFreezing implements Freezing {
  readonly #containers: ContainerService;
  readonly #workers: DockerWorkers;

  constructor(containers: ContainerService, workers: DockerWorkers) {
    this.#containers = containers;
    this.#workers = workers;
  }

  async pause(containerId: string): Promise<void> {
    await this.#switch('pause', containerId);
  }

  async resume(containerId: string): Promise<void> {
    await this.#switch('resume', containerId);
  }

  kernelState(): KernelState {
    return 'Untold';
  }

  thawDirectly(): boolean {
    return false;
  }

  settle(): Promise<boolean> {
    return Promise.resolve(true);
  }

  isFrozen(): boolean {
    return false;
  }

  /** Freezes or thaws. The engine refuses a repetition and an impossible change in the same words: the state decides. */
  async #switch(kind: 'pause' | 'resume', containerId: string): Promise<void> {
    const wanted = kind === 'pause' ? 'paused' : 'running';
    const opposite = kind === 'pause' ? 'running' : 'paused';
    const before = await this.#workers.find(containerId);
    if (before?.status === wanted) {
      return;
    }
    if (before?.status !== opposite) {
      throw new EsbError(`${containerId} does not run`, { code: 'NotFound' });
    }
    const call = { deadlineMs: SWITCH_DEADLINE_MS };
    try {
      await (kind === 'pause' ? this.#containers.pause(before.id, call) : this.#containers.unpause(before.id, call));
    } catch (error) {
      const after = await this.#workers.find(containerId);
      if (after?.status === wanted) {
        return;
      }
      if (after?.status !== opposite) {
        throw new EsbError(`${containerId} does not run any more`, { code: 'NotFound', cause: error });
      }
      throw error;
    }
  }
}
