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
]);

/** The words of Lambda for an error of the API server. Anything else is given back as it is. */
export function refusalOf(error: unknown): unknown {
  if (error instanceof LambdaError || !(error instanceof EsbError)) {
    return error;
  }
  const { code, message } = error;
  const name = names.get(code);
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

/** Runs calls to the API server; errors become those of Lambda. */
export async function inWordsOfLambda<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw refusalOf(error);
  }
}
