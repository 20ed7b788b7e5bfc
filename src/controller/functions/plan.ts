import { findCondition, isTrue, type WorkerReason, workerConditions } from '../../api/condition.ts';
import { type LambdaFunction, TEMPLATE_ANNOTATION } from '../../api/lambda-function.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';

export type FunctionStep =
  | { readonly kind: 'create'; readonly name: string }
  /** Gives the worker the present template. */
  | { readonly kind: 'update'; readonly worker: LambdaWorker }
  | { readonly kind: 'delete'; readonly worker: LambdaWorker };

export interface FunctionInput {
  readonly owner: LambdaFunction;
  /** Hash of its template. */
  readonly template: string;
  /** Workers that the function owns by its uid, those in deletion included. */
  readonly owned: readonly LambdaWorker[];
  /** Whether the namespace has a worker of this name, of any owner. */
  readonly isTaken: (name: string) => boolean;
}

/** Finalizer of the API server: dependents stay when their owner goes. */
const ORPHAN = 'orphan';

/** Workers of a function that are to stay, as far as nothing else is decided. */
export function livingOf(owned: readonly LambdaWorker[]): readonly LambdaWorker[] {
  return owned.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
}

/** Whether the worker was given the present template. */
export function isUpdated({ metadata }: LambdaWorker, template: string): boolean {
  return metadata.annotations?.[TEMPLATE_ANNOTATION] === template;
}

/** Whether the worker is as its present spec wishes. */
export function isWorkerReady(worker: LambdaWorker): boolean {
  return isTrue(worker.status?.conditions, workerConditions.ready) && isObserved(worker);
}

/** Whether the present spec of the worker has failed, until somebody changes something. */
export function isWorkerStalled(worker: LambdaWorker): boolean {
  return isTrue(worker.status?.conditions, workerConditions.stalled) && isObserved(worker);
}

/** Whether its status is about the present spec, and not about one before a change. */
function isObserved({ metadata, status }: LambdaWorker): boolean {
  return status?.observedGeneration === metadata.generation;
}

/** Whether nothing is heard of its node: it may serve all the same. */
export function isOnLostNode({ status }: LambdaWorker): boolean {
  const reason = findCondition(status?.conditions, workerConditions.ready)?.reason;
  return reason === ('NodeLost' satisfies WorkerReason);
}

/** The number of workers that a function is to have. */
export function wantedOf({ metadata, spec }: LambdaFunction): number {
  return metadata.deletionTimestamp === undefined ? spec.scaling.minWorkers : 0;
}

/**
 * The next steps of a function, from any state. Each may be repeated: names and uids make a step that was done already
 * harmless. A change of the template goes to all workers that are not ready at once, then to one ready worker at a time, and
 * last to those on lost nodes. No further worker gets a template that has failed at one.
 */
export function planFunction(input: FunctionInput): readonly FunctionStep[] {
  const { metadata } = input.owner;
  if (metadata.deletionTimestamp !== undefined && metadata.finalizers?.includes(ORPHAN) === true) {
    return [];
  }
  const living = livingOf(input.owned);
  const surplus = living.length - wantedOf(input.owner);
  const leaving = surplus > 0 ? living.toSorted(leavesBefore).slice(0, surplus) : [];
  return [
    ...newNames(input, -surplus).map((name) => ({ kind: 'create', name }) as const),
    ...leaving.map((worker) => ({ kind: 'delete', worker }) as const),
    ...updates(
      living.filter((worker) => !leaving.includes(worker)),
      input.template,
      surplus < 0,
    ).map((worker) => ({ kind: 'update', worker }) as const),
  ];
}

/** The lowest free names. A name that another owner has is passed over. */
function newNames({ isTaken, owner }: FunctionInput, count: number): readonly string[] {
  const names: string[] = [];
  for (let ordinal = 0; names.length < count; ordinal += 1) {
    const name = `${owner.metadata.name}-latest-${ordinal}`;
    if (!isTaken(name)) {
      names.push(name);
    }
  }
  return names;
}

/** Outdated workers that may have the present template now. */
function updates(staying: readonly LambdaWorker[], template: string, isGrowing: boolean): readonly LambdaWorker[] {
  const { outdated = [], updated = [] } = Object.groupBy(staying, (worker) =>
    isUpdated(worker, template) ? 'updated' : 'outdated',
  );
  // One that is away for a moment, as for a restart of its node, is to come back with what it had.
  if (updated.some(isWorkerStalled)) {
    return [];
  }
  const {
    idle = [],
    lost = [],
    serving = [],
  } = Object.groupBy(outdated, (worker) =>
    isWorkerReady(worker) ? 'serving' : isOnLostNode(worker) ? 'lost' : 'idle',
  );
  if (idle.length > 0 || isGrowing || !updated.every(isWorkerReady)) {
    return idle;
  }
  return [...serving.toSorted(oldestFirst), ...lost.toSorted(oldestFirst)].slice(0, 1);
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

function oldestFirst({ metadata: one }: LambdaWorker, { metadata: other }: LambdaWorker): number {
  const [created = '', otherCreated = ''] = [one.creationTimestamp, other.creationTimestamp];
  if (created !== otherCreated) {
    return created < otherCreated ? -1 : 1;
  }
  return one.name.localeCompare(other.name, 'en', { numeric: true });
}
