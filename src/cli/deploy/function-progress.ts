import { findCondition, workerConditions } from '../../api/condition.ts';
import type { LambdaFunction } from '../../api/lambda-function.ts';
import { EsbError } from '../../common/errors.ts';

/** How far a function has come towards its spec, as kstatus has it. */
export type FunctionProgress =
  | { readonly kind: 'Current' }
  | { readonly kind: 'InProgress'; readonly message: string }
  /** Lasts until somebody changes something. */
  | { readonly kind: 'Failed'; readonly reason: string; readonly message: string };

/** Reads the conditions of a function; those of an earlier generation count for nothing. */
export function functionProgress({ metadata, status }: LambdaFunction): FunctionProgress {
  if (status?.observedGeneration !== metadata.generation) {
    return { kind: 'InProgress', message: 'the controller has not looked at it yet' };
  }
  const of = (type: string) => {
    const found = findCondition(status?.conditions, type);
    return found?.observedGeneration === metadata.generation ? found : undefined;
  };
  const stalled = of(workerConditions.stalled);
  if (stalled?.status === 'True') {
    return { kind: 'Failed', reason: stalled.reason, message: stalled.message };
  }
  const ready = of(workerConditions.ready);
  return ready?.status === 'True'
    ? { kind: 'Current' }
    : { kind: 'InProgress', message: ready?.message ?? 'nothing is known of its workers yet' };
}

/** The error of a change that has stopped. */
export function stoppedError(
  name: string,
  { message, reason }: Extract<FunctionProgress, { readonly kind: 'Failed' }>,
): EsbError {
  return new EsbError(`${name} cannot become up to date: ${reason}: ${message}`, { code: 'NotDeployed' });
}
