import type { WorkerAddress } from '../../runtime/contract/runtime.ts';
import type { BackoffSnapshot } from './backoff.ts';
import type { ContainerMake } from './container-spec.ts';
import type { DesiredWorker } from './desired-worker.ts';
import type { Rest } from './idle-policy.ts';
import type { WorkerView } from './worker-state.ts';

/** Version of the form below. A record of another one is set aside, never guessed at. */
export const RECORD_VERSION = 1;

/** All that is kept of a worker on disk: enough to serve it without the API. Holds no secret. */
export interface WorkerRecord {
  readonly version: typeof RECORD_VERSION;
  readonly desired: DesiredWorker;
  /** Where the idle policy had brought it. */
  readonly rest: Rest;
  /** The container that calls go to. */
  readonly container: ContainerMake;
  /**
   * The runtime's word about the container beside its task, for times when the runtime cannot be asked. Absent without
   * a process.
   */
  readonly served?: {
    /** Absent for the interface `Lambda`. */
    readonly address?: WorkerAddress;
    /** For the interface `Lambda` alone. */
    readonly ip?: string;
    readonly image: string;
    readonly epoch: number;
    /** ISO 8601. */
    readonly createdAt: string;
  };
  /** The container that has been called since it was started, with its start time. */
  readonly warmContainer?: string;
  readonly startedAt?: string;
  readonly pausedAt?: string;
  readonly restartCount: number;
  readonly lastTermination?: WorkerView['lastTermination'];
  readonly crashes: BackoffSnapshot;
  /** The value of status.lastInvocationTime that was acted on last. */
  readonly observedInvocationTime?: string;
  /** The image that the registry had for the next start. Absent where it was not asked. */
  readonly knownImage?: string;
  /** Stamps that this node issued last. */
  readonly stamps: readonly string[];
}
