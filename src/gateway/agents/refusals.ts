import type { RefusalReason } from '../../protocol/reasons.ts';
import { LambdaError, throttled } from '../lambda/lambda-error.ts';

/** A refusal by one worker: the function has not begun, and any worker may be tried. */
export interface Refusal {
  readonly kind: 'Refused';
  /** `ConnectionLost` where the call never reached the agent. */
  readonly reason: RefusalReason | 'ConnectionLost';
  readonly message: string;
}

/** The consequence of a refusal for the call. */
type RefusalRule =
  /** Another worker is tried, and this one again soon. */
  | { readonly lasts: false }
  /** Another worker is tried. Where all refuse, the caller is told at once. */
  | {
      readonly lasts: true;
      /**
       * Of lasting refusals of several workers the caller is told the one with the lowest rank: the one that passes
       * first.
       */
      readonly rank: number;
      /** Whether a caller is told although another worker's refusal may pass soon. */
      readonly urgent: boolean;
      readonly error: (refusal: Refusal, arn: string) => LambdaError;
    };

const PASSING: RefusalRule = { lasts: false };

const notReady = ({ reason, message }: Refusal, arn: string): LambdaError =>
  new LambdaError('ResourceNotReadyException', `No worker of ${arn} can be started (${reason}): ${message}`);

const RULES: Readonly<Record<Refusal['reason'], RefusalRule>> = {
  NotFound: PASSING,
  Fenced: PASSING,
  Unavailable: PASSING,
  CallerGone: PASSING,
  InvalidArgument: PASSING,
  ConnectionLost: PASSING,
  QueueFull: {
    lasts: true,
    rank: 0,
    urgent: true,
    error: () =>
      throttled(
        'Rate Exceeded. Every worker of the function is busy and its queue is full.',
        'ReservedFunctionConcurrentInvocationLimitExceeded',
      ),
  },
  NodeFull: {
    lasts: true,
    rank: 1,
    urgent: true,
    error: ({ message }) => throttled(`No room to start a worker: ${message}`, 'ConcurrentInvocationLimitExceeded', 5),
  },
  StartFailed: { lasts: true, rank: 2, urgent: false, error: notReady },
  CrashLoopBackOff: { lasts: true, rank: 3, urgent: false, error: notReady },
  PausedByOwner: {
    lasts: true,
    rank: 4,
    urgent: false,
    error: ({ message }, arn) =>
      new LambdaError(
        'ResourceConflictException',
        `The function ${arn} is paused by its owner and its wakePolicy is Never: ${message}`,
      ),
  },
};

/** The refusals of one call since its last wait. */
export class Refusals {
  #lasting: { readonly refusal: Refusal; readonly rule: Extract<RefusalRule, { lasts: true }> } | undefined;
  #passing: Refusal | undefined;
  readonly #workers = new Set<string>();

  /** @param uid of the worker */
  add(uid: string, refusal: Refusal): void {
    this.#workers.add(uid);
    const rule = RULES[refusal.reason];
    if (!rule.lasts) {
      this.#passing = refusal;
    } else if (this.#lasting === undefined || rule.rank < this.#lasting.rule.rank) {
      this.#lasting = { refusal, rule };
    }
  }

  /** Uids of the workers that refused. */
  get workers(): ReadonlySet<string> {
    return this.#workers;
  }

  /** The last refusal that may pass soon. */
  get passing(): Refusal | undefined {
    return this.#passing;
  }

  /** The error to end the call with, where a wait does not help. */
  final(arn: string): LambdaError | undefined {
    const lasting = this.#lasting;
    return lasting !== undefined && (this.#passing === undefined || lasting.rule.urgent)
      ? lasting.rule.error(lasting.refusal, arn)
      : undefined;
  }
}
