import type { Clock } from '../../common/clock.ts';
import type { EsbError } from '../../common/errors.ts';
import {
  type BackoffSnapshot,
  crashBackoff,
  healthyMs,
  RestartBackoff,
  silenceBackoff,
  startBackoff,
} from './backoff.ts';
import type { RefusalReason } from './invocation.ts';
import type { Failure } from './status-input.ts';
import type { WorkerView } from './worker-state.ts';

export type Termination = NonNullable<WorkerView['lastTermination']>;

/** How a process ended. */
export function terminationOf(
  exitCode: number,
  oomKilled: boolean,
  finishedAt: Date,
  output: string,
): Termination {
  const reason = oomKilled ? 'OOMKilled' : exitCode === 0 ? 'Completed' : 'Error';
  return { exitCode, reason, finishedAt: finishedAt.toISOString(), message: lastLinesOf(output) };
}

/** What went wrong with a container, how often in a row, and until when it is not to be made again. */
export class CrashBackoff {
  readonly #crashes: RestartBackoff;
  readonly #starts: RestartBackoff;
  /** Starts after which nothing listened. */
  readonly #silences: RestartBackoff;
  /** The last trouble; undefined when it is over. */
  failure: Failure | undefined;
  /** Whether the next start makes good for an end that nobody asked for. */
  restartPending = false;

  constructor(clock: Clock) {
    this.#crashes = new RestartBackoff({ clock, ...crashBackoff });
    this.#starts = new RestartBackoff({ clock, ...startBackoff });
    this.#silences = new RestartBackoff({ clock, ...silenceBackoff });
  }

  /** Milliseconds until it may be started; 0 when it may be now. */
  get remainingMs(): number {
    return Math.max(this.#crashes.remainingMs, this.startDelayMs);
  }

  /** Milliseconds until the next attempt after a start that failed. */
  get startDelayMs(): number {
    return Math.max(this.#starts.remainingMs, this.#silences.remainingMs);
  }

  get crashes(): BackoffSnapshot {
    return this.#crashes.snapshot();
  }

  /** Why calls are refused meanwhile. */
  get refusal(): [RefusalReason, string] {
    const message = this.failure?.message ?? 'it failed before';
    return this.failure?.exited === true
      ? ['CrashLoopBackOff', `the worker starts again later: ${message}`]
      : ['StartFailed', message];
  }

  restore(crashes: BackoffSnapshot): void {
    this.#crashes.restore(crashes);
  }

  /** One that crashed before the agent did goes on being put off. */
  remember(termination: Termination): void {
    this.restartPending = true;
    this.failure = this.#exit(termination);
  }

  /** @param aliveMs how long it had run */
  exited(termination: Termination, aliveMs: number): void {
    if (aliveMs >= healthyMs) {
      this.#crashes.reset();
    }
    this.#crashes.fail();
    this.restartPending = true;
    this.failure = this.#exit(termination);
  }

  startFailed(error: EsbError): void {
    (error.code === 'NotListening' ? this.#silences : this.#starts).fail();
    this.failure = failureOf(error, Math.ceil(this.startDelayMs / 1_000));
  }

  started(): void {
    this.failure = undefined;
    this.#starts.reset();
    this.#silences.reset();
  }

  /** Something that may have been the cause of every failure has changed. */
  mend(): void {
    this.#crashes.reset();
    this.#starts.reset();
    this.#silences.reset();
    if (this.failure !== undefined) {
      this.failure = { ...this.failure, delaySeconds: 0 };
    }
  }

  #exit(termination: Termination): Failure {
    return {
      code: termination.reason,
      message: exitMessage(termination),
      exited: true,
      delaySeconds: Math.ceil(this.#crashes.remainingMs / 1_000),
    };
  }
}

export function failureOf(error: EsbError, delaySeconds: number): Failure {
  return { code: error.code, message: error.message, exited: false, delaySeconds };
}

/** What a runtime asks for that nothing has started; the emulator would have set the variable. */
const RUNTIME_API = 'AWS_LAMBDA_RUNTIME_API';
const NO_EMULATOR =
  'the image starts its runtime without the Runtime Interface Emulator: put /usr/local/bin/aws-lambda-rie into it and in front of its command (docs/how-to/functions.md)';

function exitMessage(exit: Termination): string {
  const lastLine = exit.message.trimEnd().split('\n').at(-1) ?? '';
  const how =
    exit.reason === 'OOMKilled'
      ? 'killed for using more memory than its limit'
      : `exited with code ${exit.exitCode} (${exit.reason})`;
  const told = lastLine === '' ? how : `${how}, its last output: ${lastLine}`;
  return exit.message.includes(RUNTIME_API) ? `${told}; ${NO_EMULATOR}` : told;
}

/** The last lines of an output, at most twenty. */
function lastLinesOf(output: string): string {
  return output.trimEnd().split('\n').slice(-20).join('\n');
}
