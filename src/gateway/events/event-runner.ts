import { Backoff } from '../../common/backoff.ts';
import type { Clock } from '../../common/clock.ts';
import { sleep, withDeadline } from '../../common/deadline.ts';
import { hasCode, unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { Caller } from '../lambda/caller.ts';
import { deadLetterFor, type FailedEvent, type LastResponse } from './event-destination.ts';
import { decideAfterTry, type EventDecision, isTooOld, type TryResult } from './event-retry.ts';
import {
  type ClaimedEvent,
  type EventSettings,
  type EventStore,
  partitionOf,
  type StoredEvent,
} from './event-store.ts';
import { type TryOutcome, type TryTools, tryEvent } from './event-try.ts';

/**
 * Milliseconds after which a try is given up and its outcome counts as unknown: more than the longest call,
 * 15 minutes, and the wait for its worker. Agents and endpoints have bounds of their own; this bound is for a
 * component that fails to keep them.
 */
const MAX_TRY_MS = 2 * 60 * 60 * 1000;
/** Waits before a failed store is asked again. */
export const STORE_BACKOFF = { firstMs: 100, maxMs: 5_000 } as const;

export interface EventRunnerOptions extends TryTools {
  readonly store: EventStore;
  /** Settings of a function; undefined when there is none of this name. */
  readonly settingsOf: (functionName: string) => EventSettings | undefined;
  /** A new request id. */
  readonly newRequestId: () => string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called after each try. */
  readonly onTried?: (result: TryResult['kind']) => void;
  /** Called at the end of each event, with `ok` or the reason for giving it up. */
  readonly onEnded?: (result: string) => void;
}

/** Tries claimed events, and records the outcome of each. */
export class EventRunner {
  readonly #options: EventRunnerOptions;

  constructor(options: EventRunnerOptions) {
    this.#options = options;
  }

  /** Tries an event once and carries out the decision that follows. */
  async run(claimed: ClaimedEvent, signal: AbortSignal): Promise<void> {
    const { event } = claimed;
    const { store, clock, settingsOf, onTried } = this.#options;
    const settings =
      event.target.kind === 'Function'
        ? (settingsOf(event.target.functionName) ?? event.settings)
        : event.settings;
    if (isTooOld(settings, clock.now() - event.acceptedAt)) {
      const decision = { kind: 'GiveUp', condition: 'EventAgeExceeded', progress: event.progress } as const;
      await this.#carryOut(claimed, decision, settings, undefined, signal);
      return;
    }
    const outcome = await this.#try(event, signal);
    if (outcome === undefined) {
      // The gateway is ending and the try has no known outcome: the next gateway tries again at once.
      await store.postpone(claimed, event.progress, 0);
      return;
    }
    const { result, response, detail } = outcome;
    onTried?.(result.kind);
    const decision = decideAfterTry(result, event.progress, settings, clock.now() - event.acceptedAt);
    if (decision.kind !== 'Finish') {
      this.#logTry(event, result, decision, detail);
    }
    await this.#carryOut(claimed, decision, settings, response, signal);
  }

  /** One try; undefined when the signal fired before its end. */
  async #try(event: StoredEvent, signal: AbortSignal): Promise<TryOutcome | undefined> {
    const caller = new Caller();
    try {
      return await withDeadline('an event', MAX_TRY_MS, signal, (ended) =>
        tryEvent(event, this.#options, caller, ended),
      );
    } catch (error) {
      caller.hangUp();
      if (signal.aborted) {
        return undefined;
      }
      if (hasCode(error, 'DeadlineExceeded')) {
        return { result: { kind: 'OutcomeUnknown' }, response: undefined, detail: error.message };
      }
      throw error;
    }
  }

  async #carryOut(
    claimed: ClaimedEvent,
    decision: EventDecision,
    settings: EventSettings,
    response: LastResponse | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { store, onEnded } = this.#options;
    switch (decision.kind) {
      case 'Finish':
        await this.#insist(() => store.finish(claimed.event.requestId), signal);
        onEnded?.('ok');
        return;
      case 'TryAgain':
        await this.#insist(() => store.postpone(claimed, decision.progress, decision.delayMs), signal);
        return;
      case 'GiveUp': {
        const { condition, progress } = decision;
        await this.#giveUp(
          claimed,
          { event: claimed.event, condition, progress, response },
          settings,
          signal,
        );
        onEnded?.(condition);
        return;
      }
      default:
        unreachable(decision);
    }
  }

  async #giveUp(
    claimed: ClaimedEvent,
    failed: FailedEvent,
    settings: EventSettings,
    signal: AbortSignal,
  ): Promise<void> {
    const { store, clock, logger, settingsOf, newRequestId } = this.#options;
    const { event, condition, progress } = failed;
    const freeBytes = store.limits.maxBytes - store.load().bytes;
    const deadLetter = deadLetterFor(failed, settings, settingsOf, newRequestId(), clock.now(), freeBytes);
    const fields = {
      requestId: event.requestId,
      partition: partitionOf(event.target),
      condition,
      ...progress,
    };
    switch (deadLetter.kind) {
      case 'Send':
        await this.#insist(() => store.exchange(claimed, deadLetter.event), signal);
        logger.warn(
          {
            ...fields,
            destination: partitionOf(deadLetter.event.target),
            recordId: deadLetter.event.requestId,
          },
          'event was given up and goes to its destination',
        );
        return;
      case 'Drop':
        await this.#insist(() => store.finish(claimed.event.requestId), signal);
        logger.error({ ...fields, reason: deadLetter.reason }, 'event was given up without a record');
        return;
      default:
        unreachable(deadLetter);
    }
  }

  /** Repeats a write until it succeeds: a store that was away must not cause another try of an event that has ended. */
  async #insist(step: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    const backoff = new Backoff(STORE_BACKOFF);
    for (;;) {
      try {
        await step();
        return;
      } catch (error) {
        const retryMs = backoff.next();
        logger.warn({ err: error, retryMs }, 'end of an event could not be written');
        await sleep(clock, retryMs, signal);
      }
    }
  }

  #logTry(event: StoredEvent, result: TryResult, decision: EventDecision, detail: string): void {
    this.#options.logger.info(
      {
        requestId: event.requestId,
        partition: partitionOf(event.target),
        result: result.kind,
        detail,
        ...(decision.kind === 'TryAgain' ? { delayMs: decision.delayMs } : {}),
      },
      'event did not succeed',
    );
  }
}
