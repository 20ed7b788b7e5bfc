import type { InitEnd, InitHead } from '../../init/contract.ts';
import { FUNCTION_FAILURES } from '../../protocol/function-ends.ts';
import type { FunctionEnd } from '../model/invocation.ts';

/** A call that has ended in its worker, for the caller. */
export interface ToldEnd {
  readonly end: FunctionEnd;
  /** Answer to be passed on, since none has been. */
  readonly payload?: Buffer;
}

/**
 * The end of a call in the words of Lambda.
 *
 * @param head of the answer that has been passed on; undefined for none
 */
export function toldEnd(
  requestId: string,
  outcome: FunctionEnd['outcome'],
  { errorBody, errorType, message, size }: Omit<InitEnd, 'outcome'>,
  head: InitHead | undefined,
): ToldEnd {
  if (outcome === 'Answered') {
    return { end: { outcome } };
  }
  const failure = FUNCTION_FAILURES[outcome];
  const end = { outcome, errorType: errorType ?? failure.errorType };
  const isStreamed = head?.streaming === true || errorBody !== undefined;
  if (outcome === 'Error' && size > 0 && !isStreamed) {
    // The answer that was passed on is the error.
    return { end };
  }
  // Lambda names no call where an answer is too large.
  const text = message ?? failure.message;
  const errorMessage = outcome === 'TooLarge' ? text : `RequestId: ${requestId} Error: ${text}`;
  const error = errorBody ?? JSON.stringify({ errorType: end.errorType, errorMessage });
  return head === undefined ? { end, payload: Buffer.from(error) } : { end: { ...end, lateError: error } };
}
