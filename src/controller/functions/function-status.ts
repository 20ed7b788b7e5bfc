import { type ConditionDraft, type FunctionReasons, functionConditions } from '../../api/condition.ts';
import {
  calledNameOf,
  FUNCTION_LABEL,
  type LambdaFunction,
  type LambdaFunctionStatus,
  VERSION_LABEL,
} from '../../api/lambda-function.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { isUpdated, isWorkerReady, isWorkerStalled, livingOf, oldestFirst } from './readiness.ts';
import type { Refused } from './refusal.ts';
import { revisionsAfter } from './revisions.ts';
import { hasWorked, type RolloutState, rolloutOf, serves, stopMessage } from './rollout.ts';
import type { StatusChange } from './status-writer.ts';
import { type UrlPolicy, urlStatusOf } from './url-status.ts';
import { changeBetween, conditionsOf, failureAmong, type Verdict } from './verdict.ts';
import { effectiveAliases, namedVersions, readyOf, type WorkerGroup } from './worker-groups.ts';

const NO_URLS: UrlPolicy = { domain: undefined, isPublic: () => false };

export interface StatusInput {
  readonly owner: LambdaFunction;
  readonly groups: readonly WorkerGroup[];
  readonly owned: readonly LambdaWorker[];
  readonly refusal: Refused | undefined;
  /** Whether a version is still to be published. */
  readonly isPublishing: boolean;
  /** No URL is served when absent. */
  readonly urls?: UrlPolicy;
  /** Name of the LambdaFunction that has the name for callers, where that is another one. */
  readonly holder?: string | undefined;
  /** Whether no gateway tells of calls by which the function is scaled. */
  readonly isDeaf?: boolean;
}

/** The present status of a function. A condition keeps the time of its last transition while its status does. */
export function statusOf(input: StatusInput, now: number): LambdaFunctionStatus {
  const { groups, owner } = input;
  const { metadata, status } = owner;
  const living = livingOf(input.owned);
  const latest = living.filter(({ spec }) => spec.version === undefined);
  const template = groups[0]?.source.hash ?? '';
  const aliases = effectiveAliases(owner, groups, living);
  const rollout = rolloutOf({ owner, groups, workers: latest }, now);
  const verdict = verdictOf(input, living, rollout);
  const { generation } = metadata;
  const url = urlStatusOf(owner, input.urls ?? NO_URLS, input.holder);
  const further = [...(url === undefined ? [] : [url.condition]), ...nameConditions(owner, input.holder)];
  further.push(...failureConditions(living), ...deafConditions(input.isDeaf === true));
  return {
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    workers: latest.length,
    readyWorkers: latest.filter(isWorkerReady).length,
    updatedWorkers: latest.filter((worker) => isUpdated(worker, template)).length,
    selector: `${FUNCTION_LABEL}=${metadata.name},!${VERSION_LABEL}`,
    rollout,
    revisions: revisionsAfter(owner, template, hasWorked({ groups, workers: latest }, rollout)),
    ...(aliases.length === 0 && status?.aliases === undefined ? {} : { aliases }),
    ...(url?.url === undefined ? {} : { url: url.url }),
    conditions: conditionsOf(verdict, further, status?.conditions, generation, now),
  };
}

/** The condition of a function some of whose workers have failed. */
function failureConditions(living: readonly LambdaWorker[]): readonly Omit<ConditionDraft, 'observedGeneration'>[] {
  const failed = living.filter(isWorkerStalled).toSorted(oldestFirst);
  const first = failureAmong(failed);
  const message = `${failed.length} of ${living.length} workers have failed; ${first?.message}`;
  return first === undefined
    ? []
    : [{ type: functionConditions.degraded, status: 'True', reason: 'WorkersFailed', message }];
}

/** The condition of a function that is scaled by calls, while no gateway reports any. */
function deafConditions(isDeaf: boolean): readonly Omit<ConditionDraft, 'observedGeneration'>[] {
  const message =
    'no gateway of the namespace tells the controller of its calls: the function has as many workers as it had, however ' +
    'many calls there are';
  return isDeaf ? [{ type: functionConditions.scalingActive, status: 'False', reason: 'NoGatewayHeard', message }] : [];
}

/** The condition of a function that is not the oldest of its name for callers. */
function nameConditions(
  owner: LambdaFunction,
  holder: string | undefined,
): readonly Omit<ConditionDraft, 'observedGeneration'>[] {
  if (holder === undefined) {
    return [];
  }
  const message =
    `LambdaFunction ${holder} is older and has the name ${calledNameOf(owner)}: this one has no aliases and no URL, and ` +
    'publishes no versions; workers of both take calls. Make it anew with a functionName of its own';
  return [{ type: functionConditions.nameHeld, status: 'False', reason: 'NameTaken', message }];
}

