import type { CallOptions } from '../../common/deadline.ts';
import type { WorkerIdentity } from '../../runtime/contract/runtime.ts';
import type { DesiredWorker } from './desired-worker.ts';
import type { Invocation, InvocationResult, Recovery } from './invocation.ts';
import type { WorkerView } from './worker-state.ts';

/** All workers of one node: what the agent's edges (watch, gRPC server, status) talk to. */
export interface Fleet {
  /**
   * Rebuilds the actors from disk and containerd. Nothing idle is woken or started, nothing adoptable is ended. Called
   * once, after the port was bound and before anything else.
   */
  adopt(options?: CallOptions): Promise<void>;
  /** The resource as it is now. Repeating is harmless; an older generation or epoch than one of before is ignored. */
  apply(desired: DesiredWorker): void;
  /** The assignment or the resource is gone for certain: everything of that uid on this node is removed. */
  release(uid: string): void;
  /**
   * A complete and fresh view of what the API assigns to this node. Actors without a resource are released after
   * `confirmGone` has said so (a GET by uid), containers without an actor removed after a minimum age.
   */
  sweep(assignedUids: ReadonlySet<string>, confirmGone: (identity: WorkerIdentity) => Promise<boolean>): Promise<void>;
  /** Runs one call; never rejects for anything that a caller can be told. Body chunks go to `onHead`/`onChunk`. */
  invoke(invocation: Invocation): Promise<InvocationResult>;
  /**
   * Passes on the answer of a call that an earlier run of the agent has sent, and runs nothing. `Refused` only where no
   * runtime has had a part of it; `Unknown` where its answer is not there.
   *
   * @throws {EsbError} `Unavailable` where the next run of the agent may know more, `NotFound`
   */
  recover(recovery: Recovery): Promise<InvocationResult>;
  /** Hints; each rejects with a code `FailedPrecondition`, `NotFound` or `Fenced` when it may not be followed. */
  ensure(uid: string, epoch: number, options?: CallOptions): Promise<WorkerView>;
  pause(uid: string, epoch: number, options?: CallOptions): Promise<WorkerView>;
  resume(uid: string, epoch: number, options?: CallOptions): Promise<WorkerView>;
  destroy(uid: string, epoch: number, options?: CallOptions): Promise<WorkerView>;
  views(): readonly WorkerView[];
  view(uid: string): WorkerView | undefined;
  /** Told synchronously of every change of a view, and of a uid that is gone. */
  subscribe(listener: FleetListener): () => void;
  /**
   * Serves everybody until the calls that are in the workers now are over, for most of `drainMs`. Then refuses new
   * calls, gives short ones a moment to end, and stops the actors. Touches no worker: a call that takes longer goes on
   * in it.
   *
   * @param drainMs milliseconds that all of this takes at most
   * @param onRefusing told when calls are refused from now on
   */
  stop(drainMs: number, onRefusing?: () => void): Promise<void>;
}

export interface FleetListener {
  changed(view: WorkerView): void;
  removed(uid: string): void;
}
