import { isDeepStrictEqual } from 'node:util';
import { type EventReason, findCondition, workerConditions } from '../../api/condition.ts';
import {
  calledNameOf,
  FUNCTION_LABEL,
  functionOwnerOf,
  type LambdaFunction,
  lambdaFunctions,
  TEMPLATE_ANNOTATION,
  templateHashOf,
  workerOf,
} from '../../api/lambda-function.ts';
import { functionNameOf, type LambdaWorker, lambdaWorkers } from '../../api/lambda-worker.ts';
import { fieldManagers } from '../../api/name.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { hasCode, unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { mayBeWritten } from '../../kube/api/api-error.ts';
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
import { changeOf, type StatusInput, statusOf } from './function-status.ts';
import { isOnLostNode, isUpdated, isWorkerReady, livingOf, planFunction } from './plan.ts';
import { inTurns, type WriteOutcome } from './write-outcome.ts';

/** Index of the workers' cache: by namespace and name of the LambdaFunction that owns them. */
export const OWNER_INDEX = 'function-owner';

export function ownerIndex({ metadata }: LambdaWorker): readonly string[] {
  const owner = functionOwnerOf(metadata);
  return owner === undefined ? [] : [keyText({ namespace: metadata.namespace, name: owner.name })];
}

/** Functions at a time. */
const CONCURRENCY = 4;
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

