import { FUNCTION_FAILURES } from '../../protocol/function-ends.ts';
import type { InvokeTrailer } from '../../protocol/generated/agent.ts';
import { reasonCodeOf } from '../../protocol/reasons.ts';
import type { Sparse } from '../../protocol/sparse.ts';
import type { FunctionEnd, InvocationResult } from '../model/invocation.ts';

function endOf({ outcome, errorType = '', lateError = '' }: FunctionEnd): Pick<InvokeTrailer, 'functionEnd'> {
  const code = outcome === 'Answered' ? 'FUNCTION_OUTCOME_ANSWERED' : FUNCTION_FAILURES[outcome].code;
  return { functionEnd: { outcome: code, errorType, lateError } };
}

/** A result as the last message of an answer. */
export function trailerOf(result: InvocationResult): Sparse<InvokeTrailer> {
  switch (result.kind) {
    case 'Answered':
      return {
        outcome: 'OUTCOME_ANSWERED',
        ...(result.end === undefined ? {} : endOf(result.end)),
        stamp: result.stamp,
        timings: result.timings,
        ...(result.logTail === undefined ? {} : { logTail: result.logTail }),
      };
    case 'Refused': {
      const { fault, message, reason } = result;
      const initFault = fault === undefined ? null : { ...fault, body: fault.body ?? '' };
      return { outcome: 'OUTCOME_REFUSED', reason, reasonCode: reasonCodeOf(reason), message, initFault };
    }
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
