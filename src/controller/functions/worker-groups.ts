import type { EffectiveAlias, LambdaFunction, WorkerSource } from '../../api/lambda-function.ts';
import { type LambdaVersion, versionSourceOf } from '../../api/lambda-version.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { isUpdated, isWorkerReady } from './readiness.ts';

/** Workers that are to be there of $LATEST, or of one version. */
export interface WorkerGroup {
  readonly source: WorkerSource;
  readonly wanted: number;
  /** Ready workers from which the group is as wished, where that is fewer than all: others come and go with calls. */
  readonly enough?: number;
}

export interface GroupsInput {
  readonly owner: LambdaFunction;
  /** Hash of its template. */
  readonly template: string;
  /** Versions that the function owns by its uid, and that are not being deleted. */
  readonly versions: readonly LambdaVersion[];
  /** Whether a version is to be published and has no worker yet by which its image is known. */
  readonly isAwaited: boolean;
}

/** The groups of a function: $LATEST first, then each version that an alias names, or that no worker has proven yet. */
export function groupsOf({ isAwaited, owner, template, versions }: GroupsInput): readonly WorkerGroup[] {
  const { metadata, spec } = owner;
  const isGoing = metadata.deletionTimestamp !== undefined;
  const wanted = Math.max(spec.scaling.minWorkers, isAwaited ? 1 : 0);
  const latest = { version: undefined, template: spec.template, hash: template };
  const named = namedVersions(owner);
  const needed = versions.filter((version) => named.has(version.spec.version) || version.status?.state !== 'Active');
  return [
    { source: latest, wanted: isGoing ? 0 : wanted },
    ...needed.map((version) => ({
      source: versionSourceOf(version),
      wanted: isGoing ? 0 : versionWorkers(owner, version),
    })),
  ];
}

/** The group of $LATEST. */
export function latestOf(groups: readonly WorkerGroup[]): WorkerGroup {
  const latest = groups.find(({ source }) => source.version === undefined);
  if (latest === undefined) {
    throw new TypeError('a function has a group of $LATEST');
  }
  return latest;
}

/** Workers that a version is to have: as many as its aliases say, and one until one of them was ready. */
function versionWorkers({ spec, status }: LambdaFunction, version: LambdaVersion): number {
  const { version: number } = version.spec;
  const inEffect = new Map(status?.aliases?.map((alias) => [alias.name, alias]));
  const byAliases = (spec.aliases ?? [])
    .filter((alias) => names(alias, number) || names(inEffect.get(alias.name), number))
    .map(({ provisionedWorkers }) => provisionedWorkers ?? spec.scaling.minWorkers);
  return Math.max(0, ...byAliases, version.status?.state === 'Active' ? 0 : 1);
}

/** Numbers of the versions that an alias of the function names, as it is wished or as it is in effect. */
export function namedVersions({ spec, status }: LambdaFunction): ReadonlySet<number> {
  return new Set([...(spec.aliases ?? []), ...(status?.aliases ?? [])].flatMap(versionsOf));
}

/**
 * The aliases that may be in effect now: each as it is wished once all workers of the versions that it names are ready,
 * and until then as it was. Calls so always meet a version that can answer them.
 */
export function effectiveAliases(
  { spec, status }: LambdaFunction,
  groups: readonly WorkerGroup[],
  workers: readonly LambdaWorker[],
): readonly EffectiveAlias[] {
  const isReady = (number: number): boolean => {
    const group = groups.find(({ source }) => source.version === number);
    // No alias waits for workers that are not wanted: those that have them now may be the reason.
    const least = Math.min(group?.enough ?? Number.POSITIVE_INFINITY, group?.wanted ?? 0);
    return group !== undefined && readyOf(group, workers).length >= least;
  };
  return (spec.aliases ?? []).flatMap(({ name, routing = [], version }) => {
    const wished: EffectiveAlias = {
      name,
      version,
      ...(routing.length === 0 ? {} : { routing: routing.map((part) => ({ ...part })) }),
    };
    const present = status?.aliases?.find((alias) => alias.name === name);
    const kept = present === undefined ? [] : [present];
    // One that has calls already has to be ready for more of them where their number decides about its workers.
    const isScaled = groups.some(({ enough }) => enough !== undefined);
    const gaining = versionsOf(wished).filter((number) => {
      const before = permilleOf(present, number);
      return before === 0 || (isScaled && permilleOf(wished, number) > before);
    });
    return gaining.every(isReady) ? [wished] : kept;
  });
}

/** The versions whose calls a version gets by changes of aliases that are not in effect yet, and how many of 1,000. */
export function inheritanceOf(
  { spec, status }: LambdaFunction,
  version: number | undefined,
): readonly { readonly version: number; readonly permille: number }[] {
  return (spec.aliases ?? []).flatMap((wished) => {
    const present = status?.aliases?.find(({ name }) => name === wished.name);
    const permille = version === undefined ? 0 : permilleOf(wished, version) - permilleOf(present, version);
    return permille > 0 ? versionsOf(present).map((from) => ({ version: from, permille })) : [];
  });
}

/** Workers of a group that have its template and are as it wishes. */
export function readyOf({ source }: WorkerGroup, workers: readonly LambdaWorker[]): readonly LambdaWorker[] {
  return workers.filter(
    (worker) => worker.spec.version === source.version && isUpdated(worker, source.hash) && isWorkerReady(worker),
  );
}

function names(alias: EffectiveAlias | undefined, version: number): boolean {
  return versionsOf(alias).includes(version);
}

/** How many of 1,000 calls of an alias a version gets. */
function permilleOf(alias: EffectiveAlias | undefined, version: number): number {
  const routing = alias?.routing ?? [];
  const rest = 1_000 - routing.reduce((sum, { permille }) => sum + permille, 0);
  return alias?.version === version ? rest : (routing.find((part) => part.version === version)?.permille ?? 0);
}

/** Versions that get calls of an alias. */
export function versionsOf(alias: EffectiveAlias | undefined): readonly number[] {
  return alias === undefined
    ? []
    : [alias.version, ...(alias.routing ?? []).filter(({ permille }) => permille > 0).map(({ version }) => version)];
}
