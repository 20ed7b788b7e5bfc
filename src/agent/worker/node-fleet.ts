import type { Clock } from '../../common/clock.ts';
import type { Health } from '../../common/health.ts';
import type { Logger } from '../../common/logger.ts';
import type { WorkerInits } from '../../init/contract.ts';
import type { ContainerRuntime, WorkerAddress, WorkerIdentity } from '../../runtime/contract/runtime.ts';
import type { WorkerLink } from '../invoke/emulator-client.ts';
import type { Fleet } from '../model/fleet.ts';
import type { SecretReader } from '../model/secret-reader.ts';
import type { SecretName } from '../secrets/secret-cache.ts';
import type { NodeAmounts, QueueLimits } from '../step/state.ts';
import type { AnswerListener, FleetMetrics } from './context.ts';
import type { ReplacementLimits } from './rollout-limiter.ts';
import type { SetAside } from './set-aside.ts';
import type { FleetStorage } from './storage.ts';

export interface FleetLimits {
  /**
   * Bounds of the calls that wait for one worker. Default 1,000 calls, which are those that a number of gateways send
   * ahead, and 64 MiB.
   */
  readonly queue?: QueueLimits;
  /** Containers that are made at once, a quarter of them only where a call waits. Default 16. */
  readonly maxStarts?: number;
  /** Containers that are paused at once. Default 8. */
  readonly maxPauses?: number;
  /** Containers that are removed at once, a quarter of them only where a call waits. Default 16. */
  readonly maxRemovals?: number;
  /** Workers whose container is replaced at once. Default 4 that rest, 16 that do not. */
  readonly replacements?: ReplacementLimits;
  /** Milliseconds that a container which no resource claims has to exist before it is removed. Default 30,000. */
  readonly minOrphanAgeMs?: number;
  /** Milliseconds for which the shim of a container has to fail to answer until it is made again. Default 30,000. */
  readonly unansweringMs?: number;
}

export interface FleetOptions {
  readonly runtime: ContainerRuntime;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Folder of the records, one per worker. */
  readonly stateDir: string;
  /** Folder on a tmpfs for the marks of calls in flight. */
  readonly runDir: string;
  /** Where both are kept. Default files in the two folders. */
  readonly storage?: FleetStorage;
  /** Resources of all workers together; paused ones count too. */
  readonly capacity: NodeAmounts;
  readonly secretReader: SecretReader;
  /** Whether `/tmp` of the next container is on disk. Default: no. */
  readonly tmpOnDisk?: () => boolean;
  readonly limits?: FleetLimits;
  readonly metrics?: FleetMetrics;
  readonly onAnswered?: AnswerListener;
  /** Default: none, so that no worker of interface `Lambda` is called. */
  readonly inits?: Pick<WorkerInits, 'link' | 'subscribe'>;
  /** Whether a share that a worker has by its assignment of that epoch may be used. Default: always. */
  readonly holdsShare?: (uid: string, epoch: number) => boolean;
  /** How a worker without an init is called. Default: HTTP over a kept-alive connection. */
  readonly connect?: (address: WorkerAddress, pid: number) => WorkerLink;
  /** A number from 0 up to 1, so that nodes differ in what they do now and then. Default `Math.random`. */
  readonly random?: () => number;
}

/** A {@link Fleet} with what the node's own status shows of it. */
export interface NodeFleet extends Fleet {
  /** Images of all workers of the node in any state, as their owners wrote them. */
  images(): readonly string[];
  /** Secrets of all workers of the node. */
  secrets(): readonly SecretName[];
  /** Resources that the containers of the node take. */
  allocation(): NodeAmounts;
  /**
   * Takes other limits for all workers together. Those that are there keep what they have.
   *
   * @returns whether the limits are other ones than before
   */
  resize(capacity: NodeAmounts): boolean;
  /** Resources that they may take together now. */
  limits(): NodeAmounts;
  /** Takes in how many MiB are reserved for workers; undefined where they may have the whole capacity. */
  reserve(memoryMiB: number | undefined): void;
  /** Whether the records can be written. */
  storageHealth(): Health;
  /** Workers that are no longer this node's, and have a call in them that ends first. */
  leaving(): readonly LeavingWorker[];
  /**
   * Uids of workers that are no longer this node's and may still have a container here.
   *
   * @param told uids of an earlier look or run: a worker of which the API has not spoken since is still here
   */
  stillHere(told: readonly string[]): readonly string[];
  /**
   * The output of that process of a container does not come to its log any more: the container is made again before the
   * process blocks. False when the container has another process by now.
   */
  outputLost(containerId: string, pid: number): boolean;
  /** Containers that could not be removed, and that no worker has any more. */
  setAside(): readonly SetAside[];
  /** Workers that have an actor, and the containers that are theirs. */
  known(): KnownWorkers;
  /** Removes the record, the mark and the output of a worker that has no actor. Resolves to false for one that has. */
  discard(uid: string): Promise<boolean>;
}

export interface LeavingWorker {
  readonly identity: WorkerIdentity;
  /** Wall-clock milliseconds at which the call is over at the latest. */
  readonly callUntil: number;
}

export interface KnownWorkers {
  readonly uids: ReadonlySet<string>;
  readonly containerIds: ReadonlySet<string>;
}
