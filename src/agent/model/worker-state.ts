import type { TerminationReason, Verdict } from '../../api/condition.ts';
import type { WorkerPhase } from '../../api/lambda-worker.ts';
import type { WorkerAddress, WorkerIdentity } from '../../runtime/contract/runtime.ts';

/** Calls of one caller that are in a worker or wait for it. */
export interface CallerCalls {
  readonly inFlight: number;
  /** Calls that have a place, or will have one as soon as the worker is ready. */
  readonly placed: number;
}

/** Everything that is shown of a worker: to gateways through Watch, to users through the status. Immutable. */
export interface WorkerView {
  readonly identity: WorkerIdentity;
  readonly epoch: number;
  readonly phase: WorkerPhase;
  /** Whether phase is one to rest in, or one that should be published only when it lasts. */
  readonly transient: boolean;
  readonly inFlight: number;
  /** Calls of each caller that has a name, and how many of these calls have a place. Absent for none. */
  readonly callers?: ReadonlyMap<string, CallerCalls>;
  /** Calls that its container may take at once; absent for one. */
  readonly perWorker?: number | undefined;
  /** Calls that it takes at once now: as many as its runtime has shown, without places that are held; absent for one. */
  readonly places?: number | undefined;
  readonly callable: boolean;
  /** Calls that it may run by its share of the reserved concurrency, at that epoch; absent where it has none. */
  readonly share?: { readonly epoch: number; readonly calls: number } | undefined;
  readonly observedGeneration: number;
  readonly containerId?: string;
  readonly image?: string;
  /** Without a port where nothing is called at it. */
  readonly address?: Pick<WorkerAddress, 'ip'> & Partial<WorkerAddress>;
  /** ISO 8601. */
  readonly startedAt?: string;
  readonly pausedAt?: string;
  readonly restartCount: number;
  readonly lastTermination?: {
    readonly exitCode: number;
    readonly reason: TerminationReason;
    readonly finishedAt: string;
    readonly message: string;
  };
  readonly observedInvocationTime?: string;
  /** Stamp of the latest call, or wake by the resource, in this run of the agent. */
  readonly lastInvocationTime?: string;
  readonly conditions: {
    readonly ImageReady?: Verdict;
    readonly NetworkReady?: Verdict;
    readonly Ready: Verdict;
    readonly Reconciling?: Verdict;
    readonly Stalled?: Verdict;
    readonly Callable?: Verdict;
    readonly UpToDate?: Verdict;
    readonly LimitsReached?: Verdict;
    readonly HandlerIgnored?: Verdict;
    readonly WithinPolicy?: Verdict;
    readonly CleanedUp?: Verdict;
  };
}
