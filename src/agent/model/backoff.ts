import { type BackoffPolicy, backoffDelay } from '../../common/backoff.ts';
import type { Action } from './plan.ts';

/** Failures in a row, and the monotonic milliseconds at which the next attempt may come. */
export interface Backoff {
  readonly failures: number;
  readonly until: number;
}

/** The form of a backoff on disk. */
export interface BackoffSnapshot {
  readonly failures: number;
  /** Wall-clock milliseconds; only ever read as "at most one delay from now". */
  readonly until: number;
}

/** An exited worker starts again at once, then after 10 s doubling to 5 min, as in Kubernetes. */
export const crashBackoff: BackoffPolicy = { firstMs: 10_000, maxMs: 300_000, free: 1 };
/** Milliseconds of health after which an exit counts as the first one again. */
export const healthyMs = 600_000;
/** A start that fails (image, registry, network) is tried again sooner: it costs little, and its cause is outside. */
export const startBackoff: BackoffPolicy = { firstMs: 2_000, maxMs: 60_000 };
/** A registry without the image of a worker that rests Absent is asked less often: no call waits for it. */
export const resolveBackoff: BackoffPolicy = { firstMs: 2_000, maxMs: 300_000 };
/** A process that ran and did not listen has cost a start and a minute: it is put off as one that exits. */
export const silenceBackoff: BackoffPolicy = { firstMs: 10_000, maxMs: 300_000 };
/** An action of the runtime that fails is tried again soon: most such failures pass by themselves. */
const actionBackoff: BackoffPolicy = { firstMs: 100, maxMs: 30_000 };
/** Milliseconds until the next attempt at most while the runtime cannot be reached: it may be back at any moment. */
export const unavailableRetryMs = 1_000;

export const noBackoff: Backoff = { failures: 0, until: Number.NEGATIVE_INFINITY };

/** Counts one more failure at `now`, in monotonic milliseconds. */
export function failed({ failures }: Backoff, policy: BackoffPolicy, now: number): Backoff {
  return { failures: failures + 1, until: now + backoffDelay(failures + 1, policy) };
}

/** Milliseconds until the next attempt; 0 when it may come now. */
export function remainingMs({ until }: Backoff, now: number): number {
  return Math.max(0, until - now);
}

/** @param wall wall-clock milliseconds of the same moment as `now` */
export function snapshotOf(backoff: Backoff, now: number, wall: number): BackoffSnapshot {
  return { failures: backoff.failures, until: wall + remainingMs(backoff, now) };
}

export function restoredFrom(
  { failures, until }: BackoffSnapshot,
  policy: BackoffPolicy,
  now: number,
  wall: number,
): Backoff {
  // The wall clock may have stepped in between: never wait longer than the delay itself.
  return { failures, until: now + Math.min(Math.max(0, until - wall), backoffDelay(failures, policy)) };
}

/**
 * Puts off actions that failed. A failure puts off the same action only: a pause that failed must not hold up the call
 * that comes next. All times are monotonic milliseconds.
 */
export interface Retries {
  /** Actions that failed since one worked. */
  readonly failures: number;
  /** Since when nothing has worked. */
  readonly failingSince: number | undefined;
  readonly putOff: { readonly kind: Action['kind']; readonly until: number } | undefined;
  readonly inspectAt: number;
}

export const noRetries: Retries = {
  failures: 0,
  failingSince: undefined,
  putOff: undefined,
  inspectAt: Number.NEGATIVE_INFINITY,
};

/** When an action may be tried. */
export function notBefore({ inspectAt, putOff }: Retries, kind: Action['kind']): number {
  if (kind === 'Inspect') {
    return inspectAt;
  }
  return putOff?.kind === kind ? putOff.until : Number.NEGATIVE_INFINITY;
}

export function withDelay(retries: Retries, kind: Action['kind'], until: number): Retries {
  return kind === 'Inspect' ? { ...retries, inspectAt: until } : { ...retries, putOff: { kind, until } };
}

/** Counts a failure. */
export function withFailure(retries: Retries, now: number): Retries {
  return { ...retries, failures: retries.failures + 1, failingSince: retries.failingSince ?? now };
}

/** Milliseconds until the next attempt should come. `down`: the runtime did not answer. */
export function retryDelayMs({ failures }: Retries, down: boolean): number {
  const delayMs = backoffDelay(failures, actionBackoff);
  return down ? Math.min(delayMs, unavailableRetryMs) : delayMs;
}

export function afterSuccess(retries: Retries): Retries {
  return retries.failures === 0 && retries.failingSince === undefined
    ? retries
    : { ...retries, failures: 0, failingSince: undefined };
}

/** Lets everything be tried now, but for looks. */
export function hurried(retries: Retries): Retries {
  return { ...retries, putOff: undefined };
}

/** Lets everything be tried now. */
export function atOnce(retries: Retries): Retries {
  return { ...retries, putOff: undefined, inspectAt: Number.NEGATIVE_INFINITY };
}
