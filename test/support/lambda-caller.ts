import { setTimeout as delay } from 'node:timers/promises';
import { patience } from './patience.ts';

/** Answer that an SDK takes for a success: the members that the service model gives it. */
export interface Answered {
  readonly kind: 'answered';
  /** `Payload` is text; times are ISO texts; `EventStream` has all events. Everything else is as the SDK has it. */
  readonly output: Readonly<Record<string, unknown>>;
  readonly httpStatus: number;
  readonly requestId: string | undefined;
  /** By their names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
}

/** Error that an SDK raised. */
export interface Refused {
  readonly kind: 'refused';
  /** The class of the error, as people catch it. */
  readonly error: string;
  /** Whether that class is of the service model, so that it can be caught by name. */
  readonly modeled: boolean;
  /** The error's code, where the SDK tells it apart from the class. */
  readonly code: string;
  readonly httpStatus: number | undefined;
  readonly requestId: string | undefined;
  readonly message: string;
  readonly type: string | undefined;
  readonly reason: string | undefined;
  readonly retryAfterSeconds: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
}

export type Outcome = Answered | Refused;

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export interface CallerOptions {
  /** More headers of the request, below the signature. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Instead of the caller's own, which is the gateway of the lab. */
  readonly endpoint?: string;
  readonly credentials?: Credentials;
  /** Sends no signature at all. */
  readonly unsigned?: boolean;
  /** Attempts in all. Default 1, so that nothing is hidden by another attempt. */
  readonly maxAttempts?: number;
  /** Tells a stream of events by a {@link StreamDigest}: one that is too long to be kept. */
  readonly digest?: boolean;
}

/** A stream of events without its bytes. */
export interface StreamDigest {
  readonly size: number;
  /** Of all payloads, in hexadecimal digits. */
  readonly sha256: string;
  /** The event `InvokeComplete`. */
  readonly end: Readonly<Record<string, string>> | undefined;
}

/** One AWS SDK, unmodified, behind what SDKs have in common: operations and members named by the service model. */
export interface LambdaCaller {
  readonly name: string;
  /** Whether this SDK has the operation; they are not all of the same day. */
  has(operation: string): boolean;
  /** Does an operation, such as `Invoke`. An error of the SDK is returned. */
  call(operation: string, input: Readonly<Record<string, unknown>>, options?: CallerOptions): Promise<Outcome>;
  /** All pages of an operation's paginator, such as that of `ListFunctions`. */
  pages(
    operation: string,
    input: Readonly<Record<string, unknown>>,
    options?: CallerOptions,
  ): Promise<readonly Readonly<Record<string, unknown>>[]>;
  /** Waits by one of the SDK's own waiters, such as `FunctionActiveV2`, which looks every second. Rejects as it raises. */
  wait(waiter: string, input: Readonly<Record<string, unknown>>, options?: CallerOptions): Promise<void>;
  close(): Promise<void>;
}

/** The answer of a call that has to succeed. */
export function answered(outcome: Outcome): Answered {
  if (outcome.kind !== 'answered') {
    throw new Error(`the call was refused: ${JSON.stringify(outcome)}`);
  }
  return outcome;
}

/** The error of a call that has to fail. */
export function refused(outcome: Outcome): Refused {
  if (outcome.kind !== 'refused') {
    throw new Error(`the call succeeded: ${JSON.stringify(outcome).slice(0, 1_000)}`);
  }
  return outcome;
}

/** Words of a gateway that cannot tell whether a function is there. */
const DOES_NOT_HEAR = 'cannot hear from the Kubernetes API server';
/** Milliseconds until a gateway has its watches open again. */
const HEARS_AGAIN_MS = 30_000;

/** Whether a gateway refused a call since it does not hear from the API server at this moment. */
export function isUnheard(httpStatus: number | undefined, message: string): boolean {
  return httpStatus === 503 && message.includes(DOES_NOT_HEAR);
}

/**
 * Calls again while the gateway does not hear from the API server, which may end a watch at any time and refuse the
 * next one for some seconds (429, "storage is (re)initializing"). The last outcome is returned.
 */
export async function onceHeard(call: () => Promise<Outcome>): Promise<Outcome> {
  const end = performance.now() + HEARS_AGAIN_MS * patience();
  for (;;) {
    const outcome = await call();
    const mayChange = outcome.kind === 'refused' && isUnheard(outcome.httpStatus, outcome.message);
    if (!mayChange || performance.now() > end) {
      return outcome;
    }
    await delay(200);
  }
}
