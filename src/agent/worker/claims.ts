import type { Logger } from '../../common/logger.ts';
import type { Answers } from './answers.ts';

/** Stands for the uid of a worker that has a container which is set aside. */
const setAside = '';

/** Containers of a node and their workers. A container that no worker has is removed as an orphan. */
export class ContainerClaims {
  readonly #byContainer = new Map<string, string>();
  readonly #answers: Answers;
  readonly #logger: Logger;

  constructor(answers: Answers, logger: Logger) {
    this.#answers = answers;
    this.#logger = logger;
  }

  get containerIds(): Iterable<string> {
    return this.#byContainer.keys();
  }

  has(containerId: string): boolean {
    return this.#byContainer.has(containerId);
  }

  /** The uid of the worker that has a container; undefined for none. */
  ownerOf(containerId: string): string | undefined {
    const owner = this.#byContainer.get(containerId);
    return owner === setAside ? undefined : owner;
  }

  /** Whether a container is that worker's, or no worker's. */
  mayClaim(containerId: string, uid: string): boolean {
    return (this.#byContainer.get(containerId) ?? uid) === uid;
  }

  /** Makes a container that worker's. Logs where another worker has it already. */
  claim(containerId: string, uid: string): void {
    if (this.mayClaim(containerId, uid)) {
      this.#byContainer.set(containerId, uid);
    } else {
      const owner = this.#byContainer.get(containerId);
      this.#logger.error({ containerId, uid, owner }, 'a worker claims a container that another worker has');
    }
  }

  unclaim(containerId: string, uid: string): void {
    if (this.#byContainer.get(containerId) === uid) {
      this.#byContainer.delete(containerId);
      this.#answers.forget(containerId);
    }
  }

  /** No worker claims it from here on, and it is removed as no orphan. */
  setAside(containerId: string): void {
    this.#byContainer.set(containerId, setAside);
    this.#answers.forget(containerId);
  }

  isSetAside(containerId: string): boolean {
    return this.#byContainer.get(containerId) === setAside;
  }

  /** A container that was set aside is gone. */
  gone(containerId: string): void {
    if (this.isSetAside(containerId)) {
      this.#byContainer.delete(containerId);
    }
  }
}
