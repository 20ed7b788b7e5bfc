import { hasCode } from '../../common/errors.ts';
import type { ContainerdClient } from '../../containerd/containerd-client.ts';

/** A name that no worker has: containerd looks for the container and has no shim to ask. */
const NOBODY = 'esb-pulse';
const DEADLINE_MS = 2_000;

/** Tells a containerd that hangs from a single shim that does. */
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
      await this.#client.tasks.get(NOBODY, { deadlineMs: DEADLINE_MS });
      return true;
    } catch (error) {
      return hasCode(error, 'NotFound');
    }
  }
}
