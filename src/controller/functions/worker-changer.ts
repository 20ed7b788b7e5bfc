import {
  FUNCTION_LABEL,
  type LambdaFunction,
  lambdaFunctions,
  TURN_ANNOTATION,
  workerOf,
} from '../../api/lambda-function.ts';
import { type LambdaWorker, lambdaWorkers } from '../../api/lambda-worker.ts';
import { fieldManagers } from '../../api/name.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { keyText, objectKey } from '../../kube/api/object-key.ts';
import type { Informer, KubeClient } from '../../kube/api/types.ts';
import { isOwned } from './owner-index.ts';
import type { UpdateStep } from './plan.ts';
import { isLiving, isUpdated, isWorkerReady } from './readiness.ts';
import type { WorkerGroup } from './worker-groups.ts';
import { inTurns, outcomeOf, type WriteOutcome } from './write-outcome.ts';

export interface WorkerChangerOptions {
  readonly client: Pick<KubeClient, 'get' | 'patch' | 'update'>;
  readonly workers: Pick<Informer<LambdaWorker>, 'cache'>;
}

/** A worker as the API server had it after its turn; undefined where it had none. */
type Found = Pick<LambdaWorker['metadata'], 'generation' | 'uid'> | undefined;

/**
 * Gives workers the present template of their function.
 *
 * Workers that serve have turns. Each turn is written into `status.changing` of the function before the worker is changed,
 * with the resourceVersion of the function as a precondition. None follows before this leader has read or changed all
 * workers that have one, and its cache shows them so: changes of the leader before are counted, whether they have arrived or
 * not. One that arrives later is refused, since it bears an earlier resourceVersion of its worker.
 */
export class WorkerChanger {
  readonly #options: WorkerChangerOptions;
  /** By key of a function and name of a worker. */
  readonly #found = new Map<string, Map<string, Found>>();

  constructor(options: WorkerChangerOptions) {
    this.#options = options;
  }

  /** The function is gone. */
  forget(key: string): void {
    this.#found.delete(key);
  }

  /** Changes a worker that does not serve, unless it has come to serve: it then waits for its turn. */
  async changeAtOnce(
    owner: LambdaFunction,
    groups: readonly WorkerGroup[],
    { worker }: UpdateStep,
    call: CallOptions,
  ): Promise<'behind' | undefined> {
    return await this.#change(owner, groups, worker.metadata.name, 'at once', call);
  }

