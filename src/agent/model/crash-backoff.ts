import type { EsbError } from '../../common/errors.ts';
import type { InitFault } from '../../init/contract.ts';
import { InitFailedError } from '../../init/init-failed-error.ts';
import type { RuntimeInterface } from '../../runtime/contract/runtime.ts';
import {
  type Backoff,
  crashBackoff,
  failed,
  healthyMs,
  noBackoff,
  remainingMs,
  silenceBackoff,
  startBackoff,
} from './backoff.ts';
import type { Closing } from './invocation.ts';
import type { Failure } from './status-input.ts';
import type { WorkerView } from './worker-state.ts';

export type Termination = NonNullable<WorkerView['lastTermination']>;

/**
 * Failures of a container: the last error, the count in a row, and the time before which it is not to be made again.
 */
export interface Setbacks {
  readonly crashes: Backoff;
  readonly starts: Backoff;
  /** Starts after which nothing listened. */
  readonly silences: Backoff;
  /** The last trouble; undefined when it is over. */
  readonly failure: Failure | undefined;
  /** Whether the next start is a restart after an exit that nothing asked for. */
  readonly restartPending: boolean;
}

export const noSetbacks: Setbacks = {
  crashes: noBackoff,
  starts: noBackoff,
  silences: noBackoff,
  failure: undefined,
  restartPending: false,
};

/** The end of a process that nothing asked for, and the interface of its container. */
interface Exit {
  readonly termination: Termination;
  readonly runtimeInterface: RuntimeInterface;
  /** Why it could not be initialized again, where that was its end. */
  readonly fault?: InitFault | undefined;
}

/** How a process ended. */
export function terminationOf(exitCode: number, oomKilled: boolean, finishedAt: Date, output: string): Termination {
  const reason = oomKilled ? 'OOMKilled' : exitCode === 0 ? 'Completed' : 'Error';
  return { exitCode, reason, finishedAt: finishedAt.toISOString(), message: lastLinesOf(output) };
}

/** How a worker ended whose init has failed. */
export function terminationByInit(
  { abused, exitCode, message, oomKilled }: InitFailedError,
  finishedAt: Date,
): Termination {
  const termination = terminationOf(exitCode, oomKilled, finishedAt, message);
  return abused && !oomKilled ? { ...termination, reason: 'RuntimeApiAbused' } : termination;
}

/** Abuse of the Runtime API, or of the agent, for which a worker was ended of late. */
export interface Abuse {
  readonly message: string;
  /** Monotonic milliseconds until which that is shown: a worker that is put off runs again by then. */
  readonly until: number;
}

/** Undefined where a worker did not end for that, or long ago. */
export function abuseOf(
  { finishedAt, message, reason }: Termination,
  { now, wall }: { readonly now: number; readonly wall: number },
): Abuse | undefined {
  if (reason !== 'RuntimeApiAbused') {
    return undefined;
  }
  // The wall clock may have stepped.
  const leftMs = Math.min(Date.parse(finishedAt) + healthyMs - wall, healthyMs);
  return leftMs > 0 ? { message, until: now + leftMs } : undefined;
}

/** Monotonic milliseconds from which on it may be started. */
export function startsAt({ crashes, silences, starts }: Setbacks): number {
  return Math.max(crashes.until, starts.until, silences.until);
}

/** Milliseconds until the next attempt after a start that failed. */
export function startDelayMs({ silences, starts }: Setbacks, now: number): number {
  return Math.max(remainingMs(starts, now), remainingMs(silences, now));
}

/** Why calls are refused meanwhile. */
export function refusalFor({ failure }: Setbacks): Closing {
  const message = failure?.message ?? 'it failed before';
  return failure?.exited === true
    ? ['CrashLoopBackOff', `the worker starts again later: ${message}`, failure.fault]
    : ['StartFailed', message, failure?.fault];
}

