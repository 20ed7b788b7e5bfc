import type { InvokeTimings } from '../../protocol/generated/agent.ts';
import type { FunctionReference } from '../lambda/function-name.ts';
import type { FunctionAnswer } from './emulator-translation.ts';

/** One call as the gateway's edge takes it in. */
export interface FunctionCall {
  readonly reference: FunctionReference;
  readonly requestId: string;
  readonly payload: Buffer;
  readonly clientContext: string;
  readonly tailLog: boolean;
  /** The caller's X-Amzn-Trace-Id; empty for none. */
  readonly traceId: string;
  /** W3C `traceparent` of what follows the call; empty for none. */
  readonly traceParent: string;
}

/** What a caller is told of a call that may have run. */
export interface InvokeResult extends FunctionAnswer {
  /** `unknown` when nobody knows how far the call came. */
  readonly outcome: 'answered' | 'timed-out' | 'unknown';
  readonly timings: InvokeTimings | undefined;
  readonly logTail: Buffer | undefined;
}
