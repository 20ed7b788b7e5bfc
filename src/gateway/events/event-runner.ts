import { Backoff } from '../../common/backoff.ts';
import type { Clock } from '../../common/clock.ts';
import { sleep, withDeadline } from '../../common/deadline.ts';
import { hasCode, messageOf, unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { FunctionCall, InvokeResult } from '../agents/function-call.ts';
import { Caller } from '../lambda/caller.ts';
import { LambdaError, type LambdaErrorName } from '../lambda/lambda-error.ts';
import { type EndedEvent, type LastResponse, type PostRecord, recordFor } from './event-destination.ts';
import { decideAfterTry, type EventDecision, isTooOld, type TryResult } from './event-retry.ts';
import {
  type ClaimedEvent,
  type EventSettings,
  type EventStore,
  partitionOf,
  type StoredEvent,
} from './event-store.ts';

/**
 * Milliseconds after which a try is given up and its outcome counts as unknown: more than the longest call, 15 minutes,
 * and the wait for its worker. Agents and endpoints have bounds of their own; this bound is for a component that fails
 * to keep them.
 */
const MAX_TRY_MS = 2 * 60 * 60 * 1000;
/** Waits before a failed store is asked again. */
export const STORE_BACKOFF = { firstMs: 100, maxMs: 5_000 } as const;

interface TryOutcome {
  readonly result: TryResult;
  /** Undefined when no function answered. */
  readonly response?: LastResponse;
  /** For logs: why it came to nothing. */
  readonly detail: string;
}

export interface EventRunnerOptions {
  readonly store: EventStore;
  readonly invoke: (call: FunctionCall, caller: Caller) => Promise<InvokeResult>;
  readonly post: PostRecord;
  /** Whether the reserved concurrency of a function is 0. */
  readonly isSwitchedOff: (functionName: string) => boolean;
  /** Settings of a function; undefined when there is none of this name. */
  readonly settingsOf: (functionName: string) => EventSettings | undefined;
  readonly newRequestId: () => string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onTried?: (result: TryResult['kind']) => void;
  /** Called at the end of each event, with `ok` or the reason for giving it up, and for a record that is not sent. */
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
      event.target.kind === 'Function' ? (settingsOf(event.target.functionName) ?? event.settings) : event.settings;
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
      const delay = decision.kind === 'TryAgain' ? { delayMs: decision.delayMs } : {};
      const partition = partitionOf(event.target);
      const fields = { requestId: event.requestId, partition, result: result.kind, detail, ...delay };
      this.#options.logger.info(fields, 'event did not succeed');
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
        return { result: { kind: 'OutcomeUnknown' }, detail: error.message };
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
    const { event } = claimed;
    switch (decision.kind) {
      case 'Finish':
        await this.#end(
          claimed,
          { event, condition: 'Success', progress: decision.progress, response },
          settings,
          signal,
        );
        onEnded?.('ok');
        return;
      case 'TryAgain':
        await this.#insist(() => store.postpone(claimed, decision.progress, decision.delayMs), signal);
        return;
      case 'GiveUp': {
        const { condition, progress } = decision;
        await this.#end(claimed, { event, condition, progress, response }, settings, signal);
        onEnded?.(condition);
        return;
      }
      default:
        unreachable(decision);
    }
  }

  /** Takes an event out of the store, and puts its record in its place where its function has a destination. */
  async #end(claimed: ClaimedEvent, ended: EndedEvent, settings: EventSettings, signal: AbortSignal): Promise<void> {
    const { store, clock, logger, onEnded, settingsOf, newRequestId } = this.#options;
    const { event, condition, progress } = ended;
    const freeBytes = store.limits.maxBytes - store.load().bytes;
    const next = recordFor(ended, settings, settingsOf, newRequestId(), clock.now(), freeBytes);
    const fields = { requestId: event.requestId, partition: partitionOf(event.target), condition, ...progress };
    switch (next.kind) {
      case 'Send': {
        await this.#insist(() => store.exchange(claimed, next.event), signal);
        const level = condition === 'Success' ? 'debug' : 'warn';
        logger[level](
          { ...fields, destination: partitionOf(next.event.target), recordId: next.event.requestId },
          'event has ended and its record goes to its destination',
        );
        return;
      }
      case 'None':
        await this.#insist(() => store.finish(event.requestId), signal);
        return;
      case 'Drop':
        await this.#insist(() => store.finish(event.requestId), signal);
        logger.error({ ...fields, reason: next.reason }, 'event has ended without a record');
        if (next.reason === 'TooManyHops') {
          onEnded?.(next.reason);
        }
        return;
      default:
        unreachable(next);
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
}

/**
 * Tries an event once.
 *
 * @throws {Error} when the signal has fired: then nothing is known
 */
async function tryEvent(
  event: StoredEvent,
  tools: Pick<EventRunnerOptions, 'invoke' | 'post' | 'isSwitchedOff' | 'settingsOf'>,
  caller: Caller,
  signal: AbortSignal,
): Promise<TryOutcome> {
  const { target } = event;
  switch (target.kind) {
    case 'Endpoint': {
      const posted = await tools.post(target.url, event, signal);
      return posted.kind === 'Taken'
        ? { result: { kind: 'Succeeded' }, detail: '' }
        : { result: { kind: 'Refused' }, detail: posted.message };
    }
    case 'Function': {
      if (tools.isSwitchedOff(target.functionName)) {
        return { result: { kind: 'SwitchedOff' }, detail: 'the reserved concurrency is 0' };
      }
      const { functionName: name, qualifier } = target;
      const call: FunctionCall = {
        reference: qualifier === undefined ? { name } : { name, qualifier },
        requestId: event.requestId,
        payload: event.payload,
        clientContext: '',
        tailLog: false,
        ...(event.progress.failures > 0 ? { isRepeated: true } : {}),
        traceId: event.traceId,
        traceParent: event.traceParent,
      };
      try {
        return outcomeOf(await tools.invoke(call, caller));
      } catch (error) {
        signal.throwIfAborted();
        return { result: refusal(error, tools.settingsOf(name) === undefined), detail: messageOf(error) };
      }
    }
    default:
      return unreachable(target);
  }
}

function outcomeOf(answer: InvokeResult): TryOutcome {
  if (answer.outcome === 'unknown') {
    return { result: { kind: 'OutcomeUnknown' }, response: answer, detail: answer.body.toString('utf8') };
  }
  return answer.functionError
    ? { result: { kind: 'FunctionFailed' }, response: answer, detail: '' }
    : { result: { kind: 'Succeeded' }, response: answer, detail: '' };
}

/** Refusals of the event itself, which are the same at every try. */
const HOPELESS: ReadonlySet<LambdaErrorName> = new Set<LambdaErrorName>([
  'InvalidParameterValueException',
  'InvalidRequestContentException',
  'RequestTooLargeException',
]);

/**
 * The result that a refusal stands for. An error that is none of the Lambda API is a fault of ours, and may pass.
 *
 * @param isGone whether the function has neither a LambdaFunction nor a worker. One that is there may get back the
 *   version or alias that it lacks
 */
function refusal(error: unknown, isGone: boolean): TryResult {
  if (!(error instanceof LambdaError)) {
    return { kind: 'Refused' };
  }
  if (error.errorName === 'ResourceNotFoundException') {
    return { kind: isGone ? 'Missing' : 'Refused' };
  }
  return { kind: HOPELESS.has(error.errorName) ? 'Impossible' : 'Refused' };
}
