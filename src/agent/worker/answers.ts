import type { Clock } from '../../common/clock.ts';

/** Milliseconds for which the shim of a container has to fail to answer until the container is given up. */
const patienceMs = 30_000;
/** The same where the kernel says that no process is left in the container. */
const goneMs = 5_000;

export interface AnswersOptions {
  readonly clock: Clock;
  /** Told when a container begins not to answer: whether others do has to be looked at. */
  readonly onDoubt: () => void;
  /** Default 30,000 ms. */
  readonly patienceMs?: number | undefined;
}

/**
 * Which containers of a node the runtime could tell the state of, and when. Shows whether one that does not answer is
 * alone in that. Where none answers, one container is given up first: the next one only after that one answers anew, or is
 * gone.
 */
export class Answers {
  readonly #clock: Clock;
  readonly #onDoubt: () => void;
  readonly #patienceMs: number;
  /** Monotonic milliseconds of the last answer of each container. */
  readonly #last = new Map<string, number>();
  /** Since when each container has not answered, in monotonic milliseconds. */
  readonly #doubts = new Map<string, number>();
  #first: string | undefined;

  constructor(options: AnswersOptions) {
    this.#clock = options.clock;
    this.#onDoubt = options.onDoubt;
    this.#patienceMs = options.patienceMs ?? patienceMs;
  }

  /** Whether a container does not answer. */
  get inDoubt(): boolean {
    return this.#doubts.size > 0;
  }

  answered(containerId: string): void {
    this.#doubts.delete(containerId);
    this.#last.set(containerId, this.#clock.monotonic());
  }

  /**
   * The runtime answered, and the shim of that container did not.
   *
   * @param gone whether the kernel says that no process is left in it
   * @returns whether the fault is shown to be that container's
   */
  unanswered(containerId: string, gone: boolean): boolean {
    const now = this.#clock.monotonic();
    const since = this.#doubts.get(containerId);
    if (since === undefined) {
      this.#doubts.set(containerId, now);
      this.#onDoubt();
      return false;
    }
    if (gone) {
      return now - since >= goneMs;
    }
    if (now - since < this.#patienceMs) {
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

  /** The container is no more, or somebody else's matter. */
  forget(containerId: string): void {
    this.#doubts.delete(containerId);
    this.#last.delete(containerId);
  }
}
