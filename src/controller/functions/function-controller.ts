import { isDeepStrictEqual } from 'node:util';
import { type EventReason, findCondition, workerConditions } from '../../api/condition.ts';
import {
  FUNCTION_LABEL,
  functionOwnerOf,
  type LambdaFunction,
  lambdaFunctions,
  TEMPLATE_ANNOTATION,
  templateHashOf,
  workerOf,
} from '../../api/lambda-function.ts';
import { type LambdaWorker, lambdaWorkers } from '../../api/lambda-worker.ts';
import { fieldManagers } from '../../api/name.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { hasCode, messageOf, unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { keyText, objectKey, parseKeyText } from '../../kube/api/object-key.ts';
import type { CacheEvent, Informer, KubeClient } from '../../kube/api/types.ts';
import {
  createReconciler,
  type ReconcileResult,
  type Reconciler,
  type ReconcilerMetrics,
} from '../../kube/controller/reconciler.ts';
import type { EventSink } from '../../kube/events/event-recorder.ts';
import { referenceTo } from '../../kube/events/event-series.ts';
import { changeOf, statusOf } from './function-status.ts';
import { type FunctionStep, planFunction } from './plan.ts';

/** Index of the workers' cache: by namespace and name of the LambdaFunction that owns them. */
export const OWNER_INDEX = 'function-owner';

export function ownerIndex({ metadata }: LambdaWorker): readonly string[] {
  const owner = functionOwnerOf(metadata);
  return owner === undefined ? [] : [keyText({ namespace: metadata.namespace, name: owner.name })];
}

/** Functions at a time. */
const CONCURRENCY = 4;
/** Writes at a time for one function. */
const WRITES = 16;
/** Least milliseconds between two writes of a status whose numbers alone change. */
const NUMBERS_EVERY_MS = 30_000;
/** Milliseconds until a worker that the API server has refused is tried again. */
const REFUSED_RETRY_MS = 30_000;
/** Milliseconds until the cache should have caught up; its event usually comes first. */
const CACHE_REQUEUE_MS = 500;

export interface FunctionControllerOptions {
  readonly client: KubeClient;
  /** Synced. */
  readonly functions: Informer<LambdaFunction>;
  /** Synced; {@link OWNER_INDEX} is among its indexes. */
  readonly workers: Pick<Informer<LambdaWorker>, 'cache'>;
  readonly events: EventSink<EventReason>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: ReconcilerMetrics;
}

/** The outcome of the steps of one round. */
interface Round {
  /** Words of the API server for the worker that it did not take. */
  refusal?: string;
  /** Whether the cache is behind, so that the next round has other steps. */
  isBehind: boolean;
  readonly created: string[];
  readonly deleted: string[];
}

/** Keeps the workers of each LambdaFunction, and removes those whose function is gone. */
export class FunctionController {
  readonly #options: FunctionControllerOptions;
  readonly #queue: Reconciler;
  /** By key of a function, monotonic milliseconds of the last write of its status. */
  readonly #writtenAt = new Map<string, number>();
  /** Uids of workers that were deleted and that the cache may still show as they were. */
  readonly #deleted = new Set<string>();
  #unsubscribe: (() => void) | undefined;

  constructor(options: FunctionControllerOptions) {
    const { clock, logger, metrics } = options;
    this.#options = options;
    const reconcile = (key: string, call: CallOptions): Promise<ReconcileResult> => this.reconcile(key, call);
    this.#queue = createReconciler({ name: 'functions', workers: CONCURRENCY, reconcile, logger, clock, metrics });
  }

