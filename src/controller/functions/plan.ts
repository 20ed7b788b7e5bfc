import { findCondition, workerConditions } from '../../api/condition.ts';
import type { LambdaFunction, WorkerSource } from '../../api/lambda-function.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { livingOf, oldestFirst } from './readiness.ts';
import { type ChangeInput, nextToChange } from './rollout.ts';
import { namedVersions, type WorkerGroup } from './worker-groups.ts';

/** Gives the worker the present template of its group. */
export interface UpdateStep {
  readonly kind: 'update';
  readonly worker: LambdaWorker;
  /** Whether the worker serves as it is, so that no more than the budget change at once. */
  readonly isTurn: boolean;
}

export type FunctionStep =
  | {
      readonly kind: 'create';
      readonly name: string;
      readonly source: WorkerSource;
      /** Hashes of earlier templates, of which the worker gets the first that is kept, in place of that of `source`. */
      readonly earlier: readonly string[];
    }
  | UpdateStep
  | { readonly kind: 'delete'; readonly worker: LambdaWorker };

export interface FunctionInput {
  readonly owner: LambdaFunction;
  readonly groups: readonly WorkerGroup[];
  /** Workers that the function owns by its uid, those in deletion included. */
  readonly owned: readonly LambdaWorker[];
  /** Whether the namespace has a worker of this name, of any owner. */
  readonly isTaken: (name: string) => boolean;
  /** Whether the template of $LATEST goes to no further worker. */
  readonly isStopped?: boolean;
  /** As of {@link ChangeInput.former}. */
  readonly former?: readonly string[];
  /** Whether further workers of $LATEST try the present template, although an earlier one is known to work. */
  readonly isTrial?: boolean;
}

/** Finalizer of the API server: dependents stay when their owner goes. */
const ORPHAN = 'orphan';

/**
 * The next steps of a function, from any state. Each may be repeated: names and uids make a step that was done already
 * harmless. A change of the template goes to as many workers at a time as {@link nextToChange} says, and an earlier one to
 * those that are made meanwhile. Workers of a version whose LambdaVersion is gone stay as long as an alias names the version,
 * since nothing could replace them.
 */
export function planFunction(input: FunctionInput): readonly FunctionStep[] {
  const { groups, owner } = input;
  const { deletionTimestamp, finalizers } = owner.metadata;
  const isGoing = deletionTimestamp !== undefined;
  if (isGoing && finalizers?.includes(ORPHAN) === true) {
    return [];
  }
  const byVersion = Map.groupBy(livingOf(input.owned), ({ spec }) => spec.version);
  const kept = namedVersions(owner);
  const known = new Set(groups.map(({ source }) => source.version));
  const left = [...byVersion].filter(
    ([version]) => !known.has(version) && (isGoing || version === undefined || !kept.has(version)),
  );
  return [
    ...groups.flatMap((group) => planGroup(input, group, byVersion.get(group.source.version) ?? [])),
    ...left.flatMap(([, workers]) => workers.map((worker) => ({ kind: 'delete', worker }) as const)),
  ];
}

function planGroup(input: FunctionInput, group: WorkerGroup, living: readonly LambdaWorker[]): readonly FunctionStep[] {
  const { source, wanted } = group;
  const surplus = living.length - wanted;
  const leaving = surplus > 0 ? living.toSorted(leavesBefore).slice(0, surplus) : [];
  const former = source.version === undefined ? (input.former ?? []) : [];
  const { atOnce, inTurn } = nextToChange({
    group,
    staying: living.filter((worker) => !leaving.includes(worker)),
    leaving,
    settings: input.owner.spec.rollout,
    isStopped: source.version === undefined && input.isStopped === true,
    changing: new Set(input.owner.status?.changing),
    former,
  } satisfies ChangeInput);
  const earlier = input.isTrial === true ? [] : former;
  return [
    ...newNames(input, source, -surplus).map((name) => ({ kind: 'create', name, source, earlier }) as const),
    ...leaving.map((worker) => ({ kind: 'delete', worker }) as const),
    ...atOnce.map((worker) => ({ kind: 'update', worker, isTurn: false }) as const),
    ...inTurn.map((worker) => ({ kind: 'update', worker, isTurn: true }) as const),
  ];
}

/** The lowest free names. A name that another owner has is passed over. */
function newNames({ isTaken, owner }: FunctionInput, { version }: WorkerSource, count: number): readonly string[] {
  const names: string[] = [];
  for (let ordinal = 0; names.length < count; ordinal += 1) {
    const name = `${owner.metadata.name}-${version ?? 'latest'}-${ordinal}`;
    if (!isTaken(name)) {
      names.push(name);
    }
  }
  return names;
}

/** How much a worker holds: the one that holds least leaves first. */
function holdingOf(worker: LambdaWorker): number {
  const { status } = worker;
  if (status?.assignment === undefined) {
    return 0;
  }
  if (findCondition(status.conditions, workerConditions.ready)?.status !== 'True') {
    return 1;
  }
  return status.phase === 'Absent' ? 2 : status.phase === 'Paused' ? 3 : 4;
}

function leavesBefore(one: LambdaWorker, other: LambdaWorker): number {
  return holdingOf(one) - holdingOf(other) || oldestFirst(other, one);
}
