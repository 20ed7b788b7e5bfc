import { findCondition, isCallable, isTrue, workerConditions } from '../../api/condition.ts';
import type { LambdaFunction, LambdaFunctionStatus, WorkerTemplate } from '../../api/lambda-function.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { isOnLostNode, isUpdated, isWorkerReady, isWorkerStalled, oldestFirst } from './readiness.ts';
import { latestOf, type WorkerGroup } from './worker-groups.ts';

/** `spec.rollout`. */
export type RolloutSettings = LambdaFunction['spec']['rollout'];
/** `status.rollout`. */
export type RolloutState = NonNullable<LambdaFunctionStatus['rollout']>;

/** Workers that may be under way in a change. */
export interface Budget {
  /** Most workers with two containers. */
  readonly surge: number;
  /** Most workers without a container that serves, while further ones are changed. */
  readonly unavailable: number;
}

/** The budget in workers. Rounds as Deployments do: maxSurge up, maxUnavailable down, and 1 where both come to 0. */
export function budgetOf(settings: RolloutSettings, template: WorkerTemplate, wanted: number): Budget {
  const isBeside = template.spec.network?.mode !== 'Host';
  const surge = isBeside ? amountOf(settings.maxSurge, wanted, Math.ceil) : 0;
  const unavailable = amountOf(settings.maxUnavailable, wanted, Math.floor);
  return { surge, unavailable: surge + unavailable === 0 ? 1 : unavailable };
}

function amountOf(given: number | string, wanted: number, round: (amount: number) => number): number {
  return typeof given === 'number' ? given : round((Number(given.replace('%', '')) * wanted) / 100);
}

export interface ChangeInput {
  readonly group: WorkerGroup;
  /** Workers of the group that are to stay. */
  readonly staying: readonly LambdaWorker[];
  /** Workers of the group that are about to go, and may be changing until then. */
  readonly leaving: readonly LambdaWorker[];
  readonly settings: RolloutSettings;
  /** Whether the deadline of the template has passed. */
  readonly isStopped: boolean;
  /** Names of workers that had their turn last, and may be changing. */
  readonly changing: ReadonlySet<string>;
  /** Hashes of templates that have worked, while the present one has not; {@link formerTemplates}. */
  readonly former?: readonly string[];
}

/** Outdated workers that may have the present template now. */
export interface NextToChange {
  /** Workers that are not ready: no call depends on them, or they have a container beside already. */
  readonly atOnce: readonly LambdaWorker[];
  /** Workers that serve, as far as the budget goes. */
  readonly inTurn: readonly LambdaWorker[];
}

/**
 * Outdated workers that may have the present template now. Those that are not ready, or are changing without the knowledge
 * of their agent, get it at once. Ready ones follow while the budget lasts, the oldest first, and then those on lost nodes,
 * which may serve all the same. No further worker gets a template that has failed at one, be it ready or not: one that is
 * away for a moment, as for a restart of its node, is to come back with what it had. While the template has not worked,
 * those that begin with one that has get it one at a time.
 */
export function nextToChange({
  changing: begun,
  former = [],
  group,
  isStopped,
  leaving,
  settings,
  staying,
}: ChangeInput): NextToChange {
  const { enough, source, wanted } = group;
  const { outdated = [], updated = [] } = Object.groupBy(staying, (worker) =>
    isUpdated(worker, source.hash) ? 'updated' : 'outdated',
  );
  if (isStopped || hasFailed(updated)) {
    return { atOnce: [], inTurn: [] };
  }
  const {
    idle = [],
    lost = [],
    ready = [],
    unseen = [],
  } = Object.groupBy(outdated, (worker) =>
    isWorkerReady(worker)
      ? 'ready'
      : wasReady(worker) && !begun.has(worker.metadata.name)
        ? 'unseen'
        : isOnLostNode(worker)
          ? 'lost'
          : 'idle',
  );
  const { surge, unavailable } = budgetOf(settings, source.template, wanted);
  const missing = Math.max(0, (enough ?? wanted) - staying.length);
  const away = missing + staying.filter((worker) => !serves(worker) && !lost.includes(worker)).length;
  const unready = [...staying, ...leaving].filter((worker) => serves(worker) && !isWorkerReady(worker));
  const changing = unready.length - unseen.length;
  const places = away > unavailable ? 0 : Math.max(0, surge + unavailable - away - changing);
  const inTurn = [unseen, ready, lost].flatMap((workers) => workers.toSorted(oldestFirst)).slice(0, places);
  const [beginning, others] = [true, false].map((is) =>
    idle.filter((worker) => (!isWorkerStalled(worker) && former.some((hash) => isUpdated(worker, hash))) === is),
  ) as [LambdaWorker[], LambdaWorker[]];
  const trials = updated.every(isWorkerReady) ? 1 : 0;
  return { atOnce: [...others, ...beginning.toSorted(oldestFirst).slice(0, trials)], inTurn };
}

/** Part of the ready workers of a template from which on those that have failed with it speak against it. */
const FAILED_PART = 0.1;

/** Whether a template has failed: at more of its workers than a broken node here and there explains. */
function hasFailed(updated: readonly LambdaWorker[]): boolean {
  return updated.filter(isWorkerStalled).length > FAILED_PART * updated.filter(isWorkerReady).length;
}

/**
 * Whether the worker was ready when its agent last told. Its last change, which the agent has not seen yet, may be one of
 * the template, or of the settings of the function, which all workers get at once.
 */
