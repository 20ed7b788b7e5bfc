import { errorMembersIn, MAX_RESPONSE_BYTES, runtimeErrorIn, timedOutAfter } from '../../common/emulator-answer.ts';
import type { UnknownReason } from '../../protocol/reasons.ts';

export interface EmulatorAnswer {
  readonly status: number;
  /** The whole body; cut off beyond {@link MAX_RESPONSE_BYTES}, which {@link EmulatorAnswer.size} tells. */
  readonly body: Buffer;
  readonly size: number;
}

export interface AnsweredCall {
  readonly requestId: string;
  /** `spec.timeoutSeconds` of the worker. */
  readonly timeoutSeconds: number;
  /** Wall clock in milliseconds, for the text of a timeout. */
  readonly now: number;
}

/** Lambda's answer: always status 200, with `X-Amz-Function-Error: Unhandled` on a function error. */
export interface FunctionAnswer {
  readonly body: Buffer;
  /** Of the body; JSON where absent or empty. */
  readonly contentType?: string;
  readonly functionError: boolean;
}

/**
 * Makes of the emulator's answer what Lambda would have answered.
 *
 * The emulator hides what happened: a function error comes as a plain 200 (its issue 20), a timeout as a 200 with a
 * line of text (issue 21), a runtime that exited as 502 or as a 200 with nothing in it (issue 86). The rules here, in
 * order:
 *
 * 1. Any status but 2xx: the runtime failed. The error in the body is passed on if there is one, else
 *    `Runtime.ExitError` (502, 504) or `Runtime.Unknown`.
 * 2. No body: `Runtime.ExitError`. A custom runtime may answer with nothing on purpose; a crash that looks like success
 *    is the worse mistake.
 * 3. The timeout line, bare: a JSON string with the same words would carry quotes.
 * 4. Too large: `Function.ResponseSizeTooLarge`.
 * 5. A JSON object with `errorType` and `errorMessage`, and **no member that a runtime would not put there**: a
 *    function error. A function can still return exactly that on purpose and be taken for a failed one, as the emulator
 *    gives no other sign; but an answer that merely carries the two among others (`statusCode`, `headers`, ...) is left
 *    alone.
 */
export function translateEmulatorAnswer(answer: EmulatorAnswer, call: AnsweredCall): FunctionAnswer {
  if (answer.status < 200 || answer.status > 299) {
    return runtimeFailure(answer, call);
  }
  if (answer.size === 0) {
    return exitError(call.requestId, 'Runtime exited without providing a reason');
  }
  if (answer.size > MAX_RESPONSE_BYTES) {
    return responseTooLarge();
  }
  const { body } = answer;
  const seconds = timedOutAfter(body);
  if (seconds !== undefined) {
    return timeoutError(call, seconds);
  }
  return { body, functionError: runtimeErrorIn(body) !== undefined };
}

/**
 * The answer to a call that ran out of time.
 *
 * @param seconds the function's time limit
 */
export function timeoutError(call: AnsweredCall, seconds: number = call.timeoutSeconds): FunctionAnswer {
  return functionError(
    'Sandbox.Timedout',
    `${new Date(call.now).toISOString()} ${call.requestId} Task timed out after ${seconds}.00 seconds`,
  );
}

const UNKNOWN_ERROR_TYPES: Readonly<Record<UnknownReason, 'Runtime.ExitError' | 'Esb.OutcomeUnknown'>> = {
  WorkerExited: 'Runtime.ExitError',
  ConnectionLost: 'Esb.OutcomeUnknown',
  AgentStopped: 'Esb.OutcomeUnknown',
  Restarted: 'Esb.OutcomeUnknown',
  ResponseTooSlow: 'Esb.OutcomeUnknown',
};
const unknownErrorTypes: ReadonlyMap<string, string> = new Map(Object.entries(UNKNOWN_ERROR_TYPES));

/**
 * The answer to a call with an unknown outcome: the call was sent, and the worker, its agent or the connection was lost
 * before the answer.
 *
 * A function error with status 200, not a 5xx, because SDKs repeat 500, 502, 503 and 504 by themselves (measured:
 * `@aws-sdk/client-lambda`; botocore lists the same four) and proxies repeat any 5xx, and the function may have run
 * already. Lambda answers the same when an environment died under a call. The type is `Runtime.ExitError` where the
 * worker's own process ended, else `Esb.OutcomeUnknown`; both have the header `X-Esb-Outcome: unknown`.
 *
 * @param reason the agent's, or `ConnectionLost`
 */
export function unknownOutcome(requestId: string, reason: string, message: string): FunctionAnswer {
  return functionError(
    unknownErrorTypes.get(reason) ?? 'Esb.OutcomeUnknown',
    `RequestId: ${requestId} Error: ${message === '' ? reason : message}. The outcome is unknown: the function may have run, in whole or in part. It was not called again.`,
  );
}

function runtimeFailure(answer: EmulatorAnswer, call: AnsweredCall): FunctionAnswer {
  if (answer.size <= MAX_RESPONSE_BYTES && errorMembersIn(answer.body) !== undefined) {
    return { body: answer.body, functionError: true };
  }
  if (answer.status === 502 || answer.status === 504) {
    return exitError(call.requestId, 'Runtime exited without providing a reason');
  }
  return functionError(
    'Runtime.Unknown',
    `RequestId: ${call.requestId} Error: the emulator in the worker answered with status ${answer.status}`,
  );
}

function exitError(requestId: string, message: string): FunctionAnswer {
  return functionError('Runtime.ExitError', `RequestId: ${requestId} Error: ${message}`);
}

export function responseTooLarge(): FunctionAnswer {
  return functionError(
    'Function.ResponseSizeTooLarge',
    `Response payload size exceeded maximum allowed payload size (${MAX_RESPONSE_BYTES} bytes).`,
  );
}

export function functionError(errorType: string, errorMessage: string): FunctionAnswer {
  return { body: Buffer.from(JSON.stringify({ errorType, errorMessage })), functionError: true };
}
