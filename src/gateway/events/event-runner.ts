import { Backoff } from '../../common/backoff.ts';
import type { Clock, Timer } from '../../common/clock.ts';
import { sleep, withDeadline } from '../../common/deadline.ts';
import { EsbError, hasCode, messageOf, unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { CallFollower, FunctionCall, InvokeResult, SentTry } from '../agents/function-call.ts';
import { Caller } from '../lambda/caller.ts';
import { LambdaError, type LambdaErrorName } from '../lambda/lambda-error.ts';
import { type EndedEvent, type LastResponse, type PostRecord, recordFor } from './event-destination.ts';
import { decideAfterTry, type EventDecision, isTooOld, type TryResult } from './event-retry.ts';
import {
  type ClaimedEvent,
  type EventSettings,
  type EventStore,
  type EventTarget,
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
  /** The answer of a call that an earlier process has sent; undefined where it is not known to have run to its end. */
  readonly ask: (call: FunctionCall, sent: SentTry, caller: Caller) => Promise<InvokeResult | undefined>;
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

  /**
   * Tries an event once and carries out the decision that follows. Of an event whose try an earlier process has sent, the
   * worker is asked first.
   *
   * @param ending fires when no further try may be sent; one that was sent goes on
   * @param signal fires when a try that was sent is left to the next process
   */
  async run(claimed: ClaimedEvent, ending: AbortSignal, signal: AbortSignal): Promise<void> {
    const { event } = claimed;
    const { clock, settingsOf } = this.#options;
    const settings =
      event.target.kind === 'Function' ? (settingsOf(event.target.functionName) ?? event.settings) : event.settings;
    const { sent } = claimed;
    const asked =
      sent === undefined ? undefined : await this.#bounded((caller) => this.#ask(event, sent, caller), signal);
    if (asked === 'Left') {
      return;
    }
    if (asked !== undefined) {
      await this.#conclude(claimed, asked, settings, signal);
      return;
    }
    const leftMs = event.acceptedAt + settings.maximumEventAgeSeconds * 1000 - clock.now();
    if (isTooOld(settings, clock.now() - event.acceptedAt)) {
      const decision = { kind: 'GiveUp', condition: 'EventAgeExceeded', progress: event.progress } as const;
      await this.#carryOut(claimed, decision, settings, undefined, signal);
      return;
    }
    const outcome = await this.#bounded((caller, ended) => this.#try(claimed, leftMs, caller, ending, ended), signal);
    if (outcome === 'Left') {
      return;
    }
    if (ending.aborted && outcome.result.kind === 'Refused') {
      // No worker has had the event: the next process tries it at once.
      await this.#write(claimed, (store) => store.postpone(claimed, event.progress, 0), signal);
      return;
    }
    await this.#conclude(claimed, outcome, settings, signal);
  }

  async #conclude(
    claimed: ClaimedEvent,
    { detail, response, result }: TryOutcome,
    settings: EventSettings,
    signal: AbortSignal,
  ): Promise<void> {
    const { event } = claimed;
    const { clock, onTried } = this.#options;
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

  async #ask(event: StoredEvent, sent: SentTry, caller: Caller): Promise<TryOutcome | undefined> {
    const { target } = event;
    const call = target.kind === 'Function' ? callOf(event, target) : undefined;
    const answer = call === undefined ? undefined : await this.#options.ask(call, sent, caller);
    return answer === undefined ? undefined : outcomeOf(answer);
  }

  /** One try. A try that no worker has is withdrawn once `ending` fires, or the event is too old. */
  async #try(
    claimed: ClaimedEvent,
    leftMs: number,
    caller: Caller,
    ending: AbortSignal,
    ended: AbortSignal,
  ): Promise<TryOutcome> {
    const { clock, store } = this.#options;
    const follower = new TryFollower(caller, (sent) => store.note(claimed, sent));
    const withdraw = (): void => follower.withdraw();
    const timer: Timer = clock.setTimer(withdraw, leftMs);
    ending.addEventListener('abort', withdraw, { once: true });
    if (ending.aborted) {
      withdraw();
    }
    try {
      return await tryEvent(claimed.event, this.#options, caller, follower, ended);
    } finally {
      timer.cancel();
      ending.removeEventListener('abort', withdraw);
    }
  }

  /** Bounds the time of a try; `Left` when the signal fired before its end. */
  async #bounded<T>(
    work: (caller: Caller, ended: AbortSignal) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T | TryOutcome | 'Left'> {
    const caller = new Caller();
    try {
      return await withDeadline('an event', MAX_TRY_MS, signal, (ended) => work(caller, ended));
    } catch (error) {
      caller.hangUp();
      if (signal.aborted) {
        return 'Left';
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
    const { onEnded } = this.#options;
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
        await this.#write(claimed, (store) => store.postpone(claimed, decision.progress, decision.delayMs), signal);
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
        await this.#write(claimed, (each) => each.exchange(claimed, next.event), signal);
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

  /** Writes the end of a try, which counts for nothing where another process has the event by now. */
  async #write(
    { event }: ClaimedEvent,
    step: (store: EventStore) => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<void> {
    const { logger, onEnded, store } = this.#options;
    if (!(await this.#insist(() => step(store), signal))) {
      logger.warn(
        { requestId: event.requestId },
        'the claim of an event had lapsed, and the end of its try counts for nothing',
      );
      onEnded?.('ClaimLost');
    }
  }

  /**
   * Repeats a write until it succeeds: a store that was away must not cause another try of an event that has ended.
   *
   * @throws {Error} any but those of the store: a fault of ours does not pass
   */
  async #insist<T>(step: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const { clock, logger } = this.#options;
    const backoff = new Backoff(STORE_BACKOFF);
    for (;;) {
      try {
        return await step();
      } catch (error) {
        if (!(error instanceof EsbError && error.code.startsWith('EventStore'))) {
          throw error;
        }
        const retryMs = backoff.next();
        logger.warn({ err: error, retryMs }, 'end of an event could not be written');
        await sleep(clock, retryMs, signal);
      }
    }
  }
}

/** A try as its gateway sends it. Can be withdrawn while no worker has it. */
class TryFollower implements CallFollower {
  readonly #caller: Caller;
  readonly #note: (sent: SentTry) => Promise<void>;
  #isSent = false;
  #isWithdrawn = false;

  /** @param note makes durable to which worker the call goes */
  constructor(caller: Caller, note: (sent: SentTry) => Promise<void>) {
    this.#caller = caller;
    this.#note = note;
  }

  withdraw(): void {
    this.#isWithdrawn = true;
    if (!this.#isSent) {
      this.#caller.hangUp();
    }
  }

  async sending(sent: SentTry): Promise<void> {
    this.#isSent = true;
    await this.#note(sent);
  }

  refused(): void {
    this.#isSent = false;
    if (this.#isWithdrawn) {
      this.#caller.hangUp();
    }
  }
}

function callOf(
  event: StoredEvent,
  { functionName: name, qualifier }: Extract<EventTarget, { readonly kind: 'Function' }>,
): FunctionCall {
  return {
    reference: qualifier === undefined ? { name } : { name, qualifier },
    requestId: event.requestId,
    payload: event.payload,
    clientContext: '',
    tailLog: false,
    ...(event.progress.failures > 0 ? { isRepeated: true } : {}),
    traceId: event.traceId,
    traceParent: event.traceParent,
  };
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
  follower: CallFollower,
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
      try {
        return outcomeOf(await tools.invoke({ ...callOf(event, target), follower }, caller));
      } catch (error) {
        signal.throwIfAborted();
        return {
          result: refusal(error, tools.settingsOf(target.functionName) === undefined),
          detail: messageOf(error),
        };
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
