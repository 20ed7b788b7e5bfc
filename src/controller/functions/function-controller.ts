import { isDeepStrictEqual } from 'node:util';
import { type EventReason, findCondition, workerConditions } from '../../api/condition.ts';
import {
  functionOwnerOf,
  type LambdaFunction,
  lambdaFunctions,
  presentTemplateOf,
  TEMPLATE_ANNOTATION,
  workerOf,
} from '../../api/lambda-function.ts';
import type { LambdaVersion } from '../../api/lambda-version.ts';
import { type LambdaWorker, lambdaWorkers } from '../../api/lambda-worker.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import { keyText, objectKey, parseKeyText } from '../../kube/api/object-key.ts';
import type { CacheEvent, Informer, KubeClient, ObjectKey } from '../../kube/api/types.ts';
import {
  createReconciler,
  type ReconcileResult,
  type Reconciler,
  type ReconcilerMetrics,
} from '../../kube/controller/reconciler.ts';
import type { EventSink } from '../../kube/events/event-recorder.ts';
import { referenceTo } from '../../kube/events/event-series.ts';
import type { LoadBook, LoadChange } from '../load/load-book.ts';
import { changeOf, statusOf } from './function-status.ts';
import { isOwned, namesakesOf, OWNER_INDEX, orphanIndex, otherHolderOf, ownerIndex } from './owner-index.ts';
import { Pace } from './pace.ts';
import { type FunctionStep, planFunction, type UpdateStep } from './plan.ts';
import { type PublicationStep, planPublication } from './publication.ts';
import { isOnLostNode, isUpdated, livingOf } from './readiness.ts';
import { Refusals, refusalIn } from './refusal.ts';
import { RevisionKeeper } from './revision-keeper.ts';
import { formerTemplates, hasWorked, rolloutOf, serves, stopMessage, untilDeadline } from './rollout.ts';
import { Scaler } from './scaler.ts';
import { applySettings, lackingSettings } from './settings.ts';
import { StatusWriter } from './status-writer.ts';
import { removeStrays } from './strays.ts';
import { followUrls, type UrlSource, urlPolicyOf } from './url-source.ts';
import type { UrlPolicy } from './url-status.ts';
import { surplusVersions, VersionKeeper } from './version-keeper.ts';
import { WorkerChanger } from './worker-changer.ts';
import { groupsOf, latestOf, type WorkerGroup } from './worker-groups.ts';
import { inTurns, outcomeOf, type WriteOutcome } from './write-outcome.ts';

/** Functions at a time. */
const CONCURRENCY = 4;
/** Milliseconds until the cache should have caught up; its event usually comes first. */
const CACHE_REQUEUE_MS = 500;
/** Milliseconds until a function that has made or ended as many workers as it may is looked at again. */
const PACE_LOOK_MS = 1_000;

export interface FunctionControllerOptions {
  /** Writes through it show in the caches. */
  readonly client: KubeClient;
  /** Has the caches show what became of writes without an answer, to an object and to those that are named after it. */
  readonly settle: (key: ObjectKey, call: CallOptions) => Promise<void>;
  /** Synced; `CALLED_INDEX` is among its indexes. */
  readonly functions: Informer<LambdaFunction>;
  /** Synced; {@link OWNER_INDEX} is among its indexes. */
  readonly workers: Pick<Informer<LambdaWorker>, 'cache'>;
  /** Synced; `OWNER_INDEX` and `ORPHAN_INDEX` are among its indexes. */
  readonly versions: Informer<LambdaVersion>;
  /** The URLs of functions; none when absent. */
  readonly urls?: UrlSource | undefined;
  readonly load: Pick<LoadBook, 'calls' | 'isHeard'>;
  readonly events: EventSink<EventReason>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: ReconcilerMetrics;
}

/** Keeps the workers and versions of each LambdaFunction, and removes those whose function is gone. */
export class FunctionController {
  readonly #options: FunctionControllerOptions;
  readonly #versions: VersionKeeper;
  readonly #revisions: RevisionKeeper;
  readonly #changer: WorkerChanger;
  readonly #refusals: Refusals;
  /** Of workers that are made, and of those that leave. */
  readonly #growth: Pace;
  readonly #shrinking: Pace;
  readonly #queue: Reconciler;
  /** Functions whose template is to be kept: a new leader looks at each, and no scaling waits for that. */
  readonly #history: Reconciler;
  readonly #statuses: StatusWriter;
  readonly #urls: UrlPolicy;
  readonly #scaler: Scaler;
  #unsubscribe: readonly (() => void)[] = [];

