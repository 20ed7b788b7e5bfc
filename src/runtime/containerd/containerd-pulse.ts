import { hasCode } from '../../common/errors.ts';
import type { ContainerdClient } from '../../containerd/containerd-client.ts';

/** A name that no worker has: containerd looks for the container and asks no shim. */
const UNUSED_NAME = 'esb-pulse';
const DEADLINE_MS = 2_000;

/** Distinguishes a containerd that hangs from a single shim that does. */
export class ContainerdPulse {
  readonly #client: Pick<ContainerdClient, 'tasks'>;
  #asked: Promise<boolean> | undefined;

  constructor(client: Pick<ContainerdClient, 'tasks'>) {
    this.#client = client;
  }

  /** Whether containerd answers for a task that does not exist. Callers at the same time share one question. */
  async answers(): Promise<boolean> {
    this.#asked ??= this.#ask().finally(() => {
      this.#asked = undefined;
    });
    return await this.#asked;
  }

  async #ask(): Promise<boolean> {
    try {
      await this.#client.tasks.get(UNUSED_NAME, { deadlineMs: DEADLINE_MS });
      return true;
    } catch (error) {
      return hasCode(error, 'NotFound');
    }
  }
}