  start(): void {
    this.#unsubscribe = this.#options.functions.subscribe((change) => {
      const key = keyText(objectKey(change.object));
      if (change.kind === 'deleted') {
        this.#writtenAt.delete(key);
      }
      this.#queue.add(key);
    });
    this.#queue.start();
  }

  async stop(): Promise<void> {
    this.#unsubscribe?.();
    await this.#queue.stop();
  }

  /** Takes in a change of a worker. */
  noteWorker(change: CacheEvent<LambdaWorker>): void {
    const keys = ownerIndex(change.object);
    if (change.kind === 'deleted') {
      this.#deleted.delete(change.object.metadata.uid ?? '');
    }
    const isSame = change.kind === 'updated' && isDeepStrictEqual(traitsOf(change.old), traitsOf(change.object));
    for (const key of isSame ? [] : new Set([...keys, ...(change.kind === 'updated' ? ownerIndex(change.old) : [])])) {
      this.#queue.add(key);
    }
  }

  /** Errors are those of the API server; the function is then looked at again after a growing wait. */
  async reconcile(key: string, call: CallOptions): Promise<ReconcileResult> {
    const { functions, workers } = this.#options;
    const owner = functions.cache.get(parseKeyText(key));
    const all = workers.cache.byIndex(OWNER_INDEX, key);
    const uid = owner?.metadata.uid;
    const strays = all.filter((worker) => isLiving(worker) && functionOwnerOf(worker.metadata)?.uid !== uid);
    const isBehind = strays.length > 0 && !(await this.#removeStrays(key, strays, call));
    if (owner === undefined) {
      return isBehind ? { requeueAfterMs: CACHE_REQUEUE_MS } : {};
    }
    const template = templateHashOf(owner);
    const owned = all.filter(
      ({ metadata }) => functionOwnerOf(metadata)?.uid === uid && !this.#deleted.has(metadata.uid ?? ''),
    );
    const { namespace } = owner.metadata;
    const isTaken = (name: string): boolean => workers.cache.get({ namespace, name }) !== undefined;
    const round = await this.#carryOut(owner, template, planFunction({ owner, template, owned, isTaken }), call);
    const waitMs = await this.#tell(key, owner, { template, owned, refusal: round.refusal }, call);
    const waits = [
      ...(waitMs === undefined ? [] : [waitMs]),
      ...(round.refusal === undefined ? [] : [REFUSED_RETRY_MS]),
      ...(round.isBehind || isBehind ? [CACHE_REQUEUE_MS] : []),
    ];
    return waits.length === 0 ? {} : { requeueAfterMs: Math.min(...waits) };
  }

  /** Carries out the steps, some at a time. Ends with the first that the API server refuses. */
  async #carryOut(
    owner: LambdaFunction,
    template: string,
    steps: readonly FunctionStep[],
    call: CallOptions,
  ): Promise<Round> {
    const round: Round = { isBehind: false, created: [], deleted: [] };
    for (let from = 0; from < steps.length && round.refusal === undefined; from += WRITES) {
      await Promise.all(
        steps.slice(from, from + WRITES).map(async (step) => {
          try {
            await this.#act(owner, template, step, round, call);
          } catch (error) {
            if (hasCode(error, 'Forbidden') || hasCode(error, 'Invalid')) {
              round.refusal ??= messageOf(error);
            } else if (hasCode(error, 'AlreadyExists') || hasCode(error, 'Conflict') || hasCode(error, 'NotFound')) {
              round.isBehind = true;
            } else {
              throw error;
            }
          }
        }),
      );
    }
    this.#report(owner, round);
    return round;
  }

  async #act(
    owner: LambdaFunction,
    template: string,
    step: FunctionStep,
    round: Round,
    call: CallOptions,
  ): Promise<void> {
    const { client } = this.#options;
    switch (step.kind) {
      case 'create':
        await client.create(lambdaWorkers, workerOf(owner, step.name, template), call);
        round.created.push(step.name);
        return;
      case 'delete':
        await client.delete(lambdaWorkers, objectKey(step.worker), { ...call, uid: step.worker.metadata.uid });
        this.#deleted.add(step.worker.metadata.uid ?? '');
        round.deleted.push(step.worker.metadata.name);
        return;
      case 'update':
        await this.#update(owner, template, step.worker, call);
        return;
      default:
        unreachable(step);
    }
  }

  /** Writes the template over the spec of a worker. The cache has no whole spec, so the worker is read first. */
  async #update(owner: LambdaFunction, template: string, seen: LambdaWorker, call: CallOptions): Promise<void> {
    const { client } = this.#options;
    const worker = await client.get(lambdaWorkers, objectKey(seen), call);
    if (worker === undefined || functionOwnerOf(worker.metadata)?.uid !== owner.metadata.uid || !isLiving(worker)) {
      return;
    }
    const { labels, annotations, ...metadata } = worker.metadata;
    const wanted = workerOf(owner, metadata.name, template);
    if (annotations?.[TEMPLATE_ANNOTATION] === template) {
      return;
    }
    const next: LambdaWorker = {
      ...wanted,
      metadata: {
        ...metadata,
        labels: { ...labels, [FUNCTION_LABEL]: owner.metadata.name },
        annotations: { ...annotations, [TEMPLATE_ANNOTATION]: template },
      },
    };
    await client.update(lambdaWorkers, next, call);
  }

  /**
   * Deletes workers whose function is gone, or was made again under its name.
   *
   * @returns whether all of them are dealt with
   */
  async #removeStrays(key: string, strays: readonly LambdaWorker[], call: CallOptions): Promise<boolean> {
    const { client, logger } = this.#options;
    const owner = await client.get(lambdaFunctions, parseKeyText(key), call);
    let isDone = true;
    for (const stray of strays) {
      // Read past the cache: the garbage collector takes the reference of an orphan away before its owner goes.
      const worker = await client.get(lambdaWorkers, objectKey(stray), call);
      const uid = worker && functionOwnerOf(worker.metadata)?.uid;
      if (worker === undefined || worker.metadata.uid !== stray.metadata.uid || uid === undefined) {
        continue;
      }
      if (uid === owner?.metadata.uid) {
        isDone = false;
        continue;
      }
      await client.delete(lambdaWorkers, objectKey(stray), { ...call, uid: stray.metadata.uid });
      logger.info({ worker: keyText(objectKey(stray)), function: key }, 'worker deleted, since its function is gone');
    }
    return isDone;
  }

  /** Writes the status where it is new; returns the milliseconds to wait where it may not be written yet. */
  async #tell(
    key: string,
    owner: LambdaFunction,
    found: Omit<Parameters<typeof statusOf>[0], 'owner'>,
    call: CallOptions,
  ): Promise<number | undefined> {
    const { client, clock } = this.#options;
    const status = statusOf({ owner, ...found }, clock.now());
    const change = changeOf(owner.status, status);
    if (change === 'none') {
      return undefined;
    }
    const at = this.#writtenAt.get(key);
    const leftMs = change === 'conditions' || at === undefined ? 0 : at + NUMBERS_EVERY_MS - clock.monotonic();
    if (leftMs > 0) {
      return leftMs;
    }
    this.#writtenAt.set(key, clock.monotonic());
    const body = { metadata: { uid: owner.metadata.uid }, status };
    const patch = { kind: 'merge', body, fieldManager: fieldManagers.controller } as const;
    try {
      await client.patch(lambdaFunctions, objectKey(owner), patch, { ...call, subresource: 'status' });
    } catch (error) {
      if (!hasCode(error, 'NotFound') && !hasCode(error, 'Conflict')) {
        throw error;
      }
    }
    return undefined;
  }

  #report(owner: LambdaFunction, { created, deleted, refusal }: Round): void {
    const { events, logger } = this.#options;
    const regarding = referenceTo(lambdaFunctions, owner);
    const changes = [
      ...(created.length === 0 ? [] : [`created ${listed(created)}`]),
      ...(deleted.length === 0 ? [] : [`deleted ${listed(deleted)}`]),
    ];
    if (changes.length > 0) {
      const note = changes.join(', ');
      logger.info({ function: keyText(objectKey(owner)), note }, 'workers of a function changed');
      events.record({ regarding, type: 'Normal', reason: 'Scaled', action: 'Scale', note });
    }
    if (refusal !== undefined) {
      events.record({ regarding, type: 'Warning', reason: 'WorkerRefused', action: 'Scale', note: refusal });
    }
  }
}

/** Some names, and how many more there are. */
function listed(names: readonly string[]): string {
  const shown = names.slice(0, 3).join(', ');
  return names.length <= 3 ? shown : `${shown} and ${names.length - 3} more`;
}

function isLiving({ metadata }: LambdaWorker): boolean {
  return metadata.deletionTimestamp === undefined;
}

/** Facts of a worker that its function goes by; a pause or a wake is no such fact. */
function traitsOf({ metadata, status }: LambdaWorker): unknown {
  const stalled = findCondition(status?.conditions, workerConditions.stalled);
  return [
    functionOwnerOf(metadata),
    metadata.deletionTimestamp,
    metadata.generation,
    metadata.annotations?.[TEMPLATE_ANNOTATION],
    status?.observedGeneration,
    findCondition(status?.conditions, workerConditions.ready)?.status,
    [stalled?.status, stalled?.reason, stalled?.message],
  ];
}
