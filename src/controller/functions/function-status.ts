import { isDeepStrictEqual } from 'node:util';
import {
  type ConditionDraft,
  type FunctionReasons,
  findCondition,
  progressOf,
  transition,
  workerConditions,
} from '../../api/condition.ts';
import { FUNCTION_LABEL, type LambdaFunction, type LambdaFunctionStatus } from '../../api/lambda-function.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { isUpdated, isWorkerReady, isWorkerStalled, livingOf, wantedOf } from './plan.ts';

export interface StatusInput {
  readonly owner: LambdaFunction;
  readonly template: string;
  readonly owned: readonly LambdaWorker[];
  /** Words of the API server, which did not take a worker as the function wants it. */
  readonly refusal: string | undefined;
}

type Verdict = Pick<ConditionDraft, 'message' | 'reason' | 'status'>;

/** Characters of a message that the schema takes. */
const MAX_MESSAGE_LENGTH = 32_768;

/** The present status of a function. A condition keeps the time of its last transition while its status does. */
export function statusOf(input: StatusInput, now: number): LambdaFunctionStatus {
  const { metadata, status } = input.owner;
  const { template } = input;
  const living = livingOf(input.owned);
  const { message, ...word } = verdictOf(input, living);
  const verdict = { ...word, message: message.slice(0, MAX_MESSAGE_LENGTH) };
  const { generation } = metadata;
  const of = generation === undefined ? {} : { observedGeneration: generation };
  const ready: ConditionDraft = { type: workerConditions.ready, ...of, ...verdict };
  const progress = progressOf(verdict);
  const conditions = [ready, ...(progress === undefined ? [] : [{ ...of, ...progress }])];
  return {
    ...of,
    workers: living.length,
    readyWorkers: living.filter(isWorkerReady).length,
    updatedWorkers: living.filter((worker) => isUpdated(worker, template)).length,
    selector: `${FUNCTION_LABEL}=${metadata.name}`,
    conditions: conditions.map((draft) => transition(findCondition(status?.conditions, draft.type), draft, now)),
  };
}

function verdictOf({ owned, owner, refusal, template }: StatusInput, living: readonly LambdaWorker[]): Verdict {
  const not = (reason: FunctionReasons['Ready'], message: string): Verdict => ({ status: 'False', reason, message });
  if (owner.metadata.deletionTimestamp !== undefined) {
    return not('Terminating', `${owned.length} workers are left`);
  }
  if (refusal !== undefined) {
    return not('WorkerRefused', refusal);
  }
  const wanted = wantedOf(owner);
  const updated = living.filter((worker) => isUpdated(worker, template));
  const ready = updated.filter(isWorkerReady);
  if (ready.length === wanted && living.length === wanted) {
    return wanted === 0
      ? { status: 'True', reason: 'NoWorkers', message: 'no worker is wanted' }
      : { status: 'True', reason: 'UpToDate', message: `${wanted} of ${wanted} workers are up to date and ready` };
  }
  for (const { metadata, status } of updated.filter(isWorkerStalled)) {
    const stalled = findCondition(status?.conditions, workerConditions.stalled);
    if (stalled !== undefined) {
      return { status: 'False', reason: stalled.reason, message: `${metadata.name}: ${stalled.message}` };
    }
  }
  return not('Progressing', `${ready.length} of ${wanted} workers are up to date and ready`);
}

/** How much of a status is new. */
export type StatusChange = 'none' | 'numbers' | 'conditions';

export function changeOf(present: LambdaFunctionStatus | undefined, next: LambdaFunctionStatus): StatusChange {
  if (present !== undefined && isDeepStrictEqual(told(present), told(next))) {
    return 'none';
  }
  const verdicts = ({ conditions, observedGeneration, selector }: LambdaFunctionStatus): unknown => [
    observedGeneration,
    selector,
    conditions?.map(({ type, status, reason }) => [type, status, reason]),
  ];
  return present !== undefined && isDeepStrictEqual(verdicts(present), verdicts(next)) ? 'numbers' : 'conditions';
}

/** The members that this controller writes. */
function told(status: LambdaFunctionStatus): unknown {
  const { conditions, observedGeneration, readyWorkers, selector, updatedWorkers, workers } = status;
  return { conditions, observedGeneration, readyWorkers, selector, updatedWorkers, workers };
}