  constructor(options: FunctionControllerOptions) {
    const { clock, logger, metrics } = options;
    this.#options = options;
    this.#statuses = new StatusWriter(options);
    this.#versions = new VersionKeeper({ ...options, statuses: this.#statuses });
    this.#revisions = new RevisionKeeper(options);
    this.#changer = new WorkerChanger(options);
    this.#refusals = new Refusals(clock);
    this.#growth = new Pace(clock);
    this.#shrinking = new Pace(clock);
    this.#urls = urlPolicyOf(options.urls);
    this.#scaler = new Scaler(options);
    const reconcile = (key: string, call: CallOptions): Promise<ReconcileResult> => this.reconcile(key, call);
    this.#queue = createReconciler({ name: 'functions', workers: CONCURRENCY, reconcile, logger, clock, metrics });
    const keep = (key: string, call: CallOptions): Promise<ReconcileResult> => this.keepTemplate(key, call);
    this.#history = createReconciler({ name: 'revisions', workers: 1, reconcile: keep, logger, clock, metrics });
  }

  start(): void {
    const { functions, urls, versions } = this.#options;
    this.#unsubscribe = [
      functions.subscribe((change) => {
        if (change.kind === 'deleted') {
          this.#statuses.forget(change.object);
          this.#revisions.noteGone(change.object);
        }
        this.#queue.add(keyText(objectKey(change.object)));
        for (const other of change.kind === 'updated' ? [] : namesakesOf(change.object, functions)) {
          this.#queue.add(keyText(objectKey(other)));
        }
      }),
      versions.subscribe(({ kind, object }) => {
        if (kind === 'deleted') {
          this.#statuses.forget(object);
        }
        for (const key of [...ownerIndex(object), ...orphanIndex(object)]) {
          this.#queue.add(key);
        }
      }),
      ...(urls === undefined ? [] : [followUrls(urls, functions, (key) => this.#queue.add(key))]),
    ];
    this.#queue.start();
    this.#history.start();
  }

  async stop(): Promise<void> {
    for (const end of this.#unsubscribe) {
      end();
    }
    await Promise.all([this.#queue.stop(), this.#history.stop()]);
  }

  /** Takes in a change of a worker. */
  noteWorker(change: CacheEvent<LambdaWorker>): void {
    const keys = ownerIndex(change.object);
    const isSame = change.kind === 'updated' && isDeepStrictEqual(traitsOf(change.old), traitsOf(change.object));
    for (const key of isSame ? [] : new Set([...keys, ...(change.kind === 'updated' ? ownerIndex(change.old) : [])])) {
      this.#queue.add(key);
    }
  }

  /** Takes in a change of the calls of a function. */
  noteLoad(change: LoadChange): void {
    for (const { afterMs, key } of this.#scaler.record(change)) {
      this.#queue.addAfter(key, afterMs);
    }
  }

  /** Errors are those of the API server; the function is then looked at again after a growing wait. */
  async reconcile(key: string, call: CallOptions): Promise<ReconcileResult> {
    const { client, clock, events, functions, settle, workers } = this.#options;
    await settle(parseKeyText(key), call);
    const owner = functions.cache.get(parseKeyText(key));
    const all = workers.cache.byIndex(OWNER_INDEX, key);
    const uid = owner?.metadata.uid;
    const outcomes = [
      ...(await removeStrays(this.#options, lambdaWorkers, key, uid, all, call)),
      ...(await this.#versions.removeStrays(key, uid, call)),
      await this.#revisions.remove(key, call),
    ];
    const adopted = owner === undefined ? ({ kind: 'done' } as const) : await this.#adopt(owner, call);
    outcomes.push(adopted);
    const waits: (number | undefined)[] = [];
    if (owner === undefined) {
      this.#refusals.forget(key);
      this.#growth.forget(key);
      this.#shrinking.forget(key);
      this.#scaler.forget(key);
    } else if (adopted.kind !== 'behind') {
      const owned = workers.cache.byIndex(OWNER_INDEX, key).filter((worker) => isOwned(worker, owner));
      const template = presentTemplateOf(owner);
      const { living, ...known } = this.#versions.of(owner);
      const latest = livingOf(owned).filter(({ spec }) => spec.version === undefined);
      const holder = otherHolderOf(owner, functions);
      const publication =
        holder === undefined ? planPublication({ owner, template, latest, ...known }) : ({ kind: 'none' } as const);
      const isAwaited = publication.kind === 'wait';
      const fixed = groupsOf({ owner, template, versions: living, isAwaited });
      const { groups, isDeaf, lookAfterMs } = this.#scaler.apply(owner, fixed, livingOf(owned));
      waits.push(lookAfterMs);
      const { namespace } = owner.metadata;
      const isTaken = (name: string): boolean => workers.cache.get({ namespace, name }) !== undefined;
      const rollout = rolloutOf({ owner, groups, workers: latest }, clock.now());
      const former = formerTemplates({ owner, groups, workers: latest }, rollout);
      const isGrowing = latest.length < latestOf(groups).wanted;
      // The API server may take the one of before no more: the present one would have no worker to be tried by.
      const isBarred =
        this.#refusals.has(key, 'create', owner.metadata.generation) &&
        !latest.some((each) => isUpdated(each, template));
      const growth = isGrowing && !isBarred ? await this.#revisions.sourceOf(owner, former, call) : undefined;
      const isStopped = rollout.state === 'Stopped';
      const steps = planFunction({ owner, groups, owned, isTaken, isStopped, former, growth });
      const carriedOut = await this.#carryOut(key, owner, groups, steps, call);
      const { owner: present, outcomes: carried } = carriedOut;
      waits.push(carriedOut.lookAfterMs);
      const { generation } = owner.metadata;
      const set = await this.#refusals.attempt(
        { key, generation, kind: 'set' },
        lackingSettings(owner, groups, owned),
        (due) => applySettings(client, owner, groups, due, call),
      );
      const isWriting = publication.kind !== 'none' && publication.kind !== 'wait';
      const published = await this.#refusals.attempt(
        { key, generation, kind: 'publish' },
        isWriting ? [publication] : [],
        async () => [await this.#publish(present, publication, call)],
      );
      const isWorking = hasWorked({ groups, workers: latest }, rollout);
      const surplus = surplusVersions(present, living);
      const collected = await this.#refusals.attempt({ key, generation, kind: 'collect' }, surplus, async (some) =>
        (await this.#isAsSeen(present, call))
          ? await this.#versions.collect(present, some, call)
          : [{ kind: 'behind' }],
      );
      outcomes.push(
        ...carried,
        ...set,
        ...published,
        ...collected,
        await this.#revisions.prune(present, isWorking, call),
      );
      if (this.#revisions.isDue(present)) {
        this.#history.add(key);
      }
      const refused = refusalIn(owner, carried, 'WorkerRefused', events);
      const unset = refusalIn(owner, set, 'SettingsRefused', events);
      const unpublished = refusalIn(owner, published, 'VersionRefused', events);
      const toldVersions = await this.#versions.tell(
        { groups, owned, versions: living.filter((version) => !surplus.includes(version)), refusal: refused?.message },
        call,
      );
      const refusal = refused ?? unpublished ?? unset;
      const isPublishing = publication.kind !== 'none';
      const status = statusOf(
        { owner: present, groups, owned, refusal, isPublishing, urls: this.#urls, holder, isDeaf },
        clock.now(),
      );
      const areTurnsOver = present.status?.changing !== undefined && this.#changer.changing(present).length === 0;
      const changed = changeOf(present.status, status);
      const change = changed === 'none' && areTurnsOver ? 'numbers' : changed;
      // A merge takes away what is null.
      const told = {
        ...(present.status?.url === undefined ? {} : { url: null }),
        ...(areTurnsOver ? { changing: null } : {}),
        ...status,
      };
      // By what is written: the deadline may have passed while workers were changed.
      if (status.rollout?.state === 'Stopped' && present.status?.rollout?.state !== 'Stopped') {
        const regarding = referenceTo(lambdaFunctions, owner);
        const note = stopMessage({ owner, groups, workers: latest });
        const reason = 'ProgressDeadlineExceeded';
        events.record({ regarding, type: 'Warning', reason, action: 'Change', note });
      }
      waits.push(untilDeadline(rollout, owner.spec.rollout, clock.now()));
      waits.push(toldVersions, await this.#statuses.write(lambdaFunctions, present, told, change, call));
    }
    return this.#resultOf(outcomes, waits);
  }

  /** Carries out the steps that come next. */
  async #carryOut(
    key: string,
    owner: LambdaFunction,
    groups: readonly WorkerGroup[],
    planned: readonly FunctionStep[],
    call: CallOptions,
  ): Promise<{
    readonly owner: LambdaFunction;
    readonly outcomes: readonly WriteOutcome[];
    /** Milliseconds until further workers may be made, or may leave. */
    readonly lookAfterMs?: number;
  }> {
    const { client } = this.#options;
    const surplus = planned.filter((step) => step.kind === 'delete').map(({ worker }) => worker);
    const leaving = this.#shrinking.take(key, surplus);
    const wanted = planned.filter((step) => step.kind === 'create');
    const changing = planned.filter((step) => step.kind === 'update');
    const atOnce = changing.filter(({ isTurn }) => !isTurn);
    const turns = changing.filter(({ isTurn }) => isTurn);
    const created: string[] = [];
    const { generation } = owner.metadata;
    const create = async ({ name, source }: (typeof wanted)[number]): Promise<undefined> => {
      await client.create(lambdaWorkers, workerOf(owner, name, source), call);
      created.push(name);
    };
    let isPaced = leaving.length < surplus.length;
    const outcomes = [
      ...(await this.#refusals.attempt({ key, generation, kind: 'create' }, wanted, async (steps) => {
        // Not before: what waits for the end of a refusal takes no turn, and stays refused.
        const making = this.#growth.take(key, steps);
        isPaced ||= making.length < steps.length;
        return await inTurns(making, create);
      })),
    ];
    const deleted: string[] = [];
    const remove = async (worker: LambdaWorker): Promise<undefined> => {
      const { name, uid } = worker.metadata;
      await client.delete(lambdaWorkers, objectKey(worker), { ...call, uid });
      deleted.push(name);
    };
    outcomes.push(...(await inTurns(leaving, remove)));
    outcomes.push(
      ...(await this.#refusals.attempt({ key, generation, kind: 'change' }, atOnce, (steps) =>
        inTurns(steps, (step) => this.#changer.changeAtOnce(owner, groups, step, call)),
      )),
    );
    let present = owner;
    const takeTurns = async (steps: readonly UpdateStep[]): Promise<readonly WriteOutcome[]> => {
      const changed = await this.#changer.changeInTurn(owner, groups, steps, call);
      present = changed.owner;
      return changed.outcomes;
    };
    outcomes.push(...(await this.#refusals.attempt({ key, generation, kind: 'turn' }, turns, takeTurns)));
    this.#report(owner, created, deleted);
    return { owner: present, outcomes, ...(isPaced ? { lookAfterMs: PACE_LOOK_MS } : {}) };
  }

  /** Keeps the present template of a function as a ControllerRevision. Errors are those of the API server. */
  async keepTemplate(key: string, call: CallOptions): Promise<ReconcileResult> {
    const { events, functions } = this.#options;
    const owner = functions.cache.get(parseKeyText(key));
    if (owner === undefined) {
      return {};
    }
    const outcomes = await this.#refusals.attempt(
      { key, generation: owner.metadata.generation, kind: 'keep' },
      [owner],
      async () => [await this.#revisions.keep(owner, call)],
    );
    refusalIn(owner, outcomes, 'RevisionRefused', events);
    return this.#resultOf(outcomes, []);
  }

  /** When a key is looked at again; throws the first error among some outcomes. */
  #resultOf(outcomes: readonly WriteOutcome[], others: readonly (number | undefined)[]): ReconcileResult {
    const failure = outcomes.find((outcome) => outcome.kind === 'failed');
    if (failure !== undefined) {
      throw failure.error;
    }
    const waits = [
      ...others,
      ...outcomes.map((outcome) => (outcome.kind === 'refused' ? outcome.retryMs : undefined)),
      ...(outcomes.some(({ kind }) => kind === 'behind') ? [CACHE_REQUEUE_MS] : []),
    ].filter((wait) => wait !== undefined);
    return waits.length === 0 ? {} : { requeueAfterMs: Math.min(...waits) };
  }

  /** Takes versions without an owner; the next look sees them as the function's. */
  async #adopt(owner: LambdaFunction, call: CallOptions): Promise<WriteOutcome> {
    try {
      return { kind: (await this.#versions.adopt(owner, call)) ? 'behind' : 'done' };
    } catch (error) {
      return outcomeOf(error);
    }
  }

  /** Takes the next step of publishing. The change of the function brings the one after it. */
  async #publish(owner: LambdaFunction, step: PublicationStep, call: CallOptions): Promise<WriteOutcome> {
    try {
      await this.#versions.publish(owner, step, call);
      return { kind: 'done' };
    } catch (error) {
      return outcomeOf(error);
    }
  }

  /** Whether the function is as the cache shows it: an alias may name a version by now. */
  async #isAsSeen({ metadata }: LambdaFunction, call: CallOptions): Promise<boolean> {
    const present = await this.#options.client.get(lambdaFunctions, objectKey({ metadata }), call);
    return present?.metadata.uid === metadata.uid && present?.metadata.generation === metadata.generation;
  }

  #report(owner: LambdaFunction, created: readonly string[], deleted: readonly string[]): void {
    const { events, logger } = this.#options;
    const changes = [
      ...(created.length === 0 ? [] : [`created ${listed(created)}`]),
      ...(deleted.length === 0 ? [] : [`deleted ${listed(deleted)}`]),
    ];
    if (changes.length > 0) {
      const note = changes.join(', ');
      logger.info({ function: keyText(objectKey(owner)), note }, 'workers of a function changed');
      const regarding = referenceTo(lambdaFunctions, owner);
      events.record({ regarding, type: 'Normal', reason: 'Scaled', action: 'Scale', note });
    }
  }
}

/** Some names, and how many more there are. */
function listed(names: readonly string[]): string {
  const shown = names.slice(0, 3).join(', ');
  return names.length <= 3 ? shown : `${shown} and ${names.length - 3} more`;
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
