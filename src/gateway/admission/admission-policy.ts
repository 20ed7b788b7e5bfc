import { unreachable } from '../../common/errors.ts';
import type { ThrottleReason } from '../lambda/lambda-error.ts';

/** Calls that wait in a gateway for each function, where its workers do not say. What the resource definition has as its default. */
const DEFAULT_QUEUE_DEPTH = 100;
/**
 * Calls sent ahead to the only worker of a function, to wait at its agent: it then takes the next one without a round trip to the
 * gateway. With several workers nothing is sent ahead, because a call would wait behind a long one while another worker is free.
 */
const SENT_AHEAD = 64;
/**
 * Bytes of answers to calls sent ahead. They come whether or not their clients read them, and whatever else the gateway has on its hands:
 * of a function with large answers few calls are sent ahead, and the others can still be refused.
 */
const ANSWERS_AHEAD_BYTES = 4 * 2 ** 20;
/** What the answers of a function are taken to have before the first has come: a worker that is woken by a burst has few of it at once. */
export const UNKNOWN_ANSWER_BYTES = 2 ** 20;

/** What the resources of a function say of its concurrency. */
export interface ConcurrencySettings {
  /** Calls that run at once; absent for as many as there are workers. */
  readonly reserved?: number | undefined;
  /** Calls that wait; further ones are refused. */
  readonly queueDepth?: number | undefined;
}

/** A function, and what one gateway has of its calls. */
export interface FunctionUse {
  readonly settings: ConcurrencySettings | undefined;
  /** Workers of the function. */
  readonly workers: number;
  /** Calls that are with the workers and their agents. */
  readonly running: number;
  /** Calls that wait for that and count against the queue. */
  readonly waiting: number;
  /** All calls, whether they run or wait, and the bytes of their payloads. */
  readonly heldCalls: number;
  readonly heldBytes: number;
  /** Bytes of an answer: see {@link largestOfLate}. */
  readonly answerBytes: number;
}

/** What of a function decides about its places. */
export type LaneUse = Pick<FunctionUse, 'settings' | 'workers' | 'answerBytes'>;

/** What is done with a call: let in, made to wait, or refused for a reason that callers are told. */
export type Entry = 'Enter' | 'Wait' | ThrottleReason;

/**
 * Calls of a function that may be with its workers and their agents. Each worker runs one call at a time, so that more would only move the
 * queue elsewhere.
 */
export function runningPlaces({ settings, workers, answerBytes }: LaneUse): number {
  const concurrency = Math.min(settings?.reserved ?? workers, workers);
  return workers === 1 && concurrency === 1 ? 1 + sentAhead(settings, answerBytes) : concurrency;
}

/** Calls of a function that may wait in the gateway. With the running ones they are never more than concurrency and queue depth. */
export function waitingPlaces({ settings, workers, answerBytes }: LaneUse): number {
  const queueDepth = settings?.queueDepth ?? DEFAULT_QUEUE_DEPTH;
  return workers === 1 && settings?.reserved !== 0
    ? queueDepth - sentAhead(settings, answerBytes)
    : queueDepth;
}

function sentAhead(settings: ConcurrencySettings | undefined, answerBytes: number): number {
  return Math.min(
    SENT_AHEAD,
    settings?.queueDepth ?? DEFAULT_QUEUE_DEPTH,
    Math.floor(ANSWERS_AHEAD_BYTES / Math.max(1, answerBytes)),
  );
}

/**
 * The largest of the answers that a function gave lately, after one more: a large one counts at once and is forgotten in some twenty small ones.
 *
 * @param known what it was before, {@link UNKNOWN_ANSWER_BYTES} at first
 */
export function largestOfLate(known: number, bytes: number): number {
  return Math.max(bytes, known - known / 8);
}

/**
 * Decides about a call. The reasons are AWS's:
 *
 * - `ReservedFunctionConcurrentInvocationLimitExceeded`: the function's own concurrency is in use and its queue is full, or it is switched off.
 * - `FunctionInvocationRateLimitExceeded`: calls of this function come so much faster than they are served that they fill its share of the gateway.
 *
 * No function may hold more of the gateway than is still free. One alone then has at most half, and each further one still finds room: of
 * N that are all greedy each has 1/(N+1), and as much stays free (the dynamic thresholds of Choudhury and Hahne, 1998).
 *
 * @param freeCalls what is left of the gateway's room for all functions, this call taken off
 * @param freeBytes likewise
 */
export function decideEntry(use: FunctionUse, freeCalls: number, freeBytes: number): Entry {
  const { settings } = use;
  if (settings?.reserved === 0) {
    return 'ReservedFunctionConcurrentInvocationLimitExceeded';
  }
  if (use.heldCalls > Math.max(0, freeCalls) || use.heldBytes > Math.max(0, freeBytes)) {
    return 'FunctionInvocationRateLimitExceeded';
  }
  if (use.waiting === 0 && use.running < runningPlaces(use)) {
    return 'Enter';
  }
  // Workers go, and answers grow, while calls are out: those count as if they waited.
  const tooMany = Math.max(0, use.running - runningPlaces(use));
  return use.waiting + tooMany < waitingPlaces(use)
    ? 'Wait'
    : 'ReservedFunctionConcurrentInvocationLimitExceeded';
}

/** What callers are told of a refusal. It begins as AWS's message does. */
export function refusalText(reason: ThrottleReason, functionName: string): string {
  switch (reason) {
    case 'ReservedFunctionConcurrentInvocationLimitExceeded':
      return `Rate Exceeded. The function ${functionName} runs as many calls as it may, and its queue is full.`;
    case 'FunctionInvocationRateLimitExceeded':
      return `Rate Exceeded. Calls of the function ${functionName} fill its share of the gateway.`;
    case 'CallerRateLimitExceeded':
      return 'Rate Exceeded. The caller makes more requests than it may.';
    case 'ConcurrentInvocationLimitExceeded':
      return 'Rate Exceeded. The gateway has as much under way as it can hold.';
    default:
      return unreachable(reason);
  }
}
