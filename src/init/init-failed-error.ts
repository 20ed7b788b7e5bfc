import { EsbError } from '../common/errors.ts';
import type { InitFault } from './contract.ts';

/** Exit codes of the signals that end a runtime, as a container has them, by the words of the init. */
const SIGNALS: ReadonlyMap<string, number> = new Map([
  ['Aborted', 134],
  ['killed', 137],
  ['Segmentation fault', 139],
  ['Terminated', 143],
]);

/** Largest status with which a process exits. */
const MAX_EXIT_STATUS = 255;

interface Known {
  readonly exitCode?: number;
  readonly oomKilled?: boolean;
  readonly abused?: boolean;
  readonly fault?: InitFault | undefined;
}

/** `InitFailed`: a worker did not become ready. The message has Lambda's words where its init said why. */
export class InitFailedError extends EsbError {
  /** Exit code of the process whose end was the failure; 1 where none ended by itself. */
  readonly exitCode: number;
  readonly oomKilled: boolean;
  /** Whether it was ended for what it sent to the Runtime API or to the agent. */
  readonly abused: boolean;
  /** The fault that callers are told. Undefined where the failure is not the function's own. */
  readonly fault: InitFault | undefined;

  private constructor(
    message: string,
    { exitCode = 1, oomKilled = false, abused = false, fault }: Known,
    cause?: unknown,
  ) {
    super(message, { code: 'InitFailed', cause });
    this.exitCode = exitCode;
    this.oomKilled = oomKilled;
    this.abused = abused;
    this.fault = fault;
  }

  /** Of a worker whose init said why. A runtime that reported an error knows more than the init. */
  static of(fault: InitFault): InitFailedError {
    const { body, bound, errorType, message } = fault;
    const exitCode = exitCodeOf(errorType, message);
    return new InitFailedError(`${errorType}: ${reported(body) ?? message}`, {
      exitCode,
      abused: bound !== undefined,
      fault,
    });
  }

  /** Of a worker whose init broke the protocol. */
  static broken(breach: string): InitFailedError {
    return new InitFailedError(`Runtime.Unknown: ${breach}`, { abused: true });
  }

  /** Of a worker whose init has not said why. */
  static untold(message: string): InitFailedError {
    return new InitFailedError(message, {});
  }

  /** This error with more words. */
  explained(words: string): InitFailedError {
    return new InitFailedError(`${this.message}; ${words}`, this, this);
  }

  /** This error for a worker of which the kernel ended a process for want of memory. */
  starved(): InitFailedError {
    const message = `${this.message}; the worker used more memory than its limit`;
    const { abused, exitCode, fault } = this;
    return new InitFailedError(message, { exitCode, oomKilled: true, abused, fault }, this);
  }
}

/** Types of errors of a worker in which a process has ended. */
const ENDS: ReadonlySet<string> = new Set(['Runtime.ExitError', 'Extension.Crash', 'Extension.InitError']);

function exitCodeOf(errorType: string, message: string): number {
  if (!ENDS.has(errorType)) {
    return 1;
  }
  const [, status, signal] = /(?:^|: )(?:exit (?:status|code) (\d+)|signal: (.+))$/.exec(message) ?? [];
  if (status !== undefined) {
    return Number(status) > MAX_EXIT_STATUS ? 1 : Number(status);
  }
  // Without either a runtime has ended with 0.
  return signal === undefined ? 0 : (SIGNALS.get(signal) ?? 1);
}

function reported(body: string | undefined): string | undefined {
  try {
    const value: unknown = JSON.parse(body ?? 'null');
    const message = typeof value === 'object' && value !== null && 'errorMessage' in value ? value.errorMessage : '';
    return typeof message === 'string' && message !== '' ? message : undefined;
  } catch {
    return undefined;
  }
}
