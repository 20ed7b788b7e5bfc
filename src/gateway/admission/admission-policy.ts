import { perWorkerOf } from '../../api/lambda-worker.ts';
import { unreachable } from '../../common/errors.ts';
import type { FunctionEntry } from '../agents/fleet-view.ts';
import { type LambdaError, type ThrottleReason, throttled } from '../lambda/lambda-error.ts';
import type { Load } from './room.ts';

/**
 * Calls of one function that wait in a gateway, unless its workers say otherwise: the default of the resource
 * definition.
 */
const DEFAULT_QUEUE_DEPTH = 100;
/**
 * Calls sent ahead to the only worker of a function, to wait at its agent: the worker then takes the next one without a
 * round trip to the gateway. To several workers calls are sent ahead only while those of other gateways are there, one
 * for each worker: a place then goes to the call that has waited longest, at whichever gateway. Such a call is taken
 * back as soon as another worker is free.
 */
const SENT_AHEAD = 64;
/**
 * Bytes of answers to calls sent ahead. The answers arrive even if their clients do not read and the gateway is full:
 * of a function with large answers few calls are sent ahead, and the others can still be refused.
 */
const ANSWERS_AHEAD_BYTES = 4 * 2 ** 20;
/** Events that wait at least, by which a function of few workers grows. */
const EVENTS_AHEAD = 8;
/** Assumed bytes of an answer before the first answer: a worker that a burst wakes gets few calls of it at once. */
export const UNKNOWN_ANSWER_BYTES = 2 ** 20;

export interface ConcurrencySettings {
  /** Calls that run at once; absent for as many as the workers take. */
  readonly reserved?: number | undefined;
  /** Calls that wait; further ones are refused. */
  readonly queueDepth?: number | undefined;
}

/** A version of a function, and its calls in one gateway. */
export interface FunctionUse {
  readonly settings: ConcurrencySettings | undefined;
  /** Workers of all versions. */
  readonly workers: number;
  /** Calls that the workers of the version take at once. */
  readonly places: number;
  /** The sum of their shares of the reserved concurrency; undefined where they have none. */
  readonly shares: number | undefined;
  /** Workers that have a share. */
  readonly sharers: number;
  /** Whether the function gets more workers where calls wait for one. */
  readonly mayGrow: boolean;
  /** Places of the workers of the version that calls of other gateways have. */
  readonly foreignPlaces: number;
  /** Whether calls of other gateways are with these workers, or wait there. */
  readonly isShared: boolean;
  /** Calls that are with these workers and their agents. */
  readonly running: number;
  /** Others of the function that run, and so take of what is reserved. */
  readonly elsewhere: number;
  /** Calls that have not had a place of the version yet. */
  readonly ahead: number;
  /** Calls of all versions that have not had a place yet, which count against the queue. */
  readonly waiting: number;
  /** Bytes of an answer: see {@link largestOfLate}. */
  readonly answerBytes: number;
}

/** The decision about a call: admit, wait, or refuse for a reason that the caller is given. */
export type Entry = 'Enter' | 'Wait' | ThrottleReason;

/**
 * Calls of a version that may be with its workers and their agents. More than the workers take at once would only move
 * the queue elsewhere, and take the places of other versions.
 */
export function runningPlaces(use: FunctionUse): number {
  const all = use.places;
  const places = concurrencyOf(use, all);
  const foreign = isLine(use) ? 0 : use.foreignPlaces;
  // Each gateway has what is reserved for itself where there are no shares of it.
  const left = use.shares === undefined ? Math.min(places, all - foreign) : places - foreign;
  return Math.max(Math.min(1, places), left) + sentAhead(use, places === all);
}

/** Calls of a function that may wait in the gateway. With the running ones: at most concurrency plus queue depth. */
export function waitingPlaces(use: FunctionUse): number {
  return (
    (use.settings?.queueDepth ?? DEFAULT_QUEUE_DEPTH) - sentAhead(use, concurrencyOf(use, use.places) === use.places)
  );
}

/**
 * Events of a function that are tried at once: as many as its workers take. Of one that may grow, some wait beside them,
 * since it grows by calls that wait.
 *
 * @param maxWorkers that it may have; undefined where it has those alone
 */
