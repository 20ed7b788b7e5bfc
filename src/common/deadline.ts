import { once } from 'node:events';
import { type Clock, LONGEST_TIMER_MS } from './clock.ts';
import { EsbError, messageOf } from './errors.ts';

/** Options of every asynchronous call of ours; its last parameter. */
export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds that the call may take; each call documents its default. */
  readonly deadlineMs?: number | undefined;
}

/** The error of a call that took longer than it was given. Retryable: the outcome is not known. */
export class DeadlineError extends EsbError {
  constructor(what: string, deadlineMs: number, cause?: unknown) {
    super(`${what} took longer than ${deadlineMs} ms`, { code: 'DeadlineExceeded', cause });
  }
}

/** The error of a call that its caller ended. */
export class AbortedError extends EsbError {
  constructor(what: string, cause?: unknown) {
    super(`${what} was given up by its caller`, { code: 'Aborted', cause });
  }
}

/**
 * Runs `call` with a signal that fires when the caller gives up or `deadlineMs` milliseconds have gone by.
 *
 * @throws {DeadlineError} when the time is over
 * @throws {AbortedError} when the caller's signal fired
 */
export async function withDeadline<T>(
  what: string,
  deadlineMs: number,
  signal: AbortSignal | undefined,
  call: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  if (signal?.aborted === true) {
    throw new AbortedError(what, signal.reason);
  }
  const controller = new AbortController();
  let ended: EsbError | undefined;
  const stopped = Promise.withResolvers<never>();
  const end = (error: EsbError): void => {
    ended ??= error;
    controller.abort(ended);
    stopped.reject(ended);
  };
  const onAbort = (): void => end(new AbortedError(what, signal?.reason));
  signal?.addEventListener('abort', onAbort, { once: true });
  const expire = (): void => end(new DeadlineError(what, deadlineMs));
  const timer = setTimeout(expire, Math.min(deadlineMs, LONGEST_TIMER_MS));
  try {
    return await Promise.race([call(controller.signal), stopped.promise]);
  } catch (error) {
    throw ended ?? error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
    stopped.promise.catch(() => undefined);
  }
}

/**
 * A promise that `begin` settles unless `signal` fires first.
 *
 * @param begin gives the function that takes the wait back
 * @throws {AbortedError} as soon as `signal` fires
 */
export function abortable<T>(
  what: string,
  signal: AbortSignal | undefined,
  begin: (resolve: (value: T) => void, reject: (error: unknown) => void) => (() => unknown) | undefined,
): Promise<T> {
  if (signal?.aborted === true) {
    return Promise.reject(new AbortedError(what, signal.reason));
  }
  const done = Promise.withResolvers<T>();
  const onAbort = (): void => {
    takeBack?.();
    done.reject(new AbortedError(what, signal?.reason));
  };
  signal?.addEventListener('abort', onAbort, { once: true });
  const settled = (): void => signal?.removeEventListener('abort', onAbort);
  const takeBack = begin(
    (value) => {
      settled();
      done.resolve(value);
    },
    (error) => {
      settled();
      done.reject(error);
    },
  );
  return done.promise;
}

/**
 * Waits `delayMs` milliseconds.
 *
 * @throws {AbortedError} as soon as `signal` fires
 */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return abortable('sleep', signal, (resolve) => {
    const timer = clock.setTimer(resolve, delayMs);
    return () => timer.cancel();
  });
}

/**
 * Waits `delayMs` milliseconds, or until `hurry` fires.
 *
 * @throws {AbortedError} as soon as `signal` fires
 */
export async function sleepUnlessHurried(
  clock: Clock,
  delayMs: number,
  signal: AbortSignal,
  hurry: AbortSignal,
): Promise<void> {
  try {
    await sleep(clock, delayMs, AbortSignal.any([signal, hurry]));
  } catch (error) {
    if (signal.aborted) {
      throw error;
    }
  }
}

/** Resolves when `signal` fires, or at once if it has. */
export async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) {
    await once(signal, 'abort');
  }
}

/** Whether a caller's signal is the cause of `error`. */
export function isAborted(error: unknown): boolean {
  return error instanceof AbortedError || (error instanceof Error && error.name === 'AbortError');
}

/** Message of an error, after the name of the step that failed. */
export function during(what: string, error: unknown): string {
  return `${what}: ${messageOf(error)}`;
}
