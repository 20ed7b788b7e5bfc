import { Backoff } from '../../common/backoff.ts';
import type { Clock, Timer } from '../../common/clock.ts';
import { Limiter } from '../../common/limiter.ts';
import type { Logger } from '../../common/logger.ts';
import type { TaskTracker } from '../../common/task-group.ts';
import type { NamespaceKeeper } from '../host/netns.ts';
import { cniTarget, type NetworkSetup } from '../host/network-setup.ts';
import { networkFailure } from '../spec/network-error.ts';
import type { AttachmentIndex } from './attachment-index.ts';
import type { NodeTable } from './node-table.ts';

export interface TeardownQueueOptions {
  readonly book: AttachmentIndex;
  readonly namespaces: NamespaceKeeper;
  readonly work: TaskTracker;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly setup: () => Promise<NetworkSetup>;
  readonly table: Pick<NodeTable, 'release'>;
}

const DEADLINE_MS = 20_000;
/** Removals at once without a waiting caller: after a reboot there may be a thousand, beside as many being made. */
const AT_ONCE = 2;
/** Removals at once in all. Each runs several programs, in the control group of the agent. */
const MOST_AT_ONCE = 8;
/** Waits after a removal failed. */
const BACKOFF = { firstMs: 1000, maxMs: 30_000 } as const;

/** Removes namespaces of ours: CNI DEL, the namespace, the record. Failed removals are tried again later. */
export class TeardownQueue {
  readonly #options: TeardownQueueOptions;
  readonly #queue = new Set<string>();
  readonly #running = new Map<string, Promise<void>>();
  readonly #limiter = new Limiter(MOST_AT_ONCE);
  readonly #backoff = new Backoff(BACKOFF);
  #atWork = 0;
  #timer: Timer | undefined;
  #stopped = false;
  #ended = Promise.withResolvers<void>();

  constructor(options: TeardownQueueOptions) {
    this.#options = options;
  }

  /** Marks something for removal and has it removed in the background, after a stop by the next agent. */
  discard(id: string): void {
    this.#options.book.discard(id);
    if (!this.#stopped) {
      this.#queue.add(id);
      this.#pump();
    }
  }

  /** Begins to remove all that are marked. Does nothing after a stop. */
  sweep(): void {
    if (this.#stopped) {
      return;
    }
    for (const id of this.#options.book.discarded()) {
      if (!this.#running.has(id)) {
        this.#queue.add(id);
      }
    }
    this.#pump();
  }

  /** Removes ahead of background removals. Repeatable; callers at the same time share one run. */
  dispose(id: string): Promise<void> {
    this.#queue.delete(id);
    const running =
      this.#running.get(id) ?? this.#options.work.own(this.#inTurn(id).finally(() => this.#running.delete(id)));
    this.#running.set(id, running);
    return running;
  }

  /** Whether a removal runs or waits. */
  get isBusy(): boolean {
    return this.#running.size > 0 || this.#queue.size > 0;
  }

  /** Resolves when the next removal has succeeded or failed. */
  async next(): Promise<void> {
    await this.#ended.promise;
  }

  /** Begins nothing more. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#queue.clear();
    this.#tell();
  }

  #pump(): void {
    while (!this.#stopped && this.#atWork < AT_ONCE) {
      const [id] = this.#queue;
      if (id === undefined) {
        return;
      }
      this.#atWork += 1;
      void this.#options.work.own(this.#disposeQuietly(id));
    }
  }

  async #disposeQuietly(id: string): Promise<void> {
    try {
      await this.dispose(id);
    } catch (error) {
      this.#options.logger.warn({ err: error, netns: id }, 'a network namespace could not be removed yet');
    } finally {
      this.#atWork -= 1;
    }
    this.#pump();
  }

  async #inTurn(id: string): Promise<void> {
    // From here on no container can be given the namespace. A removal is carried through once requested.
    this.#options.book.discard(id);
    await this.#limiter.run(() => this.#dispose(id));
  }

  async #dispose(id: string): Promise<void> {
    const { book, namespaces, logger, table } = this.#options;
    const record = book.get(id);
    try {
      const setup = await this.#options.setup();
      if (record !== undefined && record.state !== 'Making') {
        // On a full disk freeing comes first.
        await book.markUnfinished(record).catch((error: unknown) => {
          logger.warn({ err: error, netns: id }, 'the removal of a network namespace cannot be recorded');
        });
      }
      if (record?.state === 'Attached') {
        // Without harm where that fails: no later interface has the same link address.
        await table.release(record).catch((error: unknown) => {
          logger.warn({ err: error, netns: id }, 'the class of a removed worker is still in the rules');
        });
      }
      const path = namespaces.path(id);
      const netns = (await namespaces.isPinned(path)) ? path : '';
      const { cni } = setup.at(record?.segment ?? 0);
      await cni.del(cniTarget(id, netns), { deadlineMs: DEADLINE_MS });
      await namespaces.remove(id, { deadlineMs: DEADLINE_MS });
      await book.erase(id);
      this.#backoff.reset();
    } catch (error) {
      this.#retryLater();
      throw networkFailure(`removing ${record?.state === 'Attached' ? record.containerId : id}`, error);
    } finally {
      this.#tell();
    }
  }

  #retryLater(): void {
    if (this.#stopped || this.#timer !== undefined) {
      return;
    }
    this.#timer = this.#options.clock.setTimer(() => {
      this.#timer = undefined;
      this.sweep();
    }, this.#backoff.next());
  }

  #tell(): void {
    this.#ended.resolve();
    this.#ended = Promise.withResolvers<void>();
  }
}
