import { findCondition, type WorkerReason, workerConditions } from '../../api/condition.ts';
import type { LambdaQuota } from '../../api/lambda-quota.ts';
import type { Assignment, LambdaWorker } from '../../api/lambda-worker.ts';
import { grantOf } from '../../api/worker-resources.ts';
import type { ObjectCache } from '../../kube/api/types.ts';
import type { AssignmentCache, Usage } from '../scheduling/assignment-cache.ts';
import { type Bounds, boundsOf, type Excess, excessOf, plus } from './amounts.ts';

/** Index of quotas: by their namespace. */
export const QUOTA_INDEX = 'namespace';
/** Index of workers: by the namespace in which they wait for a node or to grow, as far as quotas are concerned. */
export const QUEUE_INDEX = 'quota-queue';

export function quotaIndex({ metadata }: LambdaQuota): readonly string[] {
  return [metadata.namespace ?? ''];
}

/**
 * Workers that have no node and were not looked at, or wait for room in a quota, be it to grow where they are. Those that
 * wait for nodes stand in no other's way.
 */
export function queueIndex({ metadata, status }: LambdaWorker): readonly string[] {
  const scheduled = findCondition(status?.conditions, workerConditions.scheduled);
  const isNew = scheduled === undefined && status?.assignment === undefined;
  const waits = isNew || scheduled?.reason === ('QuotaExceeded' satisfies WorkerReason);
  return metadata.deletionTimestamp === undefined && waits ? [metadata.namespace ?? ''] : [];
}

/** The answer of the quotas of a namespace to the present size of a worker. */
export type Grant =
  /** The namespace has no quota. */
  | { readonly kind: 'unbound' }
  | { readonly kind: 'granted'; readonly granted: NonNullable<Assignment['granted']> }
  | { readonly kind: 'refused'; readonly message: string };

export interface QuotaBookOptions {
  /** {@link QUOTA_INDEX} is among its indexes. */
  readonly quotas: ObjectCache<LambdaQuota>;
  /** {@link QUEUE_INDEX} is among its indexes. */
  readonly workers: ObjectCache<LambdaWorker>;
  readonly assignments: AssignmentCache;
}

const NOTHING: Usage = { memoryMiB: 0, milliCPU: 0, workers: 0 };

/** The time since when a worker waits, as text that sorts by it. */
function age({ metadata }: LambdaWorker): string {
  return `${metadata.creationTimestamp ?? ''} ${metadata.name}`;
}

/** Amounts that a worker asks for beyond those that it has. */
function askedBy(worker: LambdaWorker): Usage {
  const size = grantOf(worker);
  const { assignment } = worker.status ?? {};
  const has = assignment === undefined ? NOTHING : { ...(assignment.granted ?? size), workers: 1 };
  return {
    memoryMiB: Math.max(0, size.memoryMiB - has.memoryMiB),
    milliCPU: Math.max(0, size.milliCPU - has.milliCPU),
    workers: 1 - has.workers,
  };
}

/** Gives each worker its room, the oldest first. One that finds none stands in no other's way. */
function refusalsOf(
  bounds: readonly Bounds[],
  used: Usage,
  workers: readonly LambdaWorker[],
): ReadonlyMap<string, Excess> {
  const refused = new Map<string, Excess>();
  let sum = used;
  for (const worker of workers.toSorted((a, b) => (age(a) < age(b) ? -1 : 1))) {
    const asked = askedBy(worker);
    const excess = excessOf(bounds, sum, asked);
    if (excess === undefined) {
      sum = plus(sum, asked);
    } else {
      refused.set(worker.metadata.uid ?? '', excess);
    }
  }
  return refused;
}

/**
 * The quotas of all namespaces, and what workers have of them that are assigned. Answers count the controller's own
 * decisions at once, so that two workers that are looked at together never exceed a quota.
 */
export class QuotaBook {
  readonly #options: QuotaBookOptions;
  /** The last answers to the queue of a namespace, which hold on while its workers get what was granted. */
  readonly #refused = new Map<string, ReadonlyMap<string, Excess>>();

  constructor(options: QuotaBookOptions) {
    this.#options = options;
  }

  /** Something else has changed in the namespace than that a worker got what was granted. */
  note(namespace: string): void {
    this.#refused.delete(namespace);
  }

  isBound(namespace: string): boolean {
    return this.#options.quotas.byIndex(QUOTA_INDEX, namespace).length > 0;
  }

  /**
   * Whether a worker may have a node with its present size, or grow to that where it has one. An assigned worker that no
   * quota has counted yet keeps what it has.
   */
  grant(worker: LambdaWorker): Grant {
    const { namespace = '', uid = '' } = worker.metadata;
    const bounds = this.#bounds(namespace);
    if (bounds.length === 0) {
      return { kind: 'unbound' };
    }
    const granted: Grant = { kind: 'granted', granted: grantOf(worker) };
    const asked = askedBy(worker);
    if (asked.memoryMiB === 0 && asked.milliCPU === 0 && asked.workers === 0) {
      return granted;
    }
    const used = this.#options.assignments.usage(namespace);
    const excess = excessOf(bounds, used, asked);
    if (excess !== undefined) {
      return { kind: 'refused', message: excess.text };
    }
    const behind = this.#refusals(worker, bounds, used).get(uid);
    return behind === undefined ? granted : { kind: 'refused', message: `older workers go first: ${behind.text}` };
  }

  /** By uid, the workers that wait and find no room once all that are older had theirs. */
  #refusals(worker: LambdaWorker, bounds: readonly Bounds[], used: Usage): ReadonlyMap<string, Excess> {
    const { namespace = '', uid } = worker.metadata;
    const isQueued = queueIndex(worker).length > 0;
    const kept = isQueued ? this.#refused.get(namespace) : undefined;
    if (kept !== undefined) {
      return kept;
    }
    const others = this.#queueOf(namespace).filter(({ metadata }) => metadata.uid !== uid);
    const refused = refusalsOf(bounds, used, [...others, worker]);
    if (isQueued) {
      this.#refused.set(namespace, refused);
    }
    return refused;
  }

  /** Workers that wait, but for those that were assigned just now. */
  #queueOf(namespace: string): readonly LambdaWorker[] {
    const { assignments, workers } = this.#options;
    return workers
      .byIndex(QUEUE_INDEX, namespace)
      .filter(({ metadata }) => assignments.assumed(metadata.uid ?? '') === undefined);
  }

  #bounds(namespace: string): readonly Bounds[] {
    return this.#options.quotas
      .byIndex(QUOTA_INDEX, namespace)
      .map(boundsOf)
      .toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }
}
