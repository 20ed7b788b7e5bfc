import { EsbError } from '../../common/errors.ts';
import { ApiError, isUnavailable } from '../../kube/api/api-error.ts';
import { LambdaError, type LambdaErrorName, throttled, unavailable } from '../lambda/lambda-error.ts';

/** Errors of Lambda by the reason that the API server gives. */
const names: ReadonlyMap<string, LambdaErrorName> = new Map([
  ['Invalid', 'InvalidParameterValueException'],
  ['BadRequest', 'InvalidParameterValueException'],
  ['Forbidden', 'AccessDeniedException'],
  ['NotFound', 'ResourceNotFoundException'],
  ['AlreadyExists', 'ResourceConflictException'],
  ['Conflict', 'ResourceConflictException'],
  ['RequestEntityTooLarge', 'RequestTooLargeException'],
]);
/** Answers that tell of the gateway's own account, and of the moment; all others from 400 to 499 of what was asked for. */
const OWN_FAULTS: readonly number[] = [401, 408, 410, 429];

/** The refusal of an authorizer, which is one of the gateway's own account: no text for callers. */
const OWN_RIGHT = /: User "[^"]*" cannot /;
/** Characters of a text of the API server that callers get: it repeats what they have sent. */
const MAX_TEXT = 4_096;

/** The words of Lambda for an error of the API server. Anything else is given back as it is. */
export function refusalOf(error: unknown): unknown {
  if (error instanceof LambdaError || !(error instanceof EsbError)) {
    return error;
  }
  const { code } = error;
  const message = error.message.slice(0, MAX_TEXT);
  if (code === 'Forbidden' && OWN_RIGHT.test(message)) {
    // A fault of the installation, which is logged as such.
    return error;
  }
  const name = names.get(code) ?? (isOfRequest(error) ? 'InvalidParameterValueException' : undefined);
  if (name !== undefined) {
    return new LambdaError(name, message, { cause: error });
  }
  if (code === 'TooManyRequests') {
    return throttled(message, 'CallerRateLimitExceeded');
  }
  return error instanceof ApiError || isUnavailable(error)
    ? unavailable('The Kubernetes API server cannot be asked at the moment.', error)
    : error;
}

/** Whether an admission webhook, which may give any status and reason, refused what was asked for. */
function isOfRequest(error: EsbError): boolean {
  const status = error instanceof ApiError ? (error.status ?? 0) : 0;
  return status >= 400 && status < 500 && !OWN_FAULTS.includes(status);
}

/** Runs calls to the API server; errors become those of Lambda. */
export async function inWordsOfLambda<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw refusalOf(error);
  }
}