function verdictOf(input: StatusInput, living: readonly LambdaWorker[], rollout: RolloutState): Verdict {
  const { groups, isPublishing, owned, owner, refusal } = input;
  const not = (reason: FunctionReasons['Ready'], message: string): Verdict => ({ status: 'False', reason, message });
  if (owner.metadata.deletionTimestamp !== undefined) {
    return not('Terminating', `${owned.length} workers are left`);
  }
  if (refusal !== undefined) {
    return not(refusal.reason, refusal.message);
  }
  const named = namedVersions(owner);
  const missing = [...named].find((number) => groups.every(({ source }) => source.version !== number));
  // A version that no alias names speaks for itself alone.
  const states = groups
    .filter(({ source }) => source.version === undefined || named.has(source.version))
    .map((group) => stateOf(input, group, living, rollout));
  const unfinished = states.find((state) => state.status === 'False');
  if (unfinished !== undefined) {
    return unfinished;
  }
  // The version that is being published may be the one that is missing.
  if (isPublishing) {
    return not(
      'Progressing',
      'a version is published once a worker of the template has run, by the digest of its image',
    );
  }
  return missing === undefined
    ? (states[0] ?? not('Progressing', ''))
    : not('VersionMissing', `an alias names version ${missing}, and there is no LambdaVersion of that number`);
}

/** Whether no worker has a template of before, or has the present one and answers with the container of before. */
function isAllUpdated({ source }: WorkerGroup, workers: readonly LambdaWorker[]): boolean {
  return workers.every((worker) => isUpdated(worker, source.hash) && (isWorkerReady(worker) || !serves(worker)));
}

/** Whether a group that callers can name gets no worker: others have all that the function may have. */
function isLeftOut({ enough, wanted }: WorkerGroup): boolean {
  return wanted === 0 && enough !== undefined && enough > 0;
}

/** How far the workers of one group are. */
function stateOf(
  { groups, owner }: StatusInput,
  group: WorkerGroup,
  living: readonly LambdaWorker[],
  rollout: RolloutState,
): Verdict {
  const { enough, source, wanted } = group;
  const workers = living.filter(({ spec }) => spec.version === source.version);
  const ready = readyOf(group, workers);
  const of = source.version === undefined ? '' : ` of version ${source.version}`;
  const isWhole = ready.length === wanted && workers.length === wanted && (wanted > 0 || !isLeftOut(group));
  if (isWhole || (enough !== undefined && ready.length >= enough && isAllUpdated(group, workers))) {
    if (enough !== undefined && wanted > 0) {
      const message = `${ready.length} of ${wanted} workers are ready, and ${enough} are enough`;
      return { status: 'True', reason: 'UpToDate', message };
    }
    return wanted === 0
      ? { status: 'True', reason: 'NoWorkers', message: 'no worker is wanted' }
      : { status: 'True', reason: 'UpToDate', message: `${wanted} of ${wanted} workers are up to date and ready` };
  }
  if (source.version === undefined && rollout.state === 'Stopped') {
    const message = stopMessage({ groups, owner, workers });
    return { status: 'False', reason: 'ProgressDeadlineExceeded' satisfies FunctionReasons['Ready'], message };
  }
  const failure = failureAmong(workers.filter((worker) => isUpdated(worker, source.hash)));
  if (failure !== undefined) {
    return failure;
  }
  const message = isLeftOut(group)
    ? `scaling.maxWorkers leaves no worker for ${source.version === undefined ? '$LATEST' : `version ${source.version}`}`
    : `${ready.length} of ${wanted} workers${of} are up to date and ready`;
  return { status: 'False', reason: 'Progressing' satisfies FunctionReasons['Ready'], message };
}

/** How much of a status is new. */
export function changeOf(present: LambdaFunctionStatus | undefined, next: LambdaFunctionStatus): StatusChange {
  return changeBetween(
    present,
    next,
    ({ aliases, observedGeneration, revisions, rollout, selector, url }) => [
      ...[aliases, observedGeneration, revisions, selector, url],
      [rollout?.template, rollout?.state],
    ],
    ({ readyWorkers, rollout, updatedWorkers, workers }) => [readyWorkers, rollout, updatedWorkers, workers],
  );
}
