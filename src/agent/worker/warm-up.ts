import { AbortedError } from '../../common/deadline.ts';
import { errorMembersIn, runtimeErrorIn, timedOutAfter } from '../../common/emulator-answer.ts';
import { EsbError, unreachable } from '../../common/errors.ts';
import type { DesiredWorker } from '../model/desired-worker.ts';
import type { FunctionEnd } from '../model/invocation.ts';
import type { Container } from '../step/container.ts';
import type { ActionFailure, CallOutcome } from '../step/events.ts';
import { MAX_ATTEMPTS } from '../step/reduce-calls.ts';
import type { Dispatcher } from './dispatcher.ts';

/** A container that is to be called once before it is ready. */
export interface WarmUpOrder {
  readonly container: Container;
  readonly desired: DesiredWorker;
  /** Whether calls go to the container. */
  readonly serves: boolean;
}

/**
 * Makes one call that no caller waits for, so that the runtime and the function are loaded.
 *
 * @throws {WarmUpError} when it did not succeed
 * @throws {AbortedError} when it was lost after `signal` had fired
 */
export async function warmUp(
  dispatcher: Dispatcher,
  { container, desired, serves }: WarmUpOrder,
  signal: AbortSignal,
): Promise<CallOutcome> {
  const answer = new WarmUpAnswer();
  let status = 0;
  const { activity } = container;
  const outcome = await dispatcher.call({
    container,
    functionName: desired.identity.functionName,
    version: desired.version,
    invocation: {
      payload: Buffer.from(desired.warmUpPayload ?? '{}'),
      requestId: (activity.kind === 'Acting' ? activity.call?.requestId : undefined) ?? 'warm-up',
      clientContext: '',
      tailLog: false,
      onHead: (head) => {
        status = head.status;
      },
      onChunk: (chunk) => answer.take(chunk),
    },
    // The next run of the agent makes a container that serves no call yet again anyway.
    marked: serves,
    attempt: MAX_ATTEMPTS,
  });
  if (outcome.kind === 'Unknown' && signal.aborted) {
    throw new AbortedError('the warm-up call');
  }
  const failure =
    outcome.kind !== 'Answered'
      ? undefined
      : outcome.end === undefined
        ? answer.failure(status, container.make.timeoutSeconds)
        : answer.failureBy(outcome.end);
  if (outcome.kind !== 'Answered' || failure !== undefined) {
    throw WarmUpError.of(outcome, failure);
  }
  return outcome;
}

/** Why a container must not get another call after a warm-up call that ended like that; what went wrong. */
const losses = {
  Unknown: ['its warm-up call was lost', 'the warm-up call was lost'],
  CutOff: [
    'the answer to its warm-up call was larger than a function may give',
    'the warm-up call was answered with more than 6 MB',
  ],
  TimedOut: ['its warm-up call was not answered', 'the warm-up call was not answered in time'],
} as const;

/** Why a warm-up call did not succeed. */
export class WarmUpError extends EsbError {
  readonly warmUp: NonNullable<ActionFailure['warmUp']>;

  constructor(call: CallOutcome, message: string, code: EsbError['code'], unusable?: string) {
    super(message, { code });
    this.warmUp = { call, unusable };
  }

  /** @param failure why the answer is none */
  static of(call: CallOutcome, failure: string | undefined): WarmUpError {
    const code = 'WarmUpFailed';
    switch (call.kind) {
      case 'Answered':
        return new WarmUpError(call, `the warm-up call failed: ${failure}`, code);
      case 'NotSent': {
        const message = `the warm-up call could not be sent: ${call.message}`;
        return new WarmUpError(call, message, call.own ? 'Unavailable' : 'NotListening');
      }
      case 'Unknown':
      case 'CutOff':
      case 'TimedOut': {
        const [unusable, message] = losses[call.kind];
        const detail = call.kind === 'Unknown' ? `: ${call.message}` : '';
        return new WarmUpError(call, `${message}${detail}`, code, unusable);
      }
      default:
        return unreachable(call);
    }
  }
}

/** Bytes of the answer to a warm-up call that are looked at: a failure is shorter. */
const MAX_BYTES = 64 * 1024;

/** The answer to a warm-up call, as far as its failure can be told from it. */
class WarmUpAnswer {
  readonly #chunks: Buffer[] = [];
  #bytes = 0;

  take(chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes <= MAX_BYTES) {
      this.#chunks.push(chunk);
    }
  }

  /** Why the call failed, by the word of an init; undefined when it did not. */
  failureBy({ errorType, lateError, outcome }: FunctionEnd): string | undefined {
    if (outcome === 'Answered') {
      return undefined;
    }
    const body = lateError === undefined ? Buffer.concat(this.#chunks) : Buffer.from(lateError);
    const error = errorMembersIn(body);
    return error === undefined ? (errorType ?? outcome) : `${error.errorType}: ${error.errorMessage}`;
  }

  /**
   * Why the call failed; undefined when it did not.
   *
   * @param status the emulator's: it answers 200 to most failures, and only the body tells
   */
  failure(status: number, timeoutSeconds: number): string | undefined {
    if (this.#bytes > MAX_BYTES) {
      return undefined;
    }
    const body = Buffer.concat(this.#chunks);
    if (timedOutAfter(body) !== undefined) {
      return `it was not answered within spec.timeoutSeconds (${timeoutSeconds}), and loading the function counts against that: raise spec.timeoutSeconds`;
    }
    const failed = status < 200 || status > 299;
    const error = failed ? errorMembersIn(body) : runtimeErrorIn(body);
    if (error !== undefined) {
      return `${error.errorType}: ${error.errorMessage}`;
    }
    return failed || body.length === 0 ? 'the runtime ended without an answer' : undefined;
  }
}
