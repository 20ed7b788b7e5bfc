import type { FunctionOutcome, InvokeTrailer } from '../../protocol/generated/agent.ts';
import { reasonCodeOf } from '../../protocol/reasons.ts';
import type { Sparse } from '../../protocol/sparse.ts';
import type { FunctionEnd, InvocationResult } from '../model/invocation.ts';

type Told = Pick<Sparse<InvokeTrailer>, 'outcome' | 'reason' | 'reasonCode'>;

const CUT_OFF: Told = { outcome: 'OUTCOME_UNKNOWN', reason: 'WorkerExited', reasonCode: 'REASON_WORKER_EXITED' };

/**
 * How a function's end is told; `told` is for gateways of earlier releases, which do not know the rest: an answer that
 * is cut off must not pass for a whole one.
 */
const ENDS: Readonly<Record<FunctionEnd['outcome'], { readonly outcome: FunctionOutcome; readonly told: Told }>> = {
  Answered: { outcome: 'FUNCTION_OUTCOME_ANSWERED', told: { outcome: 'OUTCOME_ANSWERED' } },
  Error: { outcome: 'FUNCTION_OUTCOME_ERROR', told: { outcome: 'OUTCOME_ANSWERED' } },
  Timeout: { outcome: 'FUNCTION_OUTCOME_TIMEOUT', told: { outcome: 'OUTCOME_TIMED_OUT' } },
  Exited: { outcome: 'FUNCTION_OUTCOME_EXITED', told: CUT_OFF },
  Interrupted: { outcome: 'FUNCTION_OUTCOME_INTERRUPTED', told: CUT_OFF },
  TooLarge: { outcome: 'FUNCTION_OUTCOME_TOO_LARGE', told: CUT_OFF },
};

function endOf({ outcome, errorType = '', lateError = '' }: FunctionEnd): Sparse<InvokeTrailer> {
  const { told, outcome: known } = ENDS[outcome];
  return { ...told, functionEnd: { outcome: known, errorType, lateError } };
}

/** A result as the last message of an answer. */
export function trailerOf(result: InvocationResult): Sparse<InvokeTrailer> {
  switch (result.kind) {
    case 'Answered':
      return {
        ...(result.end === undefined ? { outcome: 'OUTCOME_ANSWERED' } : endOf(result.end)),
        stamp: result.stamp,
        timings: result.timings,
        ...(result.logTail === undefined ? {} : { logTail: result.logTail }),
      };
    case 'Refused':
      return {
        outcome: 'OUTCOME_REFUSED',
        reason: result.reason,
        reasonCode: reasonCodeOf(result.reason),
        message: result.message,
      };
    case 'Unknown':
      return {
        outcome: 'OUTCOME_UNKNOWN',
        reason: result.reason,
        reasonCode: reasonCodeOf(result.reason),
        message: result.message,
        stamp: result.stamp,
      };
    case 'TimedOut':
      return {
        outcome: 'OUTCOME_TIMED_OUT',
        message: result.message,
        stamp: result.stamp,
        timings: result.timings,
        ...(result.logTail === undefined ? {} : { logTail: result.logTail }),
      };
  }
}
