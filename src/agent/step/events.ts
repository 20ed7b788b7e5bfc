import type { EsbError } from '../../common/errors.ts';
import type { EnsureStep, KernelState, RuntimeEvent, WorkerInfo } from '../../runtime/contract/runtime.ts';
import type { DesiredWorker } from '../model/desired-worker.ts';
import type { Rest } from '../model/idle-policy.ts';
import type { FunctionEnd } from '../model/invocation.ts';
import type { LeftCall } from '../model/marked-call.ts';
import type { Action } from '../model/plan.ts';
import type { Call } from './call.ts';
import type { Load, Sighting } from './container.ts';
import type { InitWord } from './init-sight.ts';

/** Events of a worker. Each is reduced into its state, and decided on, before the next one. */
export type WorkerEvent =
  /** Its actor begins to act. `unrecorded`: no record of it is on disk. */
  | { readonly kind: 'Begun'; readonly unrecorded: boolean }
  /** The resource as it is now. `ownStamp`: its `lastInvocationTime` was issued by this node. */
  | { readonly kind: 'Applied'; readonly desired: DesiredWorker; readonly ownStamp: boolean }
  /** The worker is no longer this node's. */
  | { readonly kind: 'Released' }
  /** A call asks to be let in. `gone`: its caller has hung up already. `atOnce`: it waits for no place. */
  | { readonly kind: 'Invoked'; readonly call: Arrival; readonly gone: boolean; readonly atOnce?: boolean }
  /** The caller of a call hung up. */
  | { readonly kind: 'HungUp'; readonly id: number }
  /** An attempt to serve a call is over. */
  | {
      readonly kind: 'Returned';
      readonly containerId: string;
      /** Number of the call. */
      readonly id: number;
      readonly outcome: CallOutcome;
    }
  /** An action has come further. */
  | { readonly kind: 'Progressed'; readonly containerId: string; readonly progress: Progress }
  | {
      readonly kind: 'Acted';
      readonly containerId: string;
      readonly action: Action;
      readonly outcome: ActionOutcome;
    }
  /** The runtime's tools were told that a container runs, or not. */
  | { readonly kind: 'Settled'; readonly containerId: string; readonly outcome: SettleOutcome }
  /** The runtime said that something may have happened to a container. */
  | { readonly kind: 'Hinted'; readonly containerId: string; readonly event: RuntimeEvent['kind'] }
  /** A look at one container, begun at that `turn` of it, is over. */
  | {
      readonly kind: 'Looked';
      readonly containerId: string;
      readonly turn: number;
      readonly purpose: LookPurpose;
      readonly seen: Seen | undefined;
    }
  /** A look at the whole node found something new of the worker. `own`: all of its containers. */
  | {
      readonly kind: 'Listed';
      readonly own: readonly WorkerInfo[];
      readonly news: readonly { readonly containerId: string; readonly sighting: Sighting }[];
    }
  /** The init of a container has told something, or is gone. */
  | { readonly kind: 'InitTold'; readonly containerId: string; readonly word: InitWord }
  /** The output of a container is lost. */
  | { readonly kind: 'OutputLost'; readonly containerId: string }
  /** The log shows the end of a call that an earlier run of the agent has left, or, where not `seen`, its time is over. */
  | {
      readonly kind: 'LeftCallEnded';
      readonly containerId: string;
      readonly call: LeftCall;
      readonly seen: boolean;
    }
  /** Whether the image can be had; `error` tells why not. */
  | { readonly kind: 'Resolved'; readonly image: string; readonly error: EsbError | undefined }
  /** An operator asks that it runs, or that it rests there. */
  | { readonly kind: 'Woken' }
  | { readonly kind: 'Lowered'; readonly rest: Rest }
  /** Actions that wait for something outside may be tried now. */
  | { readonly kind: 'Retried' }
  /** Something that decisions depend on may have changed: the time, or the turns of the node. */
  | { readonly kind: 'Ticked' }
  /** The agent takes no more calls. */
  | { readonly kind: 'Refusing' }
  /** The agent ends. The stamp is of the calls in the worker. `unsent`: numbers of those of which not a byte was sent. */
  | { readonly kind: 'Stopped'; readonly stamp: string; readonly unsent: readonly number[] };

/** A call as it comes. */
export type Arrival = Omit<Call, 'start' | 'attempts'>;

export type LookPurpose = 'Verify' | 'Diagnose';

export type Progress =
  | { readonly kind: 'Step'; readonly step: EnsureStep; readonly detail: string | undefined }
  /** From here on a removal cannot be called back. */
  | { readonly kind: 'Removing' };

/** A sighting with, for a process that has ended, the last lines of its output. */
export interface Seen extends Sighting {
  readonly output: string;
}

/** How an action ended. */
export type ActionOutcome =
  | { readonly kind: 'Inspected'; readonly seen: Seen }
  /** `found`: the process ran before. */
  | { readonly kind: 'Ensured'; readonly info: WorkerInfo; readonly found: boolean }
  | { readonly kind: 'WarmedUp'; readonly call: CallOutcome }
  /** A pause, resume or removal is done. */
  | { readonly kind: 'Done' }
  /** Called back before anything was done. */
  | { readonly kind: 'NotBegun' }
  | ({ readonly kind: 'Failed' } & ActionFailure);

export interface ActionFailure {
  readonly error: EsbError;
  /** The kernel's word about the container after it. */
  readonly kernel: KernelState;
  /** Whether the container is given up: its shim did not answer, by its own fault. */
  readonly lost: boolean;
  /** Whether the node was short of something, such as file descriptors. */
  readonly shortage: boolean;
  /** Of a warm-up: its call, and why the container must not get another one. */
  readonly warmUp?: { readonly call: CallOutcome; readonly unusable: string | undefined } | undefined;
}

export interface SettleOutcome {
  /** Whether the runtime's tools call it running now. */
  readonly settled: boolean;
  /** Whether it runs; false when that is not known. */
  readonly runs: boolean;
}

/** How an attempt to serve a call ended. */
export type CallOutcome =
  /** Not a byte was sent. `own`: by the fault of the node. `gone`: the caller has hung up meanwhile. */
  | { readonly kind: 'NotSent'; readonly message: string; readonly own: boolean; readonly gone: boolean }
  /** Sent, and the connection broke. `fault`: by a fault of the agent itself. */
  | ({ readonly kind: 'Unknown'; readonly message: string; readonly fault: boolean } & Answering)
  | ({
      readonly kind: 'Answered' | 'CutOff' | 'TimedOut';
      /** Monotonic milliseconds. */
      readonly sentAt: number;
      readonly answeredAt: number;
      readonly logTail?: Buffer | undefined;
      /** End that the init of the container has reported. */
      readonly end?: FunctionEnd | undefined;
    } & Answering);

interface Answering {
  /** News about the load of its function; undefined for none. */
  readonly load: Load;
  /** Whether the function was called and answered. */
  readonly warmed: boolean;
  readonly stamp: string;
}
