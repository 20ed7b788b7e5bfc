import type { Clock } from '../../common/clock.ts';
import type { Logger } from '../../common/logger.ts';
import type { WorkerInfo } from '../../runtime/contract/runtime.ts';

/** Milliseconds for which the shim of a container has to fail to answer until the container is given up. */
const patienceMs = 30_000;
/** Milliseconds of that patience if the kernel says that no process is left in the container. */
const goneMs = 5_000;

export interface AnswersOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told when a container begins not to answer: whether others do has to be looked at. */
  readonly onDoubt: () => void;
  /** Default 30,000 ms. */
  readonly patienceMs?: number | undefined;
}

/**
 * Containers of a node whose state the runtime could tell, and when. Shows whether one that does not answer is
 * alone in that. Where none answers, one container is given up first: the next one only after that one answers again,
 * or is gone.
 */
export class Answers {
  readonly #options: AnswersOptions;
  /** Monotonic milliseconds of the last answer of each container. */
  readonly #last = new Map<string, number>();
  /** Since when each container has not answered, in monotonic milliseconds. */
  readonly #doubts = new Map<string, number>();
  readonly #givenUp = new Set<string>();
  #first: string | undefined;

  constructor(options: AnswersOptions) {
    this.#options = options;
  }

  /** Whether a container does not answer. */
  get inDoubt(): boolean {
    return this.#doubts.size > 0;
  }

  /**
   * Takes note of the runtime's word on a container.
   *
   * @returns whether its shim is silent, and the fault is shown to be that container's
   */
  judge(containerId: string, info: WorkerInfo | undefined): boolean {
    if (info?.task.kind === 'Unanswering') {
      return this.unanswered(containerId, info.task.kernel === 'Gone');
    }
    // A container without a task has no shim that could answer.
    if (info === undefined || info.task.kind === 'Missing') {
      this.forget(containerId);
    } else {
      this.answered(containerId);
    }
    return false;
  }

  answered(containerId: string): void {
    this.#doubts.delete(containerId);
    this.#givenUp.delete(containerId);
    this.#last.set(containerId, this.#options.clock.monotonic());
  }

  /**
   * The runtime answered, and the shim of that container did not.
   *
   * @param gone whether the kernel says that no process is left in it
   * @returns whether the fault is shown to be that container's
   */
  unanswered(containerId: string, gone: boolean): boolean {
    const { clock, logger, onDoubt } = this.#options;
    const now = clock.monotonic();
    const since = this.#doubts.get(containerId);
    if (since === undefined) {
      this.#doubts.set(containerId, now);
      logger.warn({ container: containerId, gone }, 'the shim of a container does not answer');
      onDoubt();
      return false;
    }
    const isItsFault = this.#isItsFault(containerId, gone, now, since);
    if (isItsFault && !this.#givenUp.has(containerId)) {
      this.#givenUp.add(containerId);
      logger.warn({ container: containerId, gone }, 'a container is given up: its shim does not answer, and others do');
    }
    return isItsFault;
  }

  #isItsFault(containerId: string, gone: boolean, now: number, since: number): boolean {
    if (gone) {
      return now - since >= goneMs;
    }
    if (now - since < (this.#options.patienceMs ?? patienceMs)) {
      return false;
    }
    for (const [other, at] of this.#last) {
      if (other !== containerId && at > since) {
        return true;
      }
    }
    if (this.#first === undefined || !this.#doubts.has(this.#first)) {
      this.#first = containerId;
    }
    return this.#first === containerId;
  }

  /** The container is no more, or no worker's any longer. */
  forget(containerId: string): void {
    this.#doubts.delete(containerId);
    this.#givenUp.delete(containerId);
    this.#last.delete(containerId);
  }
}
