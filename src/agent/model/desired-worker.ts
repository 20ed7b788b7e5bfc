import type { WorkerIdentity, WorkerShape } from '../../runtime/contract/runtime.ts';

/** An environment variable as the resource has it. */
export type DesiredVariable =
  | { readonly name: string; readonly value: string }
  | {
      readonly name: string;
      readonly secret: { readonly name: string; readonly key: string; readonly optional?: boolean };
    };

/** Why a worker is not within the policy of workers. Without a word of it a worker is. */
export interface Permission {
  /** `MadeBefore`: the worker is older than the policy. Otherwise no container is made of it. */
  readonly kind: 'MadeBefore' | 'Refused';
  /** Violation of the policy, and the way out. */
  readonly message: string;
}

/**
 * Demand of a LambdaWorker on this node: the fields of its resource that the agent acts on. Plain JSON, kept on disk.
 */
export interface DesiredWorker extends Omit<WorkerShape, 'image' | 'env'> {
  readonly identity: WorkerIdentity;
  readonly generation: number;
  readonly epoch: number;
  /** Calls that it may run at once, of those that are reserved for its function; absent where none are. */
  readonly share?: number;
  readonly shapeHash: string;
  readonly image: string;
  readonly imagePullPolicy: 'Always' | 'IfNotPresent' | 'Never';
  readonly imagePullSecrets: readonly string[];
  readonly env: readonly DesiredVariable[];
  /** JSON text of the warm-up call's payload; absent means no warm-up. */
  readonly warmUpPayload?: string;
  readonly restingState: 'Running' | 'Paused' | 'Absent';
  /** Seconds; absent means the default of the resting state. */
  readonly pauseAfterSeconds?: number;
  readonly removeAfterSeconds?: number;
  readonly wakePolicy: 'OnInvoke' | 'Never';
  /** `metadata.deletionTimestamp` is set: clean up and report it. */
  readonly deleting: boolean;
  /**
   * Whether it goes only after the calls that are in it, each of which has its whole time, once it is deleted. They have
   * `terminationGraceSeconds` where this is absent.
   */
  readonly letsCallsEnd?: true;
  readonly permission?: Permission;
  /** Whether it asks for more than the quotas of its namespace have granted: no container is made until they have. */
  readonly awaitsGrant?: true;
  /** Whether they refuse it as long as they have no more room; only there with {@link awaitsGrant}. */
  readonly grantRefused?: true;
  /** status.lastInvocationTime and status.observedInvocationTime, verbatim. */
  readonly lastInvocationTime?: string;
  readonly observedInvocationTime?: string;
}