export function eventsAtOnce(
  { places, settings, speaker }: Pick<FunctionEntry, 'places' | 'settings' | 'speaker'>,
  maxWorkers: number | undefined,
): number {
  const most = maxWorkers === undefined ? places : maxWorkers * perWorkerOf(speaker.resource);
  const reserved = settings.concurrency?.reserved ?? Number.POSITIVE_INFINITY;
  return Math.min(reserved, Math.max(places, Math.min(most, 2 * places + EVENTS_AHEAD)));
}

/** @param places of its workers */
function concurrencyOf(
  { elsewhere, settings, shares = Number.POSITIVE_INFINITY }: FunctionUse,
  places: number,
): number {
  const { reserved } = settings ?? {};
  return reserved === undefined ? places : Math.max(0, Math.min(reserved - elsewhere, shares, places));
}

/** Whether all calls go to one worker, and stay with it. */
function isLine({ mayGrow, workers }: FunctionUse): boolean {
  return workers === 1 && !mayGrow;
}

/**
 * Calls that are sent ahead; none where they could take more of what is reserved than they may.
 *
 * @param isWhole whether as many may run as the workers take
 */
function sentAhead(use: FunctionUse, isWhole: boolean): number {
  const { answerBytes, isShared, settings, sharers, shares } = use;
  const turns = isShared && (isWhole || shares !== undefined) ? sharers : 0;
  const most = isLine(use) && isWhole ? SENT_AHEAD : Math.min(SENT_AHEAD, turns);
  const byAnswers = Math.max(Math.min(1, turns), Math.floor(ANSWERS_AHEAD_BYTES / Math.max(1, answerBytes)));
  return Math.min(most, settings?.queueDepth ?? DEFAULT_QUEUE_DEPTH, byAnswers);
}

/**
 * The largest recent answer of a function, after one more: a large answer counts at once and is forgotten after some
 * twenty small ones.
 *
 * @param known the value before, {@link UNKNOWN_ANSWER_BYTES} at first
 */
export function largestOfLate(known: number, bytes: number): number {
  return Math.max(bytes, known - known / 8);
}

/**
 * Decides about a call. The reasons are AWS's:
 *
 * - `ReservedFunctionConcurrentInvocationLimitExceeded`: the function's own concurrency is in use and its queue is
 *   full, or the function is switched off.
 * - `FunctionInvocationRateLimitExceeded`: calls of this function arrive so much faster than they are served that they
 *   fill its share of the gateway.
 *
 * No function may hold more of the room than is still free. One alone then has at most half, and each further one
 * still finds room: N greedy functions have 1/(N+1) each, and as much stays free (the dynamic thresholds of Choudhury
 * and Hahne, 1998).
 *
 * @param held by the calls of the function in the room of the call: those that run or wait, with their payloads, and
 * those whose answers have not gone out, with these
 * @param free for calls of all functions in that room, without this call
 */
export function decideEntry(use: FunctionUse, held: Load, free: Load): Entry {
  const { settings } = use;
  if (settings?.reserved === 0) {
    return 'ReservedFunctionConcurrentInvocationLimitExceeded';
  }
  if (held.requests > Math.max(0, free.requests) || held.bytes > Math.max(0, free.bytes)) {
    return 'FunctionInvocationRateLimitExceeded';
  }
  const places = runningPlaces(use);
  if (use.ahead === 0 && use.running < places) {
    return 'Enter';
  }
  // Workers leave and answers grow while calls are out: the calls above the places count as waiting.
  const tooMany = Math.max(0, use.running - places);
  return use.waiting + tooMany < waitingPlaces(use) ? 'Wait' : 'ReservedFunctionConcurrentInvocationLimitExceeded';
}

/** A refusal, with a message that begins as AWS's does. */
export function refusalFor(reason: ThrottleReason, functionName: string, retryAfterSeconds?: number): LambdaError {
  return throttled(refusalText(reason, functionName), reason, retryAfterSeconds);
}

function refusalText(reason: ThrottleReason, functionName: string): string {
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

/** The refusal of a request when the whole gateway has no room. */
export function overloaded(): LambdaError {
  return refusalFor('ConcurrentInvocationLimitExceeded', '');
}

/** The refusal of a call that finds no place in time, or whose function is switched off. */
export function functionBusy(functionName: string): LambdaError {
  return refusalFor('ReservedFunctionConcurrentInvocationLimitExceeded', functionName);
}
