import { MAX_RESPONSE_BYTES } from '../../common/emulator-answer.ts';
import type { FunctionEnd, FunctionOutcome } from '../../protocol/generated/agent.ts';
import { type FunctionAnswer, functionError, responseTooLarge } from './emulator-translation.ts';
import type { InvokeResult } from './function-call.ts';

/** All that came from a worker before the end of its function. */
export interface WholeAnswer {
  /** Cut off beyond {@link MAX_RESPONSE_BYTES}, which {@link WholeAnswer.size} tells. */
  readonly body: Buffer;
  readonly size: number;
  /** Empty for none. */
  readonly contentType: string;
}

interface Failure {
  readonly outcome: InvokeResult['outcome'];
  /** In Lambda's words, for a worker that does not say. */
  readonly errorType: string;
  readonly message: string;
}

const FAILURES: Readonly<Record<Exclude<FunctionOutcome, 'FUNCTION_OUTCOME_ANSWERED'>, Failure>> = {
  FUNCTION_OUTCOME_UNSPECIFIED: { outcome: 'answered', errorType: 'Runtime.Unknown', message: 'Unknown Error' },
  FUNCTION_OUTCOME_ERROR: { outcome: 'answered', errorType: 'Runtime.Unknown', message: 'Unknown Error' },
  FUNCTION_OUTCOME_TIMEOUT: { outcome: 'timed-out', errorType: 'Sandbox.Timedout', message: 'Task timed out' },
  FUNCTION_OUTCOME_EXITED: {
    outcome: 'exited',
    errorType: 'Runtime.ExitError',
    message: 'Runtime exited without providing a reason',
  },
  FUNCTION_OUTCOME_INTERRUPTED: {
    outcome: 'interrupted',
    errorType: 'Runtime.TruncatedResponse',
    message: 'the runtime broke its answer off',
  },
  FUNCTION_OUTCOME_TOO_LARGE: { outcome: 'too-large', errorType: 'Function.ResponseSizeTooLarge', message: '' },
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
  const failure = FAILURES[end];
  const { outcome } = failure;
  if (lateError !== '') {
    return { body: Buffer.from(lateError), functionError: true, outcome };
  }
  if (end === 'FUNCTION_OUTCOME_TOO_LARGE') {
    return { ...responseTooLarge(), outcome };
  }
  return size > 0 && size <= MAX_RESPONSE_BYTES
    ? { body, functionError: true, outcome }
    : {
        ...functionError(errorType || failure.errorType, `RequestId: ${requestId} Error: ${failure.message}`),
        outcome,
      };
}
