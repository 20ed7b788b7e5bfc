import type { NodeAmounts } from '../step/state.ts';

/** Keeps count of what the containers of a node take, from before they are made until they are proven gone. */
export class NodeCapacity {
  #limits: NodeAmounts;
  readonly #held = new Map<string, number>();
  readonly #onFreed: () => void;
  #memoryMiB = 0;

  /** @param onFreed told when there is more room than before */
  constructor(limits: NodeAmounts, onFreed: () => void) {
    this.#limits = limits;
    this.#onFreed = onFreed;
  }

  get limits(): NodeAmounts {
    return this.#limits;
  }

  /**
   * Takes other limits; what is held stays held.
   *
   * @returns whether they differ from those of before
   */
  resize(limits: NodeAmounts): boolean {
    const { memoryMiB, workers } = this.#limits;
    this.#limits = limits;
    if (limits.memoryMiB > memoryMiB || limits.workers > workers) {
      this.#onFreed();
    }
    return limits.memoryMiB !== memoryMiB || limits.workers !== workers;
  }

  get allocated(): NodeAmounts {
    return { memoryMiB: this.#memoryMiB, workers: this.#held.size };
  }

  /**
   * Whether a worker of that size has room, its own present share not counted, nor those of `without`. A worker keeps
   * the share that it has, also on a node that has promised too much: an earlier version counted less, or the capacity
   * was made smaller.
   */
  fits(uid: string, memoryMiB: number, without: readonly string[] = []): boolean {
    const own = this.#held.get(uid);
    if (own !== undefined && memoryMiB <= own) {
      return true;
    }
    let heldMiB = this.#memoryMiB - (own ?? 0);
    let workers = this.#held.size - (own === undefined ? 0 : 1);
    for (const other of without) {
      const share = other === uid ? undefined : this.#held.get(other);
      heldMiB -= share ?? 0;
      workers -= share === undefined ? 0 : 1;
    }
    return heldMiB + memoryMiB <= this.limits.memoryMiB && workers < this.limits.workers;
  }

  /** Takes the share of a worker whose container exists or is about to, whether it fits or not. */
  hold(uid: string, memoryMiB: number): void {
    this.#memoryMiB += memoryMiB - (this.#held.get(uid) ?? 0);
    this.#held.set(uid, memoryMiB);
  }

  free(uid: string): void {
    const own = this.#held.get(uid);
    if (own !== undefined) {
      this.#held.delete(uid);
      this.#memoryMiB -= own;
      this.#onFreed();
    }
  }
}
