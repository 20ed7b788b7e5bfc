import type { Action } from './plan.ts';

/** First and longest delay in milliseconds before an action that failed is tried again. */
const retryFirstMs = 100;
const retryMaxMs = 30_000;
/** Longest such delay while the runtime cannot be reached: it may be back at any moment. */
export const unavailableRetryMs = 1_000;

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
  return Math.min(retryFirstMs * 2 ** Math.min(failures - 1, 16), down ? unavailableRetryMs : retryMaxMs);
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
