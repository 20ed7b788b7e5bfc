import { messageOf, unreachable } from '../../common/errors.ts';
import type { FunctionCall, InvokeResult } from '../agents/function-call.ts';
import type { Caller } from '../lambda/caller.ts';
import { LambdaError, type LambdaErrorName } from '../lambda/lambda-error.ts';
import type { LastResponse, PostRecord } from './event-destination.ts';
import type { TryResult } from './event-retry.ts';
import type { StoredEvent } from './event-store.ts';

/** The means of a try. */
export interface TryTools {
  readonly invoke: (call: FunctionCall, caller: Caller) => Promise<InvokeResult>;
  readonly post: PostRecord;
  /** Whether the reserved concurrency of a function is 0. */
  readonly isSwitchedOff: (functionName: string) => boolean;
}

/** How one try of an event ended. */
export interface TryOutcome {
  readonly result: TryResult;
  /** Undefined when no function answered. */
  readonly response: LastResponse | undefined;
  /** For logs: why it came to nothing. */
  readonly detail: string;
}

/**
 * Tries an event once.
 *
 * @throws {Error} when the signal has fired: then nothing is known
 */
export async function tryEvent(
  event: StoredEvent,
  tools: TryTools,
  caller: Caller,
  signal: AbortSignal,
): Promise<TryOutcome> {
  const { target } = event;
  switch (target.kind) {
    case 'Endpoint': {
      const posted = await tools.post(target.url, event, signal);
      return posted.kind === 'Taken'
        ? { result: { kind: 'Succeeded' }, response: undefined, detail: '' }
        : { result: { kind: 'Refused' }, response: undefined, detail: posted.message };
    }
    case 'Function': {
      if (tools.isSwitchedOff(target.functionName)) {
        return {
          result: { kind: 'SwitchedOff' },
          response: undefined,
          detail: 'the reserved concurrency is 0',
        };
      }
      const { functionName: name, qualifier } = target;
      const call: FunctionCall = {
        reference: qualifier === undefined ? { name } : { name, qualifier },
        requestId: event.requestId,
        payload: event.payload,
        clientContext: '',
        tailLog: false,
        traceId: event.traceId,
        traceParent: event.traceParent,
      };
      try {
        return outcomeOf(await tools.invoke(call, caller));
      } catch (error) {
        signal.throwIfAborted();
        return { result: refusal(error), response: undefined, detail: messageOf(error) };
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
    : { result: { kind: 'Succeeded' }, response: undefined, detail: '' };
}

/** Refusals of the event itself, which are the same at every try. */
const HOPELESS: ReadonlySet<LambdaErrorName> = new Set<LambdaErrorName>([
  'InvalidParameterValueException',
  'InvalidRequestContentException',
  'RequestTooLargeException',
]);

/** The result that a refusal stands for. An error that is none of the Lambda API is a fault of ours, and may pass. */
function refusal(error: unknown): TryResult {
  if (!(error instanceof LambdaError)) {
    return { kind: 'Refused' };
  }
  if (error.errorName === 'ResourceNotFoundException') {
    return { kind: 'Missing' };
  }
  return { kind: HOPELESS.has(error.errorName) ? 'Impossible' : 'Refused' };
}
