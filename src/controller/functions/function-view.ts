import { findCondition, workerConditions } from '../../api/condition.ts';
import { functionOwnerOf, type LambdaFunction, TEMPLATE_ANNOTATION } from '../../api/lambda-function.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { type PublicationStep, planPublication } from './publication.ts';
import { isOnLostNode } from './readiness.ts';
import { serves } from './rollout.ts';
import type { KnownVersions } from './version-keeper.ts';
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

/** Facts of a worker that its function goes by; a pause or a wake is no such fact. */
export function traitsOf(worker: LambdaWorker): unknown {
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