  /**
   * Gives these workers their turns, and changes them. Where it is not known what became of earlier turns, those come
   * first, and the steps wait. Without a step, turns whose workers need no change are looked after.
   *
   * @returns the function with the turns, and the outcomes
   */
  async changeInTurn(
    owner: LambdaFunction,
    groups: readonly WorkerGroup[],
    steps: readonly UpdateStep[],
    call: CallOptions,
  ): Promise<{ readonly owner: LambdaFunction; readonly outcomes: readonly WriteOutcome[] }> {
    const unknown = this.#unknown(owner);
    if (steps.length === 0) {
      const over = unknown.filter((name) => this.#isOver(owner, groups, name));
      return { owner, outcomes: await inTurns(over, (name) => this.#change(owner, groups, name, 'at once', call)) };
    }
    const change = async (name: string) => await this.#change(owner, groups, name, 'turn', call);
    try {
      if (unknown.length > 0 && !(await this.#isAsCached(owner, call))) {
        // The turns may be over, and others given.
        return { owner, outcomes: [{ kind: 'behind' }] };
      }
      if (unknown.length > 0 || !this.#areSeen(owner)) {
        return { owner, outcomes: [{ kind: 'behind' }, ...(await inTurns(unknown.slice(0, steps.length), change))] };
      }
      const names = steps.map(({ worker }) => worker.metadata.name);
      const written = await this.#giveTurns(owner, names, call);
      return { owner: written, outcomes: await inTurns(names, change) };
    } catch (error) {
      return { owner, outcomes: [outcomeOf(error)] };
    }
  }

  /** Whether all turns are over, as far as this leader knows. */
  isAtRest(owner: LambdaFunction): boolean {
    return this.#areSeen(owner) && this.#changing(owner).length === 0;
  }

  /** Writes the template over the spec of a worker. The cache has no whole spec, so the worker is read first. */
  async #change(
    owner: LambdaFunction,
    groups: readonly WorkerGroup[],
    name: string,
    when: 'at once' | 'turn',
    call: CallOptions,
  ): Promise<'behind' | undefined> {
    const { client } = this.#options;
    const worker = await client.get(lambdaWorkers, { namespace: owner.metadata.namespace, name }, call);
    const source = groups.find((group) => group.source.version === worker?.spec.version)?.source;
    const isOurs = worker !== undefined && isOwned(worker, owner) && isLiving(worker);
    if (!isOurs || source === undefined) {
      this.#note(owner, name, worker);
      return undefined;
    }
    const { labels, annotations, ...metadata } = worker.metadata;
    if (isUpdated(worker, source.hash)) {
      // A leader before may have begun to change it, for a template that is taken back: after this write, that fails.
      const isDoubtful = isWorkerReady(worker);
      const mark = { [TURN_ANNOTATION]: owner.metadata.resourceVersion ?? '' };
      const marked = { ...worker, metadata: { ...worker.metadata, annotations: { ...annotations, ...mark } } };
      this.#note(owner, name, isDoubtful ? await client.update(lambdaWorkers, marked, call) : worker);
      return undefined;
    }
    if (when === 'at once' && isWorkerReady(worker)) {
      return 'behind';
    }
    const made = workerOf(owner, metadata.name, source);
    const next: LambdaWorker = {
      ...made,
      metadata: {
        ...metadata,
        labels: { ...labels, [FUNCTION_LABEL]: owner.metadata.name },
        annotations: { ...annotations, ...made.metadata.annotations },
      },
    };
    this.#note(owner, name, await client.update(lambdaWorkers, next, call));
    return undefined;
  }

  /** Writes down the turns, beside those of workers that are still changing. */
  async #giveTurns(owner: LambdaFunction, names: readonly string[], call: CallOptions): Promise<LambdaFunction> {
    const { resourceVersion, uid } = owner.metadata;
    const still = this.#changing(owner).filter((name) => !names.includes(name));
    const body = { metadata: { uid, resourceVersion }, status: { changing: [...still, ...names] } };
    const patch = { kind: 'merge', body, fieldManager: fieldManagers.controller } as const;
    const options = { ...call, subresource: 'status' } as const;
    const written = await this.#options.client.patch(lambdaFunctions, objectKey(owner), patch, options);
    const key = keyText(objectKey(owner));
    const found = this.#found.get(key);
    this.#found.set(key, new Map(still.map((name) => [name, found?.get(name)])));
    return written;
  }

  #note(owner: LambdaFunction, name: string, worker: LambdaWorker | undefined): void {
    const key = keyText(objectKey(owner));
    const found = this.#found.get(key) ?? new Map<string, Found>();
    const { generation, uid } = worker?.metadata ?? {};
    this.#found.set(key, found.set(name, worker === undefined ? undefined : { generation, uid }));
  }

  /** Names of workers that had a turn, and that were not read or changed since then by this leader. */
  #unknown(owner: LambdaFunction): readonly string[] {
    const found = this.#found.get(keyText(objectKey(owner)));
    return turnsOf(owner).filter(
      (name) => found?.has(name) !== true || found.get(name)?.uid !== this.#cached(owner, name)?.metadata.uid,
    );
  }

  /** Whether the cache shows no worker of this name that the template is still to come to. */
  #isOver(owner: LambdaFunction, groups: readonly WorkerGroup[], name: string): boolean {
    const worker = this.#cached(owner, name);
    const source = groups.find((group) => group.source.version === worker?.spec.version)?.source;
    return worker === undefined || source === undefined || isUpdated(worker, source.hash);
  }

  /** Whether the API server has the function as the cache does. */
  async #isAsCached({ metadata }: LambdaFunction, call: CallOptions): Promise<boolean> {
    const present = await this.#options.client.get(lambdaFunctions, objectKey({ metadata }), call);
    return present?.metadata.uid === metadata.uid && present?.metadata.resourceVersion === metadata.resourceVersion;
  }

  /** Whether the cache shows all workers that had a turn as they are after it. */
  #areSeen(owner: LambdaFunction): boolean {
    const found = this.#found.get(keyText(objectKey(owner)));
    const isSeen = (name: string): boolean =>
      (this.#cached(owner, name)?.metadata.generation ?? 0) >= (found?.get(name)?.generation ?? 0);
    return this.#unknown(owner).length === 0 && turnsOf(owner).every(isSeen);
  }

  /** Names of workers that had a turn and are not ready again. */
  #changing(owner: LambdaFunction): readonly string[] {
    return turnsOf(owner).filter((name) => {
      const worker = this.#cached(owner, name);
      return worker !== undefined && !isWorkerReady(worker);
    });
  }

  #cached({ metadata: { namespace } }: LambdaFunction, name: string): LambdaWorker | undefined {
    return this.#options.workers.cache.get({ namespace, name });
  }
}

function turnsOf({ status }: LambdaFunction): readonly string[] {
  return status?.changing ?? [];
}
