import { foreignCode } from '../../common/error-codes.ts';
import { EsbError, type EsbErrorOptions, hasCode, messageOf } from '../../common/errors.ts';

/** The fields of a Kubernetes `Status` object that are read. */
interface StatusBody {
  readonly message?: string;
  readonly reason?: string;
  readonly code?: number;
  readonly details?: {
    readonly name?: string;
    readonly retryAfterSeconds?: number;
    readonly causes?: readonly { readonly reason?: string; readonly message?: string }[];
  };
}

/** Names for answers without a Status, from apimachinery's `metav1.StatusReason`. */
const reasonByStatus: Readonly<Record<number, string>> = {
  400: 'BadRequest',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  405: 'MethodNotAllowed',
  408: 'Timeout',
  409: 'Conflict',
  413: 'RequestEntityTooLarge',
  415: 'UnsupportedMediaType',
  422: 'Invalid',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServiceUnavailable',
  504: 'Timeout',
};

const MESSAGE_LIMIT = 500;

/**
 * A request to the API server that failed, other than by its caller's signal (`AbortedError`) or its deadline
 * (`DeadlineError`, whose outcome is as unknown as that of `Unreachable`).
 *
 * `code` is the reason of the server's Status: `NotFound`, `AlreadyExists`, `Conflict`, `Invalid`, `Forbidden`,
 * `Expired` (also for reason `Gone`), `TooManyRequests`, ... A failed connection has the code `Unreachable`, an answer
 * that makes no sense `InvalidAnswer`; both have no status.
 */
export class ApiError extends EsbError {
  /** HTTP status; undefined when there was no answer. */
  readonly status: number | undefined;
  /** Milliseconds after which the server wants the next request, where the answer says so. */
  readonly retryAfterMs: number | undefined;
  /** Name of the object in the server's answer. A name tells "no such object" from "no such kind of resource". */
  readonly subject: string | undefined;

  constructor(
    message: string,
    options: EsbErrorOptions & Partial<Pick<ApiError, 'status' | 'retryAfterMs' | 'subject'>>,
  ) {
    super(message, options);
    this.status = options.status;
    this.retryAfterMs = options.retryAfterMs;
    this.subject = options.subject;
  }

  /** No answer: refused, reset, no route, a TLS fault, or a stream that fell silent. */
  static unreachable(what: string, cause: unknown): ApiError {
    return new ApiError(`${what}: ${messageOf(cause)}`, { code: 'Unreachable', retryable: true, cause });
  }

  /** An answer against the protocol. Retryable: proxies on the way produce such answers while they start. */
  static invalidAnswer(what: string, cause: unknown): ApiError {
    return new ApiError(`${what}: the answer makes no sense: ${messageOf(cause)}`, {
      code: 'InvalidAnswer',
      retryable: true,
      cause,
    });
  }

  /**
   * An error answer.
   *
   * @param retryAfter the `Retry-After` header; seconds, or else ignored
   */
  static fromAnswer(what: string, status: number, body: string, retryAfter?: string): ApiError {
    const parsed = parseStatus(body);
    const seconds = Number(retryAfter ?? parsed?.details?.retryAfterSeconds ?? Number.NaN);
    const text = parsed?.message ?? body.trim().slice(0, MESSAGE_LIMIT);
    return new ApiError(`${what}: ${text === '' ? `HTTP status ${status}` : text}`, {
      code: codeOf(status, parsed),
      retryable: status === 429 || status === 408 || status >= 500,
      status,
      retryAfterMs: Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined,
      subject: parsed?.details?.name,
    });
  }

  /** The `object` of a watch frame of type ERROR. */
  static fromStatus(what: string, status: unknown): ApiError {
    const body = JSON.stringify(status);
    return ApiError.fromAnswer(what, parseStatus(body)?.code ?? 500, body);
  }
}

/** Whether a write that ended with this error may have come through, or may yet: the server did not refuse it. */
export function mayBeWritten(error: unknown): boolean {
  const status = error instanceof ApiError ? (error.status ?? 0) : 0;
  return !hasCode(error, 'NotLeader') && (status < 400 || status >= 500 || status === 408);
}

function parseStatus(body: string): StatusBody | undefined {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === 'object' && value !== null ? (value as StatusBody) : undefined;
  } catch {
    return undefined;
  }
}

function codeOf(status: number, body: StatusBody | undefined): EsbError['code'] {
  const reason = body?.reason;
  if (status === 410 || reason === 'Gone' || reason === 'Expired') {
    return 'Expired';
  }
  // A watch or list from a version that the server has not reached: it was restored from older data.
  if (body?.details?.causes?.some((cause) => cause.reason === 'ResourceVersionTooLarge') === true) {
    return 'ResourceVersionTooLarge';
  }
  if (reason !== undefined && reason !== '') {
    return foreignCode(reason);
  }
  return foreignCode(reasonByStatus[status] ?? (status >= 500 ? 'InternalError' : 'Unknown'));
}

/** Whether the API server was not reached or could not answer now, as opposed to a refusal of the request. */
export function isUnavailable(error: unknown): boolean {
  if (error instanceof ApiError) {
    return error.retryable;
  }
  return error instanceof EsbError && error.code === 'DeadlineExceeded';
}
