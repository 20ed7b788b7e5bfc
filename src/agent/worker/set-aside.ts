import type { Clock } from '../../common/clock.ts';
import { EsbError, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerRuntime } from '../../runtime/contract/runtime.ts';

/** Milliseconds that one attempt to remove such a container may take. */
const removalMs = 60_000;

/** A container that could not be removed. Its worker goes on without it; what it takes stays taken. */
export interface SetAside {
  readonly containerId: string;
  readonly namespace: string;
  readonly name: string;
  readonly memoryMiB: number;
  /** ISO 8601. */
  readonly since: string;
  /** Why it could not be removed, the last time. */
  readonly message: string;
}

/** Keeps them over a restart of the agent. */
export interface SetAsideStore {
  /** Does not reject: what cannot be read counts as none. */
  load(): Promise<readonly SetAside[]>;
  save(all: readonly SetAside[]): Promise<void>;
}

export interface SetAsidesOptions {
  readonly store: SetAsideStore;
  readonly runtime: Pick<ContainerRuntime, 'destroy'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called with each that is gone after all. */
  readonly onGone: (containerId: string) => void;
}

/** Keeps the containers of a node that could not be removed, and goes on trying. */
export class SetAsides {
  readonly #options: SetAsidesOptions;
  readonly #all = new Map<string, SetAside>();
  readonly #ended = new AbortController();
  #removing: Promise<void> | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(options: SetAsidesOptions) {
    this.#options = options;
  }

  get all(): readonly SetAside[] {
    return [...this.#all.values()];
  }

  /** Reads those that an earlier run has left. */
  async load(): Promise<void> {
    for (const each of await this.#options.store.load()) {
      this.#all.set(each.containerId, each);
    }
  }

  add(container: Omit<SetAside, 'since'>): void {
    const { clock, logger } = this.#options;
    const since = new Date(clock.now()).toISOString();
    logger.error({ ...container }, 'a container that cannot be removed is set aside');
    this.#all.set(container.containerId, { ...container, since });
    this.#save();
  }

  /** Tries once more to remove them, one after the other, unless that is under way. */
  retry(): void {
    if (this.#all.size > 0 && !this.#ended.signal.aborted) {
      this.#removing ??= this.#removeAll().finally(() => {
        this.#removing = undefined;
      });
    }
  }

  /** Resolves when nothing is under way any more. */
  async stop(): Promise<void> {
    this.#ended.abort();
    await this.#removing;
    await this.#writing;
  }

  /** Never rejects. */
  async #removeAll(): Promise<void> {
    const { logger, onGone, runtime } = this.#options;
    const { signal } = this.#ended;
    for (const each of this.all) {
      const { containerId } = each;
      try {
        await runtime.destroy(containerId, { signal, graceSeconds: 0, deadlineMs: removalMs });
        this.#all.delete(containerId);
        logger.info({ containerId }, 'a container that was set aside is gone');
        onGone(containerId);
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        const { code } = EsbError.from(error);
        logger.debug({ containerId, code, err: error }, 'a container that was set aside stays');
        this.#all.set(containerId, { ...each, message: messageOf(error) });
      }
    }
    this.#save();
  }

  #save(): void {
    const { logger, store } = this.#options;
    const { all } = this;
    this.#writing = this.#writing
      .then(() => store.save(all))
      .catch((error: unknown) => {
        logger.error({ err: error }, 'cannot write which containers were set aside');
      });
  }
}
