import { foreignCode } from '../../common/error-codes.ts';
import { EsbError } from '../../common/errors.ts';

interface LambdaErrorShape {
  /** HTTP status where the caller of {@link LambdaError} does not say otherwise. */
  readonly status: number;
  /** The side at fault: `User` for the caller, `Service` for the gateway. */
  readonly type: 'User' | 'Service';
  /** AWS spells the member differently from error to error. */
  readonly messageKey: 'Message' | 'message';
}

/** Every error the gateway answers with, as the Lambda API's service model has it. */
const LAMBDA_ERRORS = {
  InvalidParameterValueException: { status: 400, type: 'User', messageKey: 'message' },
  InvalidRequestContentException: { status: 400, type: 'User', messageKey: 'message' },
  IncompleteSignatureException: { status: 400, type: 'User', messageKey: 'message' },
  MissingAuthenticationTokenException: { status: 403, type: 'User', messageKey: 'message' },
  InvalidSignatureException: { status: 403, type: 'User', messageKey: 'message' },
  UnrecognizedClientException: { status: 403, type: 'User', messageKey: 'message' },
  ExpiredTokenException: { status: 403, type: 'User', messageKey: 'message' },
  AccessDeniedException: { status: 403, type: 'User', messageKey: 'Message' },
  ResourceNotFoundException: { status: 404, type: 'User', messageKey: 'Message' },
  UnsupportedOperationException: { status: 400, type: 'User', messageKey: 'message' },
  ProvisionedConcurrencyConfigNotFoundException: { status: 404, type: 'User', messageKey: 'message' },
  UnknownOperationException: { status: 404, type: 'User', messageKey: 'Message' },
  RequestTimeoutException: { status: 408, type: 'User', messageKey: 'message' },
  ResourceConflictException: { status: 409, type: 'User', messageKey: 'message' },
  PreconditionFailedException: { status: 412, type: 'User', messageKey: 'message' },
  RequestTooLargeException: { status: 413, type: 'User', messageKey: 'message' },
  TooManyRequestsException: { status: 429, type: 'User', messageKey: 'message' },
  ServiceException: { status: 500, type: 'Service', messageKey: 'Message' },
  ResourceNotReadyException: { status: 502, type: 'Service', messageKey: 'message' },
} as const satisfies Record<string, LambdaErrorShape>;

/** The name of an error, as SDKs know it. */
export type LambdaErrorName = keyof typeof LAMBDA_ERRORS;

/** The `Reason` member of a TooManyRequestsException. */
export type ThrottleReason =
  | 'ConcurrentInvocationLimitExceeded'
  | 'ReservedFunctionConcurrentInvocationLimitExceeded'
  | 'FunctionInvocationRateLimitExceeded'
  | 'CallerRateLimitExceeded';

/** Options of a {@link LambdaError} beside its name and message. */
export interface LambdaErrorOptions {
  /** HTTP status instead of the usual one of that error. */
  readonly status?: number;
  /** Throttles only. */
  readonly reason?: ThrottleReason;
  /** Seconds after which the caller may try again; sent as `Retry-After`. */
  readonly retryAfterSeconds?: number;
  readonly cause?: unknown;
}

/** A refusal in the words of the Lambda API. Its `code` is the AWS name of the error. */
export class LambdaError extends EsbError {
  readonly errorName: LambdaErrorName;
  readonly status: number;
  readonly reason: ThrottleReason | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(errorName: LambdaErrorName, message: string, options: LambdaErrorOptions = {}) {
    const status = options.status ?? LAMBDA_ERRORS[errorName].status;
    super(message, {
      code: foreignCode(errorName),
      retryable: status === 429 || status >= 500,
      cause: options.cause,
    });
    this.errorName = errorName;
    this.status = status;
    this.reason = options.reason;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/**
 * The answer of an error. SDKs take the name from the header first and from `__type` else, so both are sent (measured
 * with `@aws-sdk/client-lambda`; botocore reads the same two).
 */
export function lambdaErrorAnswer(error: LambdaError, requestId: string): HttpAnswer {
  const shape = LAMBDA_ERRORS[error.errorName];
  const body: Record<string, string> & { Reason?: string } = {
    __type: error.errorName,
    Type: shape.type,
    [shape.messageKey]: error.message,
  };
  const headers: Record<string, string> = {
    'content-type': 'application/json',
    'x-amzn-requestid': requestId,
    'x-amzn-errortype': error.errorName,
  };
  if (error.reason !== undefined) {
    body.Reason = error.reason;
  }
  if (error.retryAfterSeconds !== undefined) {
    headers['retry-after'] = String(error.retryAfterSeconds);
  }
  return { status: error.status, headers, body: JSON.stringify(body) };
}

export function throttled(message: string, reason: ThrottleReason, retryAfterSeconds = 1): LambdaError {
  return new LambdaError('TooManyRequestsException', message, { reason, retryAfterSeconds });
}

/** The refusal of a call that found no way to a worker, and so has run nowhere: anyone may try again. */
export function unavailable(message: string, cause?: unknown): LambdaError {
  return new LambdaError('ServiceException', message, { status: 503, retryAfterSeconds: 1, cause });
}

/** Longest part of a value that an error repeats, in characters. */
const MAX_REPEATED = 128;

/** A name or value as an error repeats it. */
export function shown(value: string): string {
  return value.slice(0, MAX_REPEATED);
}

/**
 * The refusal of a parameter that breaks a rule of the service model, in Lambda's words. Lambda itself names some of
 * these ValidationException, which its model does not have; SDKs have a class for the name used here.
 */
export function constraintError(member: string, value: string, rule: string): LambdaError {
  return new LambdaError(
    'InvalidParameterValueException',
    `1 validation error detected: Value '${shown(value)}' at '${member}' failed to satisfy constraint: ${rule}`,
  );
}

/** The refusal of a value that an enumeration of the service model does not have. */
export function choiceError(member: string, value: string, choices: readonly string[]): LambdaError {
  return constraintError(member, value, `Member must satisfy enum value set: [${choices.toSorted().join(', ')}]`);
}

/** Least and largest amount of something, as the service model bounds it. */
export interface Bounds {
  readonly min?: number;
  readonly max?: number;
}

/**
 * The refusal of a value out of its bounds; undefined within.
 *
 * @param amount the value of a number, the length of a text
 */
export function boundsError(
  member: string,
  value: string,
  { amount, of }: { readonly amount: number; readonly of: 'value' | 'length' },
  { min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY }: Bounds,
): LambdaError | undefined {
  if (amount < min) {
    return constraintError(member, value, `Member must have ${of} greater than or equal to ${min}`);
  }
  return amount > max
    ? constraintError(member, value, `Member must have ${of} less than or equal to ${max}`)
    : undefined;
}
