import type { FunctionOutcome } from './generated/agent.ts';

interface FunctionFailure {
  readonly code: FunctionOutcome;
  /** In Lambda's words, where the worker gives no type. */
  readonly errorType: string;
  /** Where the worker gives none. */
  readonly message: string;
}

/** The ends of a function other than an answer. */
export const FUNCTION_FAILURES = {
  Error: { code: 'FUNCTION_OUTCOME_ERROR', errorType: 'Runtime.Unknown', message: 'Unknown Error' },
  Timeout: { code: 'FUNCTION_OUTCOME_TIMEOUT', errorType: 'Sandbox.Timedout', message: 'Task timed out' },
  Exited: {
    code: 'FUNCTION_OUTCOME_EXITED',
    errorType: 'Runtime.ExitError',
    message: 'Runtime exited without providing a reason',
  },
  Interrupted: {
    code: 'FUNCTION_OUTCOME_INTERRUPTED',
    errorType: 'Runtime.TruncatedResponse',
    message: 'the runtime broke its answer off',
  },
  TooLarge: { code: 'FUNCTION_OUTCOME_TOO_LARGE', errorType: 'Function.ResponseSizeTooLarge', message: '' },
} as const satisfies Readonly<Record<string, FunctionFailure>>;

export type FailureName = keyof typeof FUNCTION_FAILURES;

const names: ReadonlyMap<FunctionOutcome, FailureName> = new Map(
  Object.entries(FUNCTION_FAILURES).map(([name, { code }]) => [code, name as FailureName]),
);

/** The failure that a value of the protocol stands for. A value of a later release is an error of the function. */
export function failureNameOf(code: Exclude<FunctionOutcome, 'FUNCTION_OUTCOME_ANSWERED'>): FailureName {
  return names.get(code) ?? 'Error';
}
