import { isDeepStrictEqual } from 'node:util';
import { type LambdaQuota, lambdaQuotas } from '../../api/lambda-quota.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { hasCode } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { keyText, objectKey, parseKeyText } from '../../kube/api/object-key.ts';
import type { CacheEvent, Informer, KubeClient } from '../../kube/api/types.ts';
import {
  createReconciler,
  type ReconcileResult,
  type Reconciler,
  type ReconcilerMetrics,
} from '../../kube/controller/reconciler.ts';
import { type AssignmentCache, isSameGrant, type Usage } from '../scheduling/assignment-cache.ts';
import { statusOf } from './amounts.ts';
import { QUOTA_INDEX, QuotaBook, queueIndex } from './quota-book.ts';

export interface QuotaControllerOptions {
  readonly client: KubeClient;
  /** Synced; {@link QUOTA_INDEX} is among its indexes. */
  readonly quotas: Informer<LambdaQuota>;
  /** Synced; QUEUE_INDEX is among its indexes. */
  readonly workers: Pick<Informer<LambdaWorker>, 'cache'>;
  readonly assignments: AssignmentCache;
  /** Told when workers that wait may have room. */
  readonly onRoom: () => void;
  /** Told when the quotas of a namespace have changed, for all of its workers. */
  readonly onBounds: (namespace: string) => void;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: ReconcilerMetrics;
}

/** Least milliseconds between two writes to one LambdaQuota. */
const WRITE_EVERY_MS = 5_000;

/** Keeps the book of quotas up to date, and shows in each LambdaQuota what is used of it. */
export class QuotaController {
  readonly book: QuotaBook;
  readonly #options: QuotaControllerOptions;
  readonly #queue: Reconciler;
  /** By key of a quota, monotonic milliseconds of the last write. */
  readonly #writtenAt = new Map<string, number>();
  #unsubscribe: (() => void) | undefined;

  constructor(options: QuotaControllerOptions) {
    const { assignments, clock, logger, metrics, quotas, workers } = options;
    this.#options = options;
    this.book = new QuotaBook({ quotas: quotas.cache, workers: workers.cache, assignments });
    const reconcile = (key: string, call: CallOptions): Promise<ReconcileResult> => this.reconcile(key, call);
    this.#queue = createReconciler({ name: 'quotas', workers: 1, reconcile, logger, clock, metrics });
  }

  /** Call it before anything is assigned. */
  start(): void {
    this.#unsubscribe = this.#options.quotas.subscribe((change) => this.#quotaChanged(change));
    this.#queue.start();
  }

  async stop(): Promise<void> {
    this.#unsubscribe?.();
    await this.#queue.stop();
  }

  /**
   * Takes in a change of a worker, after the assignment cache has it.
   *
   * @param before what the workers of its namespace had until then
   */
  noteWorker(change: CacheEvent<LambdaWorker>, before: Usage): void {
    const { namespace = '' } = change.object.metadata;
    if (!this.book.isBound(namespace)) {
      return;
    }
    const [old, present] =
      change.kind === 'updated'
        ? [change.old, change.object]
        : [undefined, change.kind === 'deleted' ? undefined : change.object];
    const isQueued = (worker: LambdaWorker | undefined): boolean =>
      worker !== undefined && queueIndex(worker).length > 0;
    const after = this.#options.assignments.usage(namespace);
    const hasRoom =
      after.memoryMiB < before.memoryMiB || after.milliCPU < before.milliCPU || after.workers < before.workers;
    const [had, has] = [old?.status?.assignment, present?.status?.assignment];
    const isNew = has === undefined && change.kind !== 'updated';
    // Those that leave the queue with a node, or a larger grant, have what they waited for.
    const isServed = has !== undefined && (had === undefined || !isSameGrant(had.granted, has.granted));
    const isGivenUp = (change.kind === 'deleted' || isQueued(old)) && !isQueued(present) && !isServed;
    const isNewlyQueued =
      isQueued(present) && (!isQueued(old) || present?.metadata.generation !== old?.metadata.generation);
    if (!isDeepStrictEqual(before, after) || isNew || isGivenUp || isNewlyQueued) {
      this.book.note(namespace);
    }
    if (hasRoom || isGivenUp) {
      this.#options.onRoom();
    }
    if (!isDeepStrictEqual(had, has) || hasRoom) {
      this.#look(namespace);
    }
  }

  #quotaChanged(change: CacheEvent<LambdaQuota>): void {
    const { object } = change;
    const { namespace = '' } = object.metadata;
    if (change.kind === 'updated' && change.old.metadata.generation === object.metadata.generation) {
      return;
    }
    this.book.note(namespace);
    this.#options.onBounds(namespace);
    this.#look(namespace);
    if (change.kind === 'deleted') {
      this.#writtenAt.delete(keyText(objectKey(object)));
    }
  }

  #look(namespace: string): void {
    for (const quota of this.#options.quotas.cache.byIndex(QUOTA_INDEX, namespace)) {
      this.#queue.add(keyText(objectKey(quota)));
    }
  }

  /** Errors are those of the API server; the quota is then looked at again after a growing wait. */
  async reconcile(key: string, call: CallOptions): Promise<ReconcileResult> {
    const { assignments, client, clock, quotas } = this.#options;
    const quota = quotas.cache.get(parseKeyText(key));
    if (quota === undefined) {
      return {};
    }
    const status = statusOf(quota, assignments.usage(quota.metadata.namespace ?? ''));
    if (isDeepStrictEqual(status, quota.status)) {
      return {};
    }
    const at = this.#writtenAt.get(key);
    const leftMs = at === undefined ? 0 : at + WRITE_EVERY_MS - clock.monotonic();
    if (leftMs > 0) {
      return { requeueAfterMs: leftMs };
    }
    this.#writtenAt.set(key, clock.monotonic());
    try {
      const body = { metadata: { uid: quota.metadata.uid }, status: replacing(quota.status, status) };
      await client.patch(lambdaQuotas, objectKey(quota), { kind: 'merge', body }, { ...call, subresource: 'status' });
    } catch (error) {
      if (!hasCode(error, 'NotFound') && !hasCode(error, 'Conflict')) {
        throw error;
      }
    }
    // Until the cache shows what was written.
    return { requeueAfterMs: WRITE_EVERY_MS };
  }
}

/** A merge patch leaves what it does not name: resources that are bounded no longer are named as nothing. */
function replacing(present: LambdaQuota['status'], next: NonNullable<LambdaQuota['status']>): object {
  const gone = (before: object = {}) => Object.fromEntries(Object.keys(before).map((name) => [name, null]));
  return { ...next, hard: { ...gone(present?.hard), ...next.hard }, used: { ...gone(present?.used), ...next.used } };
}
