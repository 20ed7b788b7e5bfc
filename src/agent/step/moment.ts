import type { InitWord } from './init-sight.ts';

/** Facts of the node for the decision of a worker. Questions alone: none has an effect. */
export interface NodeFacts {
  /** Whether the last that was heard of the runtime is that it does not answer. */
  readonly runtimeDown: boolean;
  /** Whether `/tmp` of the next container is on disk, and counts as no memory. */
  readonly tmpOnDisk: boolean;
  readonly allocated: NodeAmounts;
  readonly limits: NodeAmounts;
  /** Whether a container has room beside all others but `without`. */
  fits(containerId: string, memoryMiB: number, without: readonly string[]): boolean;
  /** Whether a container would have room with all reserved that the node may have: reservations grow within seconds. */
  mayFitLater(containerId: string, memoryMiB: number, without: readonly string[]): boolean;
  /** Whether a worker may have one of its containers replaced now. */
  mayReplace(uid: string, replaced: { readonly namespace: string; readonly resting: boolean }): boolean;
  /** Whether a share that a worker has by its assignment of that epoch may be used. */
  holdsShare(uid: string, epoch: number): boolean;
  /** Whether a container is that worker's, or no worker's. */
  mayClaim(containerId: string, uid: string): boolean;
  /** The last word of the init of a container; undefined where none was ever waited for. */
  initOf(containerId: string): InitWord | undefined;
}

/** Amounts of a node that workers take. */
export interface NodeAmounts {
  /** Memory limits, and `/tmp` where that is a tmpfs. */
  readonly memoryMiB: number;
  readonly workers: number;
}

/** The moment at which an event is looked at. */
export interface Moment {
  /** Monotonic milliseconds. */
  readonly now: number;
  /** Wall-clock milliseconds. */
  readonly wall: number;
  readonly node: NodeFacts;
}
