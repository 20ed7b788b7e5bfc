import { FUNCTION_FAILURES } from '../../protocol/function-ends.ts';
import type { InvokeTrailer } from '../../protocol/generated/agent.ts';
import { reasonCodeOf } from '../../protocol/reasons.ts';
import type { Sparse } from '../../protocol/sparse.ts';
import type { FunctionEnd, InvocationResult } from '../model/invocation.ts';

type Told = Pick<Sparse<InvokeTrailer>, 'outcome' | 'reason' | 'reasonCode'>;

const CUT_OFF: Told = { outcome: 'OUTCOME_UNKNOWN', reason: 'WorkerExited', reasonCode: 'REASON_WORKER_EXITED' };

/**
 * The end of a function for gateways of earlier releases, which know no more: an answer that is cut off must not pass for
 * a whole one.
 */
const EARLIER: Readonly<Record<FunctionEnd['outcome'], Told>> = {
  Answered: { outcome: 'OUTCOME_ANSWERED' },
  Error: { outcome: 'OUTCOME_ANSWERED' },
  Timeout: { outcome: 'OUTCOME_TIMED_OUT' },
  Exited: CUT_OFF,
  Interrupted: CUT_OFF,
  TooLarge: CUT_OFF,
};

function endOf({ outcome, errorType = '', lateError = '' }: FunctionEnd): Sparse<InvokeTrailer> {
  const code = outcome === 'Answered' ? 'FUNCTION_OUTCOME_ANSWERED' : FUNCTION_FAILURES[outcome].code;
  return { ...EARLIER[outcome], functionEnd: { outcome: code, errorType, lateError } };
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
