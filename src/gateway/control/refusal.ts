import { EsbError } from '../../common/errors.ts';
import { ApiError, isUnavailable } from '../../kube/api/api-error.ts';
import { LambdaError, throttled, unavailable } from '../lambda/lambda-error.ts';

/**
 * The words of Lambda for an error of the API server. Anything else is given back as it is.
 */
export function refusalOf(error: unknown): unknown {
  if (error instanceof LambdaError || !(error instanceof EsbError)) {
    return error;
  }
  const message = error.message;
  switch (error.code) {
    case 'Invalid':
    case 'BadRequest':
      return new LambdaError('InvalidParameterValueException', message, { cause: error });
    case 'Forbidden':
      return new LambdaError('AccessDeniedException', message, { cause: error });
    case 'NotFound':
      return new LambdaError('ResourceNotFoundException', message, { cause: error });
    case 'AlreadyExists':
    case 'Conflict':
      return new LambdaError('ResourceConflictException', message, { cause: error });
    case 'TooManyRequests':
      return throttled(message, 'CallerRateLimitExceeded');
    default:
      return error instanceof ApiError || isUnavailable(error)
        ? unavailable('The Kubernetes API server cannot be asked at the moment.', error)
        : error;
  }
}

/** Runs calls to the API server; errors become those of Lambda. */
export async function inWordsOfLambda<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw refusalOf(error);
  }
}
