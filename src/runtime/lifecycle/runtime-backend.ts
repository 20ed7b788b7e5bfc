import type { CallOptions } from '../../common/deadline.ts';
import type { Health } from '../../common/health.ts';
import type { NodeImages } from '../contract/images.ts';
import type { NodeInventory } from '../contract/inventory.ts';
import type { EnsureRequest, ImageRequest, KernelState, ResolveOptions, WorkerInfo } from '../contract/runtime.ts';
import type { TmpOfNode } from '../contract/tmp-storage.ts';
import type { WorkerUsage } from '../contract/usage.ts';
import type { WorkerPlace } from './creation-steps.ts';

/** How a worker's container is removed. */
export interface RemovalRequest {
  /** Milliseconds between SIGTERM and SIGKILL; 0 kills at once. */
  readonly graceMs: number;
  /** Leave attachment and address, or ports of the node, to the next container of the same worker. */
  readonly keepNetwork?: boolean;
  /** Leave the log for a while. */
  readonly keepLog?: boolean;
}

export interface Listing {
  readonly workers: readonly WorkerInfo[];
  /** Every container that the logs, ports and files of the node may belong to, workers or not. */
  readonly containerIds: ReadonlySet<string>;
}

/** Freezing and thawing of containers on one engine. */
export interface Freezing {
  kernelState(containerId: string): KernelState;
  pause(containerId: string, signal: AbortSignal): Promise<void>;
  resume(containerId: string): Promise<void>;
  /** Thaws without asking the engine, synchronously. Returns false where the engine has to be asked. */
  thawDirectly(containerId: string): boolean;
  /** Tells the engine's own tools that a worker runs. Returns whether they know now. */
  settle(containerId: string, signal: AbortSignal): Promise<boolean>;
  isFrozen(containerId: string): boolean;
}

/**
 * Work of one container engine, without order, deadlines and memory: a `WorkerRuntime` calls the methods that change a
 * container one at a time for each container. Errors are those of `ContainerRuntime`.
 */
export interface RuntimeBackend {
  readonly nodeImages: NodeImages;
  readonly freezing: Freezing;
  readonly images: {
    /** References of the images on the node. */
    names(options: CallOptions): Promise<string[]>;
    resolve(request: ImageRequest, options: ResolveOptions): Promise<void>;
  };
  readonly network: { health(options: CallOptions): Promise<Health> };
  readonly tmp: TmpOfNode;

  /** Returns the engine's version. Rejects an engine that cannot be used. */
  check(options: CallOptions): Promise<string>;
  /** Reads the state that earlier runs left. */
  restore(options: CallOptions): Promise<void>;
  /** Begins to publish events in the background. Called once; resolves when the first subscription has begun. */
  follow(): Promise<void>;
  /** Prepares network and limits of the node. */
  prepareNode(options: CallOptions): Promise<void>;

  /**
   * Makes a worker, of which nothing may exist but network and log, and waits until it can take calls. Leaves nothing when
   * it fails.
   */
  create(request: EnsureRequest, signal: AbortSignal): Promise<WorkerInfo>;
  find(containerId: string, options?: CallOptions): Promise<WorkerInfo | undefined>;
  usage(containerId: string, options: CallOptions): Promise<WorkerUsage | undefined>;
  list(signal: AbortSignal): Promise<Listing>;
  /** Waits until a running worker can take calls, or fails with its exit. */
  untilReady(containerId: string, place: WorkerPlace, signal: AbortSignal): Promise<void>;
  /** Records the epoch of a new assignment for a container that lives on. */
  setEpoch(containerId: string, epoch: number): Promise<void>;
  /** Removes a container with everything it left. Missing is success. */
  remove(containerId: string, request: RemovalRequest): Promise<void>;
  /** Whether the engine has a container of this name that is a worker's own. */
  has(containerId: string): Promise<boolean>;
  /** Removes the leftovers of a container that the engine does not have. */
  clear(containerId: string, keepLog: boolean): Promise<void>;
  /**
   * @param busy containers with work under way, now
   * @param known containers that the caller knows of, for leftovers that only their names lead to
   */
  inventory(busy: () => Iterable<string>, known: ReadonlySet<string>, options: CallOptions): Promise<NodeInventory>;

  /** Whether a full disk may have stopped the copy of a worker's output to its log for good. */
  readonly canLoseOutput: boolean;
  /** Drops files of containers that are not among `containerIds` and older than `before` (milliseconds since the epoch). */
  upkeep(containerIds: ReadonlySet<string>, before: number): Promise<void>;
  /**
   * Removes everything of ours from the node and the engine.
   *
   * @param remove removes one container with everything it left
   * @returns what could not be removed, one message each
   */
  leave(remove: (containerId: string, options: CallOptions) => Promise<void>, options: CallOptions): Promise<string[]>;
  /** Ends pulls and copies, and closes connections. */
  stop(): Promise<void>;
}
