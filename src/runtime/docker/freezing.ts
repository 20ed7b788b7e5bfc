import { EsbError } from '../../common/errors.ts';
import type { ContainerService, DockerContainer } from '../../docker/container-service.ts';
import type { KernelState } from '../contract/runtime.ts';
import type { Freezing } from '../lifecycle/runtime-backend.ts';

const SWITCH_DEADLINE_MS = 30_000;

/** Freezing by the engine, whose own tools always know the state, and which chooses where its control groups are. */
export class DockerFreezing implements Freezing {
  readonly #containers: ContainerService;
  readonly #find: (containerId: string) => Promise<DockerContainer | undefined>;

  constructor(containers: ContainerService, find: (containerId: string) => Promise<DockerContainer | undefined>) {
    this.#containers = containers;
    this.#find = find;
  }

  async pause(containerId: string): Promise<void> {
    await this.#switch('pause', containerId);
  }

  async resume(containerId: string): Promise<void> {
    await this.#switch('unpause', containerId);
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
  async #switch(kind: 'pause' | 'unpause', containerId: string): Promise<void> {
    const [wanted, opposite] = kind === 'pause' ? ['paused', 'running'] : ['running', 'paused'];
    const before = await this.#find(containerId);
    if (before?.status === wanted) {
      return;
    }
    if (before?.status !== opposite) {
      throw new EsbError(`${containerId} does not run`, { code: 'NotFound' });
    }
    try {
      await this.#containers[kind](before.id, { deadlineMs: SWITCH_DEADLINE_MS });
    } catch (error) {
      const after = await this.#find(containerId);
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
