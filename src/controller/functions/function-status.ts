import { conditionsOf, type FunctionReasons, no, progressOf, type Verdict, yes } from '../../api/condition.ts';
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
import { changeBetween, failureAmong } from './verdict.ts';
import { effectiveAliases, namedVersions, readyOf, type WorkerGroup } from './worker-groups.ts';

/** Message of ScalingActive, of a function that is scaled by calls while no gateway reports any. */
const DEAF =
  'no gateway of the namespace tells the controller of its calls: the function has as many workers as it had, however ' +
  'many calls there are';
const NO_URLS: UrlPolicy = { domain: undefined, isPublic: () => false };

type Reason = FunctionReasons['Ready'];

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
  const verdicts = {
    Ready: verdict,
    ...progressOf(verdict),
    UrlServed: url?.verdict,
    NameHeld: nameVerdict(owner, input.holder),
    Degraded: failureVerdict(living),
    ScalingActive: input.isDeaf === true ? no<FunctionReasons['ScalingActive']>('NoGatewayHeard', DEAF) : undefined,
  };
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
    conditions: conditionsOf(verdicts, { present: status?.conditions, generation, now }),
  };
}

/** Verdict on a function some of whose workers have failed. */
function failureVerdict(living: readonly LambdaWorker[]): Verdict<FunctionReasons['Degraded']> | undefined {
  const failed = living.filter(isWorkerStalled).toSorted(oldestFirst);
  const first = failureAmong(failed);
  const message = `${failed.length} of ${living.length} workers have failed; ${first?.message}`;
  return first === undefined ? undefined : yes('WorkersFailed', message);
}

/** Verdict on a function that is not the oldest of its name for callers. */
function nameVerdict(
  owner: LambdaFunction,
  holder: string | undefined,
): Verdict<FunctionReasons['NameHeld']> | undefined {
  if (holder === undefined) {
    return undefined;
  }
  const message =
    `LambdaFunction ${holder} is older and has the name ${calledNameOf(owner)}: this one has no aliases and no URL, and ` +
    'publishes no versions; workers of both take calls. Make it anew with a functionName of its own';
  return no('NameTaken', message);
}

function verdictOf(input: StatusInput, living: readonly LambdaWorker[], rollout: RolloutState): Verdict {
  const { groups, isPublishing, owned, owner, refusal } = input;
  const not = no<Reason>;
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
      return yes<Reason>('UpToDate', `${ready.length} of ${wanted} workers are ready, and ${enough} are enough`);
    }
    return wanted === 0
      ? yes<Reason>('NoWorkers', 'no worker is wanted')
      : yes<Reason>('UpToDate', `${wanted} of ${wanted} workers are up to date and ready`);
  }
  if (source.version === undefined && rollout.state === 'Stopped') {
    return no<Reason>('ProgressDeadlineExceeded', stopMessage({ groups, owner, workers }));
  }
  const failure = failureAmong(workers.filter((worker) => isUpdated(worker, source.hash)));
  if (failure !== undefined) {
    return failure;
  }
  const message = isLeftOut(group)
    ? `scaling.maxWorkers leaves no worker for ${source.version === undefined ? '$LATEST' : `version ${source.version}`}`
    : `${ready.length} of ${wanted} workers${of} are up to date and ready`;
  return no<Reason>('Progressing', message);
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
