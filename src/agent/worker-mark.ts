import type { InFlightMark } from './in-flight-mark.ts';

/**
 * The one mark of a worker, shared by its containers. It is of the container that was called last: one that is made ready
 * beside it, or that is being removed, has no say.
 */
export class WorkerMark {
  readonly #mark: InFlightMark;
  #owner: string | undefined;

  /** @param owner the container that an earlier run of the agent has left a mark for */
  constructor(mark: InFlightMark, owner: string | undefined) {
    this.#mark = mark;
    this.#owner = owner;
  }

  begin(containerId: string): void {
    this.#owner = containerId;
    this.#mark.begin(containerId);
  }

  end(containerId: string, stamp: string): void {
    if (this.#owner === containerId) {
      this.#mark.end(stamp);
    }
  }

  /** Gives the descriptor back; what the mark says stays. */
  release(containerId: string): void {
    if (this.#owner === containerId) {
      this.#mark.release();
    }
  }

  /** The container is gone, and with it whatever ran in it. */
  remove(containerId: string): void {
    if (this.#owner === containerId) {
      this.#mark.remove();
      this.#owner = undefined;
    }
  }

  /** The agent ends, or nothing is left of the worker. */
  close(): void {
    this.#mark.release();
  }
}
