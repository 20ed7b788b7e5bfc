import { backoffDelay } from '../../common/backoff.ts';
import { unreachable } from '../../common/errors.ts';
import type { EventProgress, EventSettings } from './event-store.ts';

/** Milliseconds before a try after a function error, for the first and for the second, as in Lambda. */
const FAILURE_DELAYS_MS = [60_000, 120_000] as const;
/** Waits before a try that follows any setback, as in Lambda. */
const SETBACK_BACKOFF = { firstMs: 1_000, maxMs: 300_000 } as const;
/**
 * Tries in a row without such a function, about a minute, after which the function counts as gone. A function that is
 * deleted and applied again is away for less.
 */
const MAX_MISSES = 7;

export type TryResult =
  | { readonly kind: 'Succeeded' }
  /** The function, or its runtime, raised an error or ran out of time. */
  | { readonly kind: 'FunctionFailed' }
  /** The call was sent, and its outcome is unknown. */
  | { readonly kind: 'OutcomeUnknown' }
  /** The call ran nowhere, for a reason that may pass. */
  | { readonly kind: 'Refused' }
  | { readonly kind: 'Missing' }
  /** The function is switched off by a reserved concurrency of 0: Lambda does not try again either. */
  | { readonly kind: 'SwitchedOff' }
  /** The call can never run: its payload or its target is refused. */
  | { readonly kind: 'Impossible' };

/** Why an event was given up, in the words of Lambda's destination records. */
export type GiveUpCondition = 'RetriesExhausted' | 'EventAgeExceeded';

/** How an event ended, in the words of Lambda's destination records. */
export type EndCondition = 'Success' | GiveUpCondition;

export type EventDecision =
  | { readonly kind: 'Finish'; readonly progress: EventProgress }
  | { readonly kind: 'TryAgain'; readonly delayMs: number; readonly progress: EventProgress }
  | { readonly kind: 'GiveUp'; readonly condition: GiveUpCondition; readonly progress: EventProgress };

/**
 * Decides about an event after a try, as Lambda does: a function error is tried twice more, after 1 and 2 minutes;
 * throttles and system errors are tried from 1 second to 5 minutes apart until the event is too old.
 *
 * An unknown outcome counts as a system error. Only a known end of the function, good or bad, ends an event or uses up
 * one of its retries: the function runs at least once, and possibly twice after the loss of an agent.
 *
 * @param ageMs milliseconds since its acceptance
 */
export function decideAfterTry(
  result: TryResult,
  before: EventProgress,
  settings: EventSettings,
  ageMs: number,
): EventDecision {
  switch (result.kind) {
    case 'Succeeded':
      return { kind: 'Finish', progress: { ...before, invocations: before.invocations + 1 } };
    case 'FunctionFailed': {
      const progress: EventProgress = {
        failures: before.failures + 1,
        invocations: before.invocations + 1,
        setbacks: 0,
        misses: 0,
      };
      if (progress.failures > settings.maximumRetryAttempts) {
        return { kind: 'GiveUp', condition: 'RetriesExhausted', progress };
      }
      const delayMs = FAILURE_DELAYS_MS[progress.failures - 1] ?? FAILURE_DELAYS_MS[1];
      return unlessTooOld(delayMs, progress, settings, ageMs);
    }
    case 'OutcomeUnknown':
      return afterSetback({ ...before, invocations: before.invocations + 1, misses: 0 }, settings, ageMs);
    case 'Refused':
      return afterSetback({ ...before, misses: 0 }, settings, ageMs);
    case 'Missing': {
      const progress = { ...before, misses: before.misses + 1 };
      return progress.misses >= MAX_MISSES
        ? { kind: 'GiveUp', condition: 'RetriesExhausted', progress }
        : afterSetback(progress, settings, ageMs);
    }
    case 'SwitchedOff':
    case 'Impossible':
      return { kind: 'GiveUp', condition: 'RetriesExhausted', progress: before };
    default:
      return unreachable(result);
  }
}

/** Whether an event is too old to be tried at all. */
export function isTooOld(settings: EventSettings, ageMs: number): boolean {
  return ageMs >= settings.maximumEventAgeSeconds * 1000;
}

function afterSetback(progress: EventProgress, settings: EventSettings, ageMs: number): EventDecision {
  const setbacks = progress.setbacks + 1;
  return unlessTooOld(backoffDelay(setbacks, SETBACK_BACKOFF), { ...progress, setbacks }, settings, ageMs);
}

/** A try that would come too late is not waited for: the record is sent sooner. */
function unlessTooOld(delayMs: number, progress: EventProgress, settings: EventSettings, ageMs: number): EventDecision {
  return isTooOld(settings, ageMs + delayMs)
    ? { kind: 'GiveUp', condition: 'EventAgeExceeded', progress }
    : { kind: 'TryAgain', delayMs, progress };
}
