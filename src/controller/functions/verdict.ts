import { isDeepStrictEqual } from 'node:util';
import { type Condition, findCondition, no, type Verdict, workerConditions } from '../../api/condition.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { isWorkerStalled } from './readiness.ts';
import type { StatusChange } from './status-writer.ts';

/** The verdict of the first worker whose present spec has failed, in its words; undefined where none has. */
export function failureAmong(workers: readonly LambdaWorker[]): Verdict | undefined {
  const failed = workers.find(isWorkerStalled);
  const stalled = findCondition(failed?.status?.conditions, workerConditions.stalled);
  return failed === undefined || stalled === undefined
    ? undefined
    : no(stalled.reason, `${failed.metadata.name}: ${stalled.message}`);
}

/**
 * How much of a status is new.
 *
 * @param verdicts members whose change is told at once, beside type, status and reason of each condition
 * @param numbers members that are told now and then, as are messages
 */
export function changeBetween<S extends { readonly conditions?: readonly Condition[] }>(
  present: S | undefined,
  next: S,
  verdicts: (status: S) => readonly unknown[],
  numbers: (status: S) => readonly unknown[],
): StatusChange {
  const brief = (status: S): unknown => [
    verdicts(status),
    status.conditions?.map(({ reason, status: word, type }) => [type, word, reason]),
  ];
  const whole = (status: S): unknown => [verdicts(status), numbers(status), status.conditions];
  if (present === undefined || !isDeepStrictEqual(brief(present), brief(next))) {
    return 'conditions';
  }
  return isDeepStrictEqual(whole(present), whole(next)) ? 'none' : 'numbers';
}
