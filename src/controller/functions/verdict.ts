import { isDeepStrictEqual } from 'node:util';
import {
  type Condition,
  type ConditionDraft,
  findCondition,
  progressOf,
  transition,
  workerConditions,
} from '../../api/condition.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { isWorkerStalled } from './readiness.ts';
import type { StatusChange } from './status-writer.ts';

/** Status, reason and message of Ready, of a function or a version. */
export type Verdict = Pick<ConditionDraft, 'message' | 'reason' | 'status'>;

/** The verdict of the first worker whose present spec has failed, in its words; undefined where none has. */
export function failureAmong(workers: readonly LambdaWorker[]): Verdict | undefined {
  const failed = workers.find(isWorkerStalled);
  const stalled = findCondition(failed?.status?.conditions, workerConditions.stalled);
  return failed === undefined || stalled === undefined
    ? undefined
    : { status: 'False', reason: stalled.reason, message: `${failed.metadata.name}: ${stalled.message}` };
}

/**
 * Ready, Reconciling or Stalled while that is False, and further conditions.
 *
 * @param present conditions as they are now
 * @param generation the one that they are about
 * @param now wall-clock milliseconds
 */
export function conditionsOf(
  verdict: Verdict,
  further: readonly Omit<ConditionDraft, 'observedGeneration'>[],
  present: readonly Condition[] | undefined,
  generation: number | undefined,
  now: number,
): Condition[] {
  const progress = progressOf(verdict);
  const of = generation === undefined ? {} : { observedGeneration: generation };
  const drafts = [
    { type: workerConditions.ready, ...verdict },
    ...(progress === undefined ? [] : [progress]),
    ...further,
  ];
  return drafts.map((draft) => transition(findCondition(present, draft.type), { ...of, ...draft }, now));
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
