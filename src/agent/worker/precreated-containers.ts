import type { Clock, Timer } from '../../common/clock.ts';
import { withDeadline } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerRuntime } from '../../runtime/contract/runtime.ts';
import type { DesiredWorker } from '../model/desired-worker.ts';
import type { SecretReader } from '../model/secret-reader.ts';
import { resolveSecrets } from '../secrets/resolve-secrets.ts';
import type { NodeCapacity } from './node-capacity.ts';

export interface PrecreatedContainersOptions {
  readonly runtime: Pick<ContainerRuntime, 'prepare'>;
  readonly secrets: SecretReader;
  readonly capacity: NodeCapacity;
  readonly clock: Clock;
  readonly logger: Logger;
  /** How many at most; 0 for none. */
  readonly limit: number;
  /** Told when a worker that lost its container may be offered again. */
  readonly onAgain: (containerId: string) => void;
}

/**
 * MiB that one takes: its shim and the first process of runc, which waits to become the worker's (measured: 4.0 and
 * 2.9,
 * `docs/adr/0016-prepared-workers.md`).
 */
const preparedMiB = 8;
const secretsMs = 15_000;
const prepareMs = 60_000;
/** Milliseconds until one that could not be prepared, or that ended, is tried again. */
const retryMs = 60_000;

/** Name under which its share of the node is held. */
function shareOf(containerId: string): string {
  return `prepared ${containerId}`;
}

/**
 * Keeps the containers of some workers that rest Absent made and not started, so that a call has only the start to wait
 * for. One is made at a time. Workers that rest are taken in the order of their offers while there is room; none is
 * evicted.
 */
export class PrecreatedContainers {
  readonly #options: PrecreatedContainersOptions;
  /** Container ids of those that are there, or wanted. */
  readonly #wanted = new Map<string, AbortController>();
  readonly #retries = new Map<string, Timer>();
  #work: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: PrecreatedContainersOptions) {
    this.#options = options;
  }

  /** Whether any are made at all. */
  get enabled(): boolean {
    return this.#options.limit > 0;
  }

  /**
   * A worker rests Absent. May be told as often as one likes.
   *
   * @returns whether there is a container of it now, or may be: it has to be destroyed when the worker goes
   */
  offer(containerId: string, desired: DesiredWorker): boolean {
    if (this.#wanted.has(containerId)) {
      return true;
    }
    if (!this.#takes(containerId, desired)) {
      return false;
    }
    const { capacity } = this.#options;
    const abort = new AbortController();
    this.#wanted.set(containerId, abort);
    capacity.hold(shareOf(containerId), preparedMiB);
    // One after the other: workers that are called meanwhile need the processors more.
    this.#work = this.#work.then(() => this.#prepare(containerId, desired, abort.signal));
    return true;
  }

  /** The container is about to be started or destroyed, and is no longer this object's. */
  release(containerId: string): void {
    const abort = this.#wanted.get(containerId);
    if (abort !== undefined) {
      this.#wanted.delete(containerId);
      this.#options.capacity.free(shareOf(containerId));
    }
    this.#retries.get(containerId)?.cancel();
    this.#retries.delete(containerId);
  }

  /** The process of a container ended. A prepared one is made again later. */
  ended(containerId: string): void {
    if (this.#wanted.has(containerId)) {
      this.#options.logger.warn({ containerId }, 'a prepared worker ended before it was started');
      this.#giveUp(containerId);
    }
  }

  /** Holds nothing for it any more, and has it offered again after a while. */
  #giveUp(containerId: string): void {
    const { clock, onAgain } = this.#options;
    this.release(containerId);
    const retry = clock.setTimer(() => {
      this.#retries.delete(containerId);
      onAgain(containerId);
    }, retryMs);
    this.#retries.set(containerId, retry);
  }

  /** Makes no more. Containers that are there stay for the next run of the agent, as after a crash. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const abort of this.#wanted.values()) {
      abort.abort();
    }
    for (const retry of this.#retries.values()) {
      retry.cancel();
    }
    await this.#work;
  }

  #takes(containerId: string, desired: DesiredWorker): boolean {
    const { capacity, limit } = this.#options;
    return (
      !this.#stopped &&
      this.#wanted.size < limit &&
      desired.awaitsGrant !== true &&
      desired.wakePolicy === 'OnInvoke' &&
      // Each start asks for the image again, and chooses the port.
      desired.imagePullPolicy !== 'Always' &&
      desired.networkMode !== 'Host' &&
      !this.#retries.has(containerId) &&
      capacity.fits(shareOf(containerId), preparedMiB)
    );
  }

  /** Never rejects. */
  async #prepare(containerId: string, desired: DesiredWorker, signal: AbortSignal): Promise<void> {
    const { runtime, secrets, logger } = this.#options;
    // Released, or released and wanted again by another turn, while it waited.
    const isWanted = (): boolean => !signal.aborted && this.#wanted.get(containerId)?.signal === signal;
    if (!isWanted()) {
      return;
    }
    try {
      const shape = await withDeadline('reading secrets', secretsMs, signal, (inner) =>
        resolveSecrets(desired, secrets, { signal: inner, deadlineMs: secretsMs }),
      );
      if (isWanted()) {
        const { epoch, identity, shapeHash } = desired;
        const request = { containerId, identity, epoch, shapeHash, shape };
        await runtime.prepare(request, { signal, deadlineMs: prepareMs });
      }
    } catch (error) {
      logger.warn({ containerId, err: error }, 'a worker could not be prepared');
      if (isWanted()) {
        this.#giveUp(containerId);
      }
    }
  }
}
