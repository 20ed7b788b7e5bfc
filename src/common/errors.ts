import { type ErrorCode, errorCodeEntry, type ForeignCode } from './error-codes.ts';

/** Fields of an {@link EsbError} beside its message. */
export interface EsbErrorOptions {
  /** Stable, CamelCase name of the fault, for conditions, logs and callers. */
  readonly code: ErrorCode | ForeignCode;
  /** Whether the same request may succeed later without a change. Default: as the table of codes says, else false. */
  readonly retryable?: boolean;
  readonly cause?: unknown;
}

/**
 * The base class of every error that crosses a boundary inside ESB. Foreign errors (gRPC status, HTTP answers, errno)
 * are turned into one where they enter, so that nothing above has to know where they came from.
 */
export class EsbError extends Error {
  readonly code: ErrorCode | ForeignCode;
  readonly retryable: boolean;

  constructor(message: string, options: EsbErrorOptions) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = options.code;
    this.retryable = options.retryable ?? errorCodeEntry(options.code)?.retryable ?? false;
  }

  /** The error itself when it is one of ours, else a non-retryable `Internal` one that keeps it as its cause. */
  static from(error: unknown): EsbError {
    if (error instanceof EsbError) {
      return error;
    }
    return new EsbError(messageOf(error), { code: 'Internal', cause: error });
  }
}

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Whether `error` is one of ours with the given code. */
export function hasCode(error: unknown, code: ErrorCode | ForeignCode): error is EsbError {
  return error instanceof EsbError && error.code === code;
}

/** The `code` of a Node.js system error such as `ENOENT`, if it has one. */
export function errnoOf(error: unknown): string | undefined {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') {
    return error.code;
  }
  return undefined;
}

/** The result of a call; undefined where the call fails with `NotFound`. */
export function undefinedIfNotFound<T>(call: Promise<T>): Promise<T | undefined> {
  return undefinedIf(call, (error) => hasCode(error, 'NotFound'));
}

/** The result of a file operation; undefined where the file or folder does not exist. */
export function undefinedIfNoFile<T>(call: Promise<T>): Promise<T | undefined> {
  return undefinedIf(call, (error) => errnoOf(error) === 'ENOENT');
}

/** The result of a call; undefined where the call fails with an error that means absence. */
export async function undefinedIf<T>(call: Promise<T>, isMissing: (error: unknown) => boolean): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (isMissing(error)) {
      return undefined;
    }
    throw error;
  }
}

/** Errors of a system that has no descriptors, ports or buffers left for any peer. */
const shortages: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE', 'EADDRNOTAVAIL', 'ENOBUFS']);

/** Whether this process or this machine lacks the means of an attempt, which says nothing of its target. */
export function isShortage(error: unknown): boolean {
  return error instanceof Error && (shortages.has(errnoOf(error) ?? '') || isShortage(error.cause));
}

/** For the `default` branch of a switch that names every member of a union. */
export function unreachable(value: never): never {
  throw new EsbError(`unhandled case: ${JSON.stringify(value)}`, { code: 'Internal' });
}
