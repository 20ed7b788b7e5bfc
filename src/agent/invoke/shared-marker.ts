import type { LeftCall, MarkedCall } from '../model/marked-call.ts';
import type { Mark } from './mark-store.ts';

/**
 * The one mark of a worker, shared by its containers. It is of the container that was called last: one that is made ready
 * beside it, or that is being removed, has no say.
 */
export class SharedMarker {
  readonly #mark: Mark;
  #owner: string | undefined;

  /** @param owner the container that an earlier run of the agent has left a mark for */
  constructor(mark: Mark, owner: string | undefined) {
    this.#mark = mark;
    this.#owner = owner;
  }

  begin(containerId: string, call: MarkedCall): void {
    this.#owner = containerId;
    this.#mark.begin(containerId, call);
  }

  /** A call that an earlier run of the agent has left is in a container: the mark says so beside whatever else it says. */
  keep(containerId: string, call: LeftCall): void {
    this.#mark.keep(containerId, call);
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

  /** The container is gone, and with it whatever ran in it; or the call that was left in it is over. */
  remove(containerId: string): void {
    this.#mark.forget(containerId);
    // A mark that was being written when an agent ended names no container.
    if (this.#owner === containerId || this.#owner === '') {
      this.#mark.remove();
      this.#owner = undefined;
    }
  }

  /** The agent ends, or nothing is left of the worker. */
  close(): void {
    this.#mark.release();
  }
}
