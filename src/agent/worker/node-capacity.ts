import type { NodeAmounts } from '../step/state.ts';

/** Keeps count of what the containers of a node take, from before they are made until they are proven gone. */
export class NodeCapacity {
  #most: NodeAmounts;
  readonly #held = new Map<string, number>();
  readonly #onFreed: () => void;
  #memoryMiB = 0;
  #limits: NodeAmounts;
  #reservedMiB = Number.POSITIVE_INFINITY;

  /**
   * @param most what workers may have together at most
   * @param onFreed told when there is more room than before
   */
  constructor(most: NodeAmounts, onFreed: () => void) {
    this.#most = most;
    this.#limits = most;
    this.#onFreed = onFreed;
  }

  /** The amounts that workers may have together now. */
  get limits(): NodeAmounts {
    return this.#limits;
  }

  /**
   * Takes other amounts that workers may have at most; what is held stays held.
   *
   * @returns whether they differ from those of before
   */
  resize(most: NodeAmounts): boolean {
    const { memoryMiB, workers } = this.#most;
    this.#most = most;
    this.#limit();
    return most.memoryMiB !== memoryMiB || most.workers !== workers;
  }

  /** Takes in how much is reserved for workers; undefined where nothing is reserved, and all may be had. */
  reserve(memoryMiB: number | undefined): void {
    this.#reservedMiB = memoryMiB ?? Number.POSITIVE_INFINITY;
    this.#limit();
  }

  #limit(): void {
    const { memoryMiB, workers } = this.#limits;
    this.#limits = { ...this.#most, memoryMiB: Math.min(this.#most.memoryMiB, this.#reservedMiB) };
    if (this.#limits.memoryMiB > memoryMiB || this.#limits.workers > workers) {
      this.#onFreed();
    }
  }

  get allocated(): NodeAmounts {
    return { memoryMiB: this.#memoryMiB, workers: this.#held.size };
  }

  /**
   * Whether a worker of that size has room, its own present share not counted, nor those of `without`. A worker keeps
   * the share that it has, also on a node that has promised too much since its capacity was made smaller.
   */
  fits(uid: string, memoryMiB: number, without: readonly string[] = []): boolean {
    return this.#fitsInto(this.#limits, uid, memoryMiB, without);
  }

  /** Whether it would have room if as much were reserved for workers as the node may have. */
  mayFitLater(uid: string, memoryMiB: number, without: readonly string[] = []): boolean {
    return this.#fitsInto(this.#most, uid, memoryMiB, without);
  }

  #fitsInto(limits: NodeAmounts, uid: string, memoryMiB: number, without: readonly string[]): boolean {
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
    return heldMiB + memoryMiB <= limits.memoryMiB && workers < limits.workers;
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
