import type { InitFault } from '../../protocol/generated/agent.ts';
import type { RefusalReason } from '../../protocol/reasons.ts';
import { LambdaError, throttled } from '../lambda/lambda-error.ts';
import { type FunctionAnswer, functionError } from './emulator-translation.ts';
import type { Route } from './routing.ts';

/** A refusal by one worker: the function has not begun, and any worker may be tried. */
export interface Refusal {
  readonly kind: 'Refused';
  /** `ConnectionLost` where the call never reached the agent. */
  readonly reason: RefusalReason | 'ConnectionLost';
  readonly message: string;
  /** Of a worker whose initialization failed for a reason of its function. */
  readonly fault?: InitFault;
}

/** A call that no worker takes, as far as its end needs it. */
type RefusedCall = { readonly arn: string; readonly requestId: string };

/** The end of such a call: Lambda answers it with the error of a function that cannot be initialized. */
type RefusedEnd = LambdaError | FunctionAnswer;

/** A refusal that lasts: another worker is tried, and where all refuse, the caller is told at once. */
interface LastingRule {
  /** Of lasting refusals of several workers the caller is told the one with the lowest rank: the one that passes first. */
  readonly rank: number;
  /** Whether a caller is told although another worker's refusal may pass soon. */
  readonly urgent: boolean;
  readonly end: (refusal: Refusal, call: RefusedCall) => RefusedEnd;
}

function notReady({ fault, reason, message }: Refusal, { arn, requestId }: RefusedCall): RefusedEnd {
  if (fault === undefined) {
    return new LambdaError('ResourceNotReadyException', `No worker of ${arn} can be started (${reason}): ${message}`);
  }
  return fault.body === ''
    ? functionError(fault.errorType, `RequestId: ${requestId} Error: ${fault.message}`)
    : { body: Buffer.from(fault.body), functionError: true };
}

/** Undefined for a refusal that may pass: another worker is tried, and this one again soon. */
const RULES: Readonly<Record<Refusal['reason'], LastingRule | undefined>> = {
  NotFound: undefined,
  Fenced: undefined,
  Unavailable: undefined,
  CallerGone: undefined,
  InvalidArgument: undefined,
  ConnectionLost: undefined,
  ShareInUse: undefined,
  Busy: undefined,
  QueueFull: {
    rank: 0,
    urgent: true,
    end: () =>
      throttled(
        'Rate Exceeded. Every worker of the function is busy and its queue is full.',
        'ReservedFunctionConcurrentInvocationLimitExceeded',
      ),
  },
  NodeFull: {
    rank: 1,
    urgent: true,
    end: ({ message }) => throttled(`No room to start a worker: ${message}`, 'ConcurrentInvocationLimitExceeded', 5),
  },
  StartFailed: { rank: 2, urgent: false, end: notReady },
  CrashLoopBackOff: { rank: 3, urgent: false, end: notReady },
  PausedByOwner: {
    rank: 4,
    urgent: false,
    end: ({ message }, { arn }) =>
      new LambdaError(
        'ResourceConflictException',
        `The function ${arn} is paused by its owner and its wakePolicy is Never: ${message}`,
      ),
  },
};

/** Refusals of one call by workers of one version, since its last wait. */
export class Refusals {
  #lasting: { readonly refusal: Refusal; readonly rule: LastingRule } | undefined;
  /** The last refusal that may pass soon. */
  passing: Refusal | undefined;
  /** The epochs in which workers refused, by uid. One that has moved since may be asked at once. */
  readonly workers = new Map<string, number>();
  /** Epochs of the workers that have no place at the moment, by uid. */
  readonly busy = new Map<string, number>();
  /** Monotonic milliseconds of the last of them. */
  at = Number.NEGATIVE_INFINITY;

  /**
   * @param now monotonic milliseconds
   * @param atOnce whether the agent was to refuse the call where it would have to wait
   */
  add({ epoch, uid }: Pick<Route, 'epoch' | 'uid'>, refusal: Refusal, now: number, atOnce: boolean): void {
    this.at = now;
    if (refusal.reason === 'Busy' && atOnce) {
      this.busy.set(uid, epoch);
      return;
    }
    this.workers.set(uid, epoch);
    const rule = RULES[refusal.reason];
    if (rule === undefined) {
      this.passing = refusal;
    } else if (this.#lasting === undefined || rule.rank < this.#lasting.rule.rank) {
      this.#lasting = { refusal, rule };
    }
  }

  /** How the call ends, where a wait does not help. */
  final(call: RefusedCall): RefusedEnd | undefined {
    const lasting = this.#lasting;
    return lasting !== undefined && (this.passing === undefined || lasting.rule.urgent)
      ? lasting.rule.end(lasting.refusal, call)
      : undefined;
  }
}