/** Keeps the workers of each LambdaFunction, and removes those whose function is gone. */
export class FunctionController {
  readonly #options: FunctionControllerOptions;
  readonly #queue: Reconciler;
  /** By key of a function, monotonic milliseconds of the last write of its status. */
  readonly #writtenAt = new Map<string, number>();
  /** By key of a function, names of workers that were created and that the cache may not show yet. */
  readonly #created = new Map<string, Set<string>>();
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
    const outcomes: WriteOutcome[] = strays.length === 0 ? [] : await this.#removeStrays(key, strays, call);
    let waitMs: number | undefined;
    if (owner === undefined) {
      this.#created.delete(key);
    } else if (await this.#lacksCreated(key, call)) {
      outcomes.push({ kind: 'behind' });
    } else {
      const template = templateHashOf(owner);
      const owned = all.filter((worker) => isOwned(worker, owner));
      const carried = await this.#carryOut(key, owner, template, owned, call);
      outcomes.push(...carried);
      waitMs = await this.#tell(key, { owner, template, owned, refusal: refusalIn(carried) }, call);
    }
    const failure = outcomes.find((outcome) => outcome.kind === 'failed');
    if (failure !== undefined) {
      throw failure.error;
    }
    const waits = [
      ...(waitMs === undefined ? [] : [waitMs]),
      ...(outcomes.some(({ kind }) => kind === 'refused') ? [REFUSED_RETRY_MS] : []),
      ...(outcomes.some(({ kind }) => kind === 'behind') ? [CACHE_REQUEUE_MS] : []),
    ];
    return waits.length === 0 ? {} : { requeueAfterMs: Math.min(...waits) };
  }

  /** Whether the API server has a worker that was created and that the cache does not show. */
  async #lacksCreated(key: string, call: CallOptions): Promise<boolean> {
    const { client, workers } = this.#options;
    const { namespace } = parseKeyText(key);
    const names = this.#created.get(key) ?? new Set();
    for (const name of names) {
      const isSeen = workers.cache.get({ namespace, name }) !== undefined;
      if (!isSeen && (await client.get(lambdaWorkers, { namespace, name }, call)) !== undefined) {
        return true;
      }
      names.delete(name);
    }
    this.#created.delete(key);
    return false;
  }

  /** Carries out the steps that come next. */
  async #carryOut(
    key: string,
    owner: LambdaFunction,
    template: string,
    owned: readonly LambdaWorker[],
    call: CallOptions,
  ): Promise<WriteOutcome[]> {
    const { workers } = this.#options;
    const { namespace } = owner.metadata;
    const isTaken = (name: string): boolean => workers.cache.get({ namespace, name }) !== undefined;
    const steps = Map.groupBy(planFunction({ owner, template, owned, isTaken }), ({ kind }) => kind);
    const leaving = steps.get('delete')?.length ?? 0;
    const living = livingOf(owned);
    // Those that stay are counted past the cache: it may not show yet that others went, by a leader before.
    if (leaving > 0 && leaving < living.length && !(await this.#areLiving(living, owner, call))) {
      return [{ kind: 'behind' }];
    }
    const created: string[] = [];
    const deleted: string[] = [];
    const outcomes: WriteOutcome[] = [];
    for (const ofKind of steps.values()) {
      outcomes.push(
        ...(await inTurns(ofKind, async (step) => {
          switch (step.kind) {
            case 'create':
              await this.#create(key, workerOf(owner, step.name, template), call);
              created.push(step.name);
              return undefined;
            case 'delete':
              await this.#delete(step.worker, call);
              deleted.push(step.worker.metadata.name);
              return undefined;
            case 'update':
              return await this.#update(owner, template, step.worker, call);
            default:
              return unreachable(step);
          }
        })),
      );
    }
    this.#report(owner, created, deleted, refusalIn(outcomes));
    return outcomes;
  }

  /** Whether the API server has these workers of a function as the cache shows them: as such that stay. */
  async #areLiving(workers: readonly LambdaWorker[], owner: LambdaFunction, call: CallOptions): Promise<boolean> {
    const { client } = this.#options;
    const outcomes = await inTurns(workers, async (seen) => {
      const worker = await client.get(lambdaWorkers, objectKey(seen), call);
      const isSame = worker?.metadata.uid === seen.metadata.uid;
      return worker !== undefined && isSame && isLiving(worker) && isOwned(worker, owner) ? undefined : 'behind';
    });
    return outcomes.every(({ kind }) => kind === 'done');
  }

  async #create(key: string, worker: LambdaWorker, call: CallOptions): Promise<void> {
    const { name } = worker.metadata;
    const names = this.#created.get(key) ?? new Set();
    this.#created.set(key, names.add(name));
    try {
      await this.#options.client.create(lambdaWorkers, worker, call);
    } catch (error) {
      if (!mayBeWritten(error)) {
        names.delete(name);
      }
      throw error;
    }
  }

  async #delete(worker: LambdaWorker, call: CallOptions): Promise<void> {
    await this.#options.client.delete(lambdaWorkers, objectKey(worker), { ...call, uid: worker.metadata.uid });
  }

  /** Writes the template over the spec of a worker. The cache has no whole spec, so the worker is read first. */
  async #update(
    owner: LambdaFunction,
    template: string,
    seen: LambdaWorker,
    call: CallOptions,
  ): Promise<'behind' | undefined> {
    const { client } = this.#options;
    const worker = await client.get(lambdaWorkers, objectKey(seen), call);
    if (worker === undefined || !isOwned(worker, owner) || !isLiving(worker) || isUpdated(worker, template)) {
      return undefined;
    }
    // One that has become ready waits for its turn.
    if (isWorkerReady(worker) && !isWorkerReady(seen)) {
      return 'behind';
    }
    const { labels, annotations, ...metadata } = worker.metadata;
    const next: LambdaWorker = {
      ...workerOf(owner, metadata.name, template),
      metadata: {
        ...metadata,
        labels: { ...labels, [FUNCTION_LABEL]: owner.metadata.name },
        annotations: { ...annotations, [TEMPLATE_ANNOTATION]: template },
      },
    };
    await client.update(lambdaWorkers, next, call);
    return undefined;
  }

  /** Deletes workers whose function is gone, or was made again under its name. */
  async #removeStrays(key: string, strays: readonly LambdaWorker[], call: CallOptions): Promise<WriteOutcome[]> {
    const { client, logger } = this.#options;
    const owner = await client.get(lambdaFunctions, parseKeyText(key), call);
    return await inTurns(strays, async (stray) => {
      // Read past the cache: the garbage collector takes the reference of an orphan away before its owner goes.
      const worker = await client.get(lambdaWorkers, objectKey(stray), call);
      const uid = worker && functionOwnerOf(worker.metadata)?.uid;
      if (worker === undefined || worker.metadata.uid !== stray.metadata.uid || uid === undefined) {
        return undefined;
      }
      if (uid === owner?.metadata.uid) {
        return 'behind';
      }
      await this.#delete(stray, call);
      logger.info({ worker: keyText(objectKey(stray)), function: key }, 'worker deleted, since its function is gone');
      return undefined;
    });
  }

  /** Writes the status where it is new; returns the milliseconds to wait where it may not be written yet. */
  async #tell(key: string, found: StatusInput, call: CallOptions): Promise<number | undefined> {
    const { client, clock } = this.#options;
    const { owner } = found;
    const status = statusOf(found, clock.now());
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

  #report(
    owner: LambdaFunction,
    created: readonly string[],
    deleted: readonly string[],
    refusal: string | undefined,
  ): void {
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

function refusalIn(outcomes: readonly WriteOutcome[]): string | undefined {
  return outcomes.find((outcome) => outcome.kind === 'refused')?.message;
}

/** Some names, and how many more there are. */
function listed(names: readonly string[]): string {
  const shown = names.slice(0, 3).join(', ');
  return names.length <= 3 ? shown : `${shown} and ${names.length - 3} more`;
}

function isLiving({ metadata }: LambdaWorker): boolean {
  return metadata.deletionTimestamp === undefined;
}

/** Whether a worker is one of those that a function keeps: by the uid, and of the same name for callers. */
function isOwned(worker: LambdaWorker, owner: LambdaFunction): boolean {
  const { uid } = functionOwnerOf(worker.metadata) ?? {};
  return uid !== undefined && uid === owner.metadata.uid && functionNameOf(worker) === calledNameOf(owner);
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
    findCondition(status?.conditions, workerConditions.ready)?.status,
    isOnLostNode(worker),
    [stalled?.status, stalled?.reason, stalled?.message],
  ];
}
