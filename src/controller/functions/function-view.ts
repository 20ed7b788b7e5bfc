import { isDeepStrictEqual } from 'node:util';
import { findCondition, workerConditions } from '../../api/condition.ts';
import { functionOwnerOf, type LambdaFunction, TEMPLATE_ANNOTATION } from '../../api/lambda-function.ts';
import type { LambdaVersion } from '../../api/lambda-version.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { keyText, objectKey } from '../../kube/api/object-key.ts';
import type { CacheEvent, Informer } from '../../kube/api/types.ts';
import { namesakesOf, ownerIndex } from './owner-index.ts';
import { type FunctionStep, planFunction } from './plan.ts';
import { type PublicationStep, planPublication } from './publication.ts';
import { isOnLostNode, isUpdated } from './readiness.ts';
import { formerTemplates, hasWorked, type RolloutState, rolloutOf, serves } from './rollout.ts';
import { lackingSettings } from './settings.ts';
import { type KnownVersions, surplusVersions } from './version-keeper.ts';
import { groupsOf, type WorkerGroup } from './worker-groups.ts';

/** A function with what belongs to it, as the caches show it at one moment. */
export interface FunctionView {
  readonly key: string;
  readonly owner: LambdaFunction;
  /** Hash of its template. */
  readonly template: string;
  /** Workers that the function owns by its uid, those in deletion included. */
  readonly owned: readonly LambdaWorker[];
  /** Workers of $LATEST that are not being deleted. */
  readonly latest: readonly LambdaWorker[];
  readonly versions: KnownVersions;
  /** Name of the LambdaFunction that has the name for callers; undefined where this one has it. */
  readonly holder: string | undefined;
  /** Whether the namespace has a worker of this name, of any owner. */
  readonly isTaken: (name: string) => boolean;
  /** Whether the API server has refused the last worker of this generation of the function. */
  readonly isRefused: boolean;
}

/** The next steps of a function. */
export interface FunctionPlan {
  readonly groups: readonly WorkerGroup[];
  readonly rollout: RolloutState;
  /** Whether the present template works. */
  readonly isWorking: boolean;
  readonly workers: readonly FunctionStep[];
  /** Workers that are to get the settings of the function. */
  readonly settings: readonly LambdaWorker[];
  readonly publication: PublicationStep;
  /** Versions that are to be deleted. */
  readonly surplus: readonly LambdaVersion[];
}

/**
 * The next steps of a function, by what the caches show.
 *
 * @param groups as scaling wants them
 * @param now wall-clock milliseconds
 */
export function planOf(
  view: FunctionView,
  publication: PublicationStep,
  groups: readonly WorkerGroup[],
  now: number,
): FunctionPlan {
  const { isRefused, isTaken, latest: workers, owned, owner, template, versions } = view;
  const rollout = rolloutOf({ owner, groups, workers }, now);
  const former = formerTemplates({ owner, groups, workers }, rollout);
  // The API server may take the one of before no more: the present one would have no worker to be tried by.
  const isTrial = isRefused && !workers.some((worker) => isUpdated(worker, template));
  const isStopped = rollout.state === 'Stopped';
  return {
    groups,
    rollout,
    isWorking: hasWorked({ groups, workers }, rollout),
    workers: planFunction({ owner, groups, owned, isTaken, isStopped, former, isTrial }),
    settings: lackingSettings(owner, groups, owned),
    publication,
    surplus: surplusVersions(owner, versions.living),
  };
}

/** The next step of publishing. A function that has not its name for callers publishes nothing. */
export function publicationOf({ holder, latest, owner, template, versions }: FunctionView): PublicationStep {
  return holder === undefined ? planPublication({ owner, template, latest, ...versions }) : { kind: 'none' };
}

/** Whether a step of publishing is a write. */
export function isWritten({ kind }: PublicationStep): boolean {
  return kind !== 'none' && kind !== 'wait';
}

/** The groups of a function with the workers that each has without any call. */
export function groupsFor(
  { owner, template, versions }: FunctionView,
  { kind }: PublicationStep,
): readonly WorkerGroup[] {
  return groupsOf({ owner, template, versions: versions.living, isAwaited: kind === 'wait' });
}

/** Keys of the functions that a change of a worker concerns. */
export function keysOfWorker(change: CacheEvent<LambdaWorker>): ReadonlySet<string> {
  const { kind, object } = change;
  const isSame = kind === 'updated' && isDeepStrictEqual(traitsOf(change.old), traitsOf(object));
  const objects = kind === 'updated' ? [object, change.old] : [object];
  return new Set(isSame ? [] : objects.flatMap(ownerIndex));
}

/** Keys of a function that has changed, and of others of its name where that comes or goes. */
export function keysOfFunction(
  { kind, object }: CacheEvent<LambdaFunction>,
  functions: Pick<Informer<LambdaFunction>, 'cache'>,
): readonly string[] {
  const others = kind === 'updated' ? [] : namesakesOf(object, functions);
  return [object, ...others].map((each) => keyText(objectKey(each)));
}

/** Facts of a worker that its function goes by; a pause or a wake is no such fact. */
function traitsOf(worker: LambdaWorker): unknown {
  const { metadata, status } = worker;
  const stalled = findCondition(status?.conditions, workerConditions.stalled);
  return [
    functionOwnerOf(metadata),
    metadata.deletionTimestamp,
    metadata.generation,
    metadata.annotations?.[TEMPLATE_ANNOTATION],
    status?.observedGeneration,
    status?.image,
    findCondition(status?.conditions, workerConditions.ready)?.status,
    isOnLostNode(worker),
    serves(worker),
    [stalled?.status, stalled?.reason, stalled?.message],
  ];
}
