import type { InvokeTimings, WorkerRef } from '../../protocol/generated/agent.ts';
import type { FunctionReference } from '../lambda/function-name.ts';
import type { FunctionAnswer } from './emulator-translation.ts';

/** The worker that a call goes to: a process that knows it can ask for the answer later. */
export interface SentTry {
  readonly nodeName: string;
  readonly worker: WorkerRef;
  /** Name of the process of the agent. */
  readonly run: string;
  /** Wall-clock milliseconds. */
  readonly sentAt: number;
  /** As Lambda writes it. */
  readonly version: string;
  readonly timeoutSeconds: number;
}

/** Follows a call that may be asked for by another process: its agent keeps the answer. */
export interface CallFollower {
  /** Called before each time that the call is sent, which waits for the end of this. An error ends the call unsent. */
  sending(sent: SentTry): Promise<void>;
  /** The worker has refused the call, which has not begun. */
  refused(): void;
}

/** One call as the gateway's edge takes it in. */
export interface FunctionCall {
  readonly reference: FunctionReference;
  readonly requestId: string;
  readonly payload: Buffer;
  readonly clientContext: string;
  readonly tailLog: boolean;
  /** Whether a call with this request id has ended before, so that an answer under it may be that one's. */
  readonly isRepeated?: boolean;
  /** Absent for a call that ends with its caller. */
  readonly follower?: CallFollower;
  /** The caller's X-Amzn-Trace-Id; empty for none. */
  readonly traceId: string;
  /** W3C `traceparent` of the call's span; empty for none. */
  readonly traceParent: string;
}

/**
 * `answered`: by the function, with a value or an error. `exited`, `interrupted`, `too-large`: the end that the worker
 * reported. `init-failed`: its function could not be initialized, and the call has not run. `unknown`: the call may have
 * run, in whole or in part.
 */
export type FunctionOutcome =
  | 'answered'
  | 'timed-out'
  | 'exited'
  | 'interrupted'
  | 'too-large'
  | 'init-failed'
  | 'unknown';

/** The result of a call. */
export interface InvokeResult extends FunctionAnswer {
  readonly outcome: FunctionOutcome;
  /** The version that it was given to, as Lambda writes it. */
  readonly executedVersion: string;
  readonly timings: InvokeTimings | undefined;
  readonly logTail: Buffer | undefined;
}