function wasReady({ status }: LambdaWorker): boolean {
  return isTrue(status?.conditions, workerConditions.ready);
}

/** Whether calls of the worker are answered, be it by a container of a template before. */
export function serves(worker: LambdaWorker): boolean {
  return isWorkerReady(worker) || isCallable(worker.status?.conditions);
}

export interface ProgressInput {
  readonly owner: LambdaFunction;
  readonly groups: readonly WorkerGroup[];
  /** Workers of $LATEST, those in deletion excepted. */
  readonly workers: readonly LambdaWorker[];
}

/**
 * How far the template has come. The deadline counts from the last progress, as in Deployments: from the worker that last
 * became ready. A template that has been Complete stays so, also while its workers are not ready. A Stopped one stays so until
 * a further worker is ready with it, or the deadline is longer than what has passed.
 *
 * @param now wall-clock milliseconds
 */
export function rolloutOf({ groups, owner, workers }: ProgressInput, now: number): RolloutState {
  const { enough, source, wanted } = latestOf(groups);
  const present = owner.status?.rollout;
  const settings = owner.spec.rollout;
  const updated = workers.filter((worker) => isUpdated(worker, source.hash));
  const readyWorkers = updated.filter(isWorkerReady).length;
  const isDone = updated.length === workers.length && readyWorkers >= (enough ?? Math.max(wanted, workers.length));
  const lastProgressTime = `${new Date(now).toISOString().slice(0, 19)}Z`;
  const advanced = { template: source.hash, readyWorkers, lastProgressTime } as const;
  const known = present?.template === source.hash ? present : undefined;
  if (known?.state === 'Complete') {
    return known;
  }
  if (isDone) {
    return { ...advanced, state: 'Complete' };
  }
  if (known === undefined) {
    return { ...advanced, state: 'Progressing' };
  }
  if (readyWorkers > known.readyWorkers) {
    return { ...advanced, state: 'Progressing' };
  }
  // Those that leave, for a smaller number of workers, take their progress along.
  const still = { ...known, readyWorkers: Math.min(known.readyWorkers, updated.length) };
  const isOver = deadlineOf(known, settings) <= now;
  if (known.state === 'Stopped' && isOver) {
    return still;
  }
  if (!isOver) {
    return { ...still, state: 'Progressing' };
  }
  // Nothing hangs where no controller led when the next worker was due.
  const hangs = readyWorkers < updated.length || workers.length < (enough ?? wanted);
  return hangs ? { ...still, state: 'Stopped' } : { ...still, lastProgressTime };
}

/** Whether the present template of a function has worked: workers enough were ready with it. */
export function hasWorked({ groups, workers }: Omit<ProgressInput, 'owner'>, { state }: RolloutState): boolean {
  const { hash } = latestOf(groups).source;
  return state === 'Complete' && workers.some((worker) => isUpdated(worker, hash) && isWorkerReady(worker));
}

/**
 * Hashes of earlier templates that have worked, the newest first, where the present one has not, or works no longer while
 * it is being rolled out. Further workers are made with the first of these: calls are not to depend on a template that
 * nothing speaks for. None where the present one is as good.
 */
export function formerTemplates({ groups, owner, workers }: ProgressInput, { state }: RolloutState): readonly string[] {
  const { hash } = latestOf(groups).source;
  const isReadyWith = (template: string): boolean =>
    workers.some((worker) => isUpdated(worker, template) && isWorkerReady(worker));
  const revisions = owner.status?.revisions ?? [];
  const isTried = isReadyWith(hash) || revisions.some(({ template, worked }) => template === hash && worked === true);
  const isFailing = state === 'Stopped' || hasFailed(workers.filter((worker) => isUpdated(worker, hash)));
  return state === 'Complete' || (isTried && !isFailing)
    ? []
    : revisions
        .filter(({ template, worked }) => template !== hash && (worked === true || isReadyWith(template)))
        .map(({ template }) => template)
        .toReversed();
}

/** Wall-clock milliseconds at which a change without progress stops. */
function deadlineOf({ lastProgressTime }: RolloutState, { progressDeadlineSeconds }: RolloutSettings): number {
  return Date.parse(lastProgressTime) + progressDeadlineSeconds * 1_000;
}

/** Milliseconds until the change may have to stop; undefined where none is under way. */
export function untilDeadline(state: RolloutState, settings: RolloutSettings, now: number): number | undefined {
  return state.state === 'Progressing' ? Math.max(1, deadlineOf(state, settings) - now) : undefined;
}

/** Why a change has stopped, for people: the deadline, and the words of a worker that hangs. */
export function stopMessage({ groups, owner, workers }: ProgressInput): string {
  const { source, wanted } = latestOf(groups);
  const updated = workers.filter((worker) => isUpdated(worker, source.hash));
  const ready = updated.filter(isWorkerReady).length;
  const hanging = updated.find((worker) => !isWorkerReady(worker));
  const { message, reason } = findCondition(hanging?.status?.conditions, workerConditions.ready) ?? {};
  const cause = hanging === undefined ? '' : `; ${hanging.metadata.name}: ${reason ?? 'Unknown'}: ${message ?? ''}`;
  return (
    `${ready} of ${wanted} workers are up to date and ready, and no further one became so within ` +
    `${owner.spec.rollout.progressDeadlineSeconds} s: no more are changed until one does, or the template changes${cause}`
  );
}
