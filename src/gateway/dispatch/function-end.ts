import { MAX_RESPONSE_BYTES } from '../../common/emulator-answer.ts';
import { type FailureName, FUNCTION_FAILURES, failureNameOf } from '../../protocol/function-ends.ts';
import type { FunctionEnd } from '../../protocol/generated/agent.ts';
import { type FunctionAnswer, functionError, responseTooLarge } from '../agents/emulator-translation.ts';
import type { InvokeResult } from '../agents/function-call.ts';

/** All that came from a worker before the end of its function. */
export interface WholeAnswer {
  /** Cut off beyond {@link MAX_RESPONSE_BYTES}, which {@link WholeAnswer.size} tells. */
  readonly body: Buffer;
  readonly size: number;
  /** Empty for none. */
  readonly contentType: string;
}

const OUTCOMES: Readonly<Record<FailureName, InvokeResult['outcome']>> = {
  Error: 'answered',
  Timeout: 'timed-out',
  Exited: 'exited',
  Interrupted: 'interrupted',
  TooLarge: 'too-large',
};

/** Makes of an answer and the known end of its function what Lambda answers. Nothing is guessed from the answer. */
export function answerOfFunction(
  { outcome: end, errorType, lateError }: FunctionEnd,
  { body, size, contentType }: WholeAnswer,
  requestId: string,
): FunctionAnswer & Pick<InvokeResult, 'outcome'> {
  if (end === 'FUNCTION_OUTCOME_ANSWERED') {
    return size > MAX_RESPONSE_BYTES
      ? { ...responseTooLarge(), outcome: 'too-large' }
      : { body, contentType, functionError: false, outcome: 'answered' };
  }
  const name = failureNameOf(end);
  const outcome = OUTCOMES[name];
  if (lateError !== '') {
    return { body: Buffer.from(lateError), functionError: true, outcome };
  }
  if (name === 'TooLarge') {
    return { ...responseTooLarge(), outcome };
  }
  return size > 0 && size <= MAX_RESPONSE_BYTES
    ? { body, functionError: true, outcome }
    : {
        ...functionError(
          errorType || FUNCTION_FAILURES[name].errorType,
          `RequestId: ${requestId} Error: ${FUNCTION_FAILURES[name].message}`,
        ),
        outcome,
      };
}