/** The setbacks of a worker that crashed before the agent ended, and is put off still. */
export function remembering(setbacks: Setbacks, exit: Exit, now: number): Setbacks {
  const failure = exitOf(exit, setbacks.crashes, now);
  return { ...setbacks, restartPending: true, failure };
}

/** @param aliveMs how long it had run */
export function afterExit(setbacks: Setbacks, exit: Exit, aliveMs: number, now: number): Setbacks {
  const crashes = failed(aliveMs >= healthyMs ? noBackoff : setbacks.crashes, crashBackoff, now);
  return { ...setbacks, crashes, restartPending: true, failure: exitOf(exit, crashes, now) };
}

/**
 * The setbacks of the container that takes the place of one that is worn by calls whose time is over. A container that is
 * worn soon after its start is worn by its function: another one is made with the pauses of one that exits.
 *
 * @param aliveMs how long the worn one had run
 */
export function afterWear({ crashes: before }: Setbacks, aliveMs: number, now: number): Setbacks {
  const crashes = failed(aliveMs >= healthyMs ? noBackoff : before, crashBackoff, now);
  const message = 'calls whose time was over held half of its places';
  const delaySeconds = Math.ceil(remainingMs(crashes, now) / 1_000);
  return { ...noSetbacks, crashes, failure: { code: 'Error', message, exited: true, delaySeconds } };
}

export function afterFailedStart(setbacks: Setbacks, error: EsbError, now: number): Setbacks {
  const next =
    error.code === 'NotListening'
      ? { ...setbacks, silences: failed(setbacks.silences, silenceBackoff, now) }
      : { ...setbacks, starts: failed(setbacks.starts, startBackoff, now) };
  return { ...next, failure: failureOf(error, Math.ceil(startDelayMs(next, now) / 1_000)) };
}

export function afterStart(setbacks: Setbacks): Setbacks {
  return { ...setbacks, failure: undefined, starts: noBackoff, silences: noBackoff };
}

/** Something that may have been the cause of every failure has changed: the next attempt may come at once. */
export function mended({ failure, restartPending }: Setbacks): Setbacks {
  return {
    ...noSetbacks,
    restartPending,
    failure: failure === undefined ? undefined : { ...failure, delaySeconds: 0 },
  };
}

export function failureOf(error: Pick<EsbError, 'code' | 'message'>, delaySeconds: number): Failure {
  const fault = error instanceof InitFailedError ? error.fault : undefined;
  return { code: error.code, message: error.message, exited: false, delaySeconds, ...(fault && { fault }) };
}

function exitOf(exit: Exit, crashes: Backoff, now: number): Failure {
  return {
    code: exit.termination.reason,
    message: exitMessage(exit),
    exited: true,
    delaySeconds: Math.ceil(remainingMs(crashes, now) / 1_000),
    ...(exit.fault && { fault: exit.fault }),
  };
}

/** Variable that a runtime asks for without the emulator, which would have set it. */
const RUNTIME_API = 'AWS_LAMBDA_RUNTIME_API';
const NO_EMULATOR =
  'the image starts its runtime without the Runtime Interface Emulator: write spec.runtimeInterface: Lambda, or put the emulator into the image and in front of its command (docs/how-to/functions.md)';

function exitMessage({ runtimeInterface, termination: exit }: Exit): string {
  const lastLine = exit.message.trimEnd().split('\n').at(-1) ?? '';
  if (exit.reason === 'RuntimeApiAbused') {
    return `ended for what it sent: ${lastLine}`;
  }
  const how =
    exit.reason === 'OOMKilled'
      ? 'killed for using more memory than its limit'
      : `exited with code ${exit.exitCode} (${exit.reason})`;
  const told = lastLine === '' ? how : `${how}, its last output: ${lastLine}`;
  return runtimeInterface === 'Emulator' && exit.message.includes(RUNTIME_API) ? `${told}; ${NO_EMULATOR}` : told;
}

/** The last lines of an output, at most twenty. */
function lastLinesOf(output: string): string {
  return output.trimEnd().split('\n').slice(-20).join('\n');
}
