import type { EventReason } from '../../api/condition.ts';
import { type LambdaFunction, lambdaFunctions, presentTemplateOf } from '../../api/lambda-function.ts';
import type { LambdaVersion } from '../../api/lambda-version.ts';
import { type LambdaWorker, lambdaWorkers } from '../../api/lambda-worker.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import { parseKeyText } from '../../kube/api/object-key.ts';
import type { Informer, KubeClient, ObjectKey } from '../../kube/api/types.ts';
import {
  createReconciler,
  type ReconcileResult,
  type Reconciler,
  type ReconcilerMetrics,
  watchOf,
} from '../../kube/controller/reconciler.ts';
import type { EventSink } from '../../kube/events/event-recorder.ts';
import { referenceTo } from '../../kube/events/event-series.ts';
import type { LoadBook, LoadChange } from '../load/load-book.ts';
import { changeOf, statusOf } from './function-status.ts';
import {
  type FunctionView,
  groupsFor,
  isWritten,
  keysOfFunction,
  keysOfWorker,
  planOf,
  publicationOf,
} from './function-view.ts';
import { isOwned, OWNER_INDEX, orphanIndex, otherHolderOf, ownerIndex } from './owner-index.ts';
import type { PublicationStep } from './publication.ts';
import { livingOf } from './readiness.ts';
import { Refusals, type Refused, refusalIn, type WriteKind } from './refusal.ts';
import { RevisionKeeper } from './revision-keeper.ts';
import { stopMessage, untilDeadline } from './rollout.ts';
import { Scaler } from './scaler.ts';
import { applySettings } from './settings.ts';
import { StatusWriter } from './status-writer.ts';
import { removeStrays } from './strays.ts';
import { keysOpened, type UrlSource, urlPolicyOf } from './url-source.ts';
import type { UrlPolicy } from './url-status.ts';
import { VersionKeeper } from './version-keeper.ts';
import type { WorkerGroup } from './worker-groups.ts';
import { WorkerWriter } from './worker-writer.ts';
import { outcomeOf, type WriteOutcome } from './write-outcome.ts';

/** Functions at a time. */
const CONCURRENCY = 4;
/** Milliseconds until the cache should have caught up; its event usually comes first. */
const CACHE_REQUEUE_MS = 500;
export interface FunctionControllerOptions {
  /** Writes through it show in the caches. */
  readonly client: KubeClient;
  /** Has the caches show what became of writes without an answer, to an object and to those that are named after it. */
  readonly settle: (key: ObjectKey, call: CallOptions) => Promise<void>;
  /** Synced; `CALLED_INDEX` is among its indexes. */
  readonly functions: Informer<LambdaFunction>;
  /** Synced; {@link OWNER_INDEX} is among its indexes. */
  readonly workers: Informer<LambdaWorker>;
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

/** The outcome of one look at a function. */
interface Kept {
  readonly outcomes: readonly WriteOutcome[];
  /** Milliseconds until it is looked at again, for each reason. */
  readonly waits: readonly (number | undefined)[];
}

/** A function after its steps were carried out, for its status. */
interface Found {
  readonly view: FunctionView;
  /** The function, with the turns that workers have got. */
  readonly owner: LambdaFunction;
  readonly groups: readonly WorkerGroup[];
  readonly publication: PublicationStep;
  /** Versions that are deleted. */
  readonly surplus: readonly LambdaVersion[];
  readonly isDeaf: boolean;
}

/** Keeps the workers and versions of each LambdaFunction, and removes those whose function is gone. */
export class FunctionController {
  readonly #options: FunctionControllerOptions;
  readonly #versions: VersionKeeper;
  readonly #revisions: RevisionKeeper;
  readonly #workers: WorkerWriter;
  readonly #refusals: Refusals;
  readonly #queue: Reconciler;
  /** Functions whose template is to be kept: a new leader looks at each, and no scaling waits for that. */
  readonly #history: Reconciler;
  readonly #statuses: StatusWriter;
  readonly #urls: UrlPolicy;
  readonly #scaler: Scaler;
  #unsubscribe: readonly (() => void)[] = [];

  constructor(options: FunctionControllerOptions) {
    const { clock, functions, logger, metrics, urls, versions, workers } = options;
    this.#options = options;
    this.#statuses = new StatusWriter(options);
    this.#versions = new VersionKeeper({ ...options, statuses: this.#statuses });
    this.#revisions = new RevisionKeeper(options);
    this.#refusals = new Refusals(clock);
    this.#workers = new WorkerWriter({ ...options, refusals: this.#refusals, revisions: this.#revisions });
    this.#urls = urlPolicyOf(urls);
    this.#scaler = new Scaler(options);
    const watches = [
      watchOf(functions, (change) => keysOfFunction(change, functions)),
      watchOf(versions, ({ object }) => [...ownerIndex(object), ...orphanIndex(object)]),
      watchOf(workers, keysOfWorker),
      ...(urls === undefined ? [] : [watchOf(urls.namespaces, (change) => keysOpened(change, functions))]),
    ];
    const reconcile = (key: string, call: CallOptions): Promise<ReconcileResult> => this.reconcile(key, call);
    const shared = { logger, clock, metrics };
    this.#queue = createReconciler({ name: 'functions', workers: CONCURRENCY, watches, reconcile, ...shared });
    const keep = (key: string, call: CallOptions): Promise<ReconcileResult> => this.keepTemplate(key, call);
    this.#history = createReconciler({ name: 'revisions', workers: 1, reconcile: keep, ...shared });
  }

  start(): void {
    const { functions, versions } = this.#options;
    this.#unsubscribe = [
      functions.subscribe(({ kind, object }) => {
        if (kind === 'deleted') {
          this.#statuses.forget(object);
          this.#revisions.noteGone(object);
        }
      }),
      versions.subscribe(({ kind, object }) => {
        if (kind === 'deleted') {
          this.#statuses.forget(object);
        }
      }),
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

  /** Takes in a change of the calls of a function. */
  noteLoad(change: LoadChange): void {
    for (const { afterMs, key } of this.#scaler.record(change)) {
      this.#queue.addAfter(key, afterMs);
    }
  }

  /** Errors are those of the API server; the function is then looked at again after a growing wait. */
  async reconcile(key: string, call: CallOptions): Promise<ReconcileResult> {
    const { functions, settle, workers } = this.#options;
    await settle(parseKeyText(key), call);
    const owner = functions.cache.get(parseKeyText(key));
    const all = workers.cache.byIndex(OWNER_INDEX, key);
    const uid = owner?.metadata.uid;
    const cleared = [
      ...(await removeStrays(this.#options, lambdaWorkers, key, uid, all, call)),
      ...(await this.#versions.removeStrays(key, uid, call)),
      await this.#revisions.remove(key, call),
    ];
    if (owner === undefined) {
      this.#refusals.forget(key);
      this.#workers.forget(key);
      this.#scaler.forget(key);
      return this.#resultOf(cleared, []);
    }
    const adopted = await this.#adopt(owner, call);
    if (adopted.kind === 'behind') {
      return this.#resultOf([...cleared, adopted], []);
    }
    const { outcomes, waits } = await this.#keep(this.#observe(key, owner), call);
    return this.#resultOf([...cleared, adopted, ...outcomes], waits);
  }

  /** A function with what belongs to it, as the caches show it. */
  #observe(key: string, owner: LambdaFunction): FunctionView {
    const { functions, workers } = this.#options;
    const { generation, namespace } = owner.metadata;
    const owned = workers.cache.byIndex(OWNER_INDEX, key).filter((worker) => isOwned(worker, owner));
    return {
      key,
      owner,
      template: presentTemplateOf(owner),
      owned,
      latest: livingOf(owned).filter(({ spec }) => spec.version === undefined),
      versions: this.#versions.of(owner),
      holder: otherHolderOf(owner, functions),
      isTaken: (name) => workers.cache.get({ namespace, name }) !== undefined,
      isRefused: this.#refusals.has(key, 'create', generation),
    };
  }

  /** Plans the next steps of a function, carries them out, and writes what has become of it. */
  async #keep(view: FunctionView, call: CallOptions): Promise<Kept> {
    const { key, owned, owner } = view;
    const { clock } = this.#options;
    const publication = publicationOf(view);
    const scaled = this.#scaler.apply(owner, groupsFor(view, publication), livingOf(owned));
    const plan = planOf(view, publication, scaled.groups, clock.now());
    const { groups, surplus } = plan;
    const written = await this.#workers.write(key, owner, groups, plan.workers, call);
    const settings = await this.#attempt(view, 'set', plan.settings, (due) =>
      applySettings(this.#options, owner, groups, due, call),
    );
    let present = written.owner;
    const published = await this.#attempt(view, 'publish', isWritten(publication) ? [publication] : [], async () => {
      // The change of the function brings the step after it.
      present = await this.#versions.publish(present, publication, call);
      return [{ kind: 'done' }];
    });
    const collected = await this.#attempt(view, 'collect', surplus, (some) =>
      this.#versions.collect(present, some, call),
    );
    const pruned = await this.#revisions.prune(written.owner, plan.isWorking, call);
    if (this.#revisions.isDue(written.owner)) {
      this.#history.add(key);
    }
    const refusals = { workers: written.outcomes, settings, published };
    const told = await this.#tell(
      { view, owner: written.owner, groups, publication, surplus, isDeaf: scaled.isDeaf },
      this.#refusedIn(owner, refusals),
      call,
    );
    return {
      outcomes: [...written.outcomes, ...settings, ...published, ...collected, pruned],
      waits: [
        scaled.lookAfterMs,
        written.lookAfterMs,
        untilDeadline(plan.rollout, owner.spec.rollout, clock.now()),
        ...told,
      ],
    };
  }

  /** Writes the status of a function and of its versions; returns the waits until more of it may be written. */
  async #tell(
    { groups, isDeaf, owner, publication, surplus, view }: Found,
    { refusal, refused }: { readonly refusal: Refused | undefined; readonly refused: Refused | undefined },
    call: CallOptions,
  ): Promise<readonly (number | undefined)[]> {
    const { clock, events } = this.#options;
    const { holder, owned } = view;
    const versions = view.versions.living.filter((version) => !surplus.includes(version));
    const toldVersions = await this.#versions.tell({ groups, owned, versions, refusal: refused?.message }, call);
    const isPublishing = publication.kind !== 'none';
    const status = statusOf(
      { owner, groups, owned, refusal, isPublishing, urls: this.#urls, holder, isDeaf },
      clock.now(),
    );
    const areTurnsOver = owner.status?.changing !== undefined && this.#workers.changing(owner).length === 0;
    const changed = changeOf(owner.status, status);
    const change = changed === 'none' && areTurnsOver ? 'numbers' : changed;
    // A merge takes away what is null.
    const told = {
      ...(owner.status?.url === undefined ? {} : { url: null }),
      ...(areTurnsOver ? { changing: null } : {}),
      ...status,
    };
    // By what is written: the deadline may have passed while workers were changed.
    if (status.rollout?.state === 'Stopped' && owner.status?.rollout?.state !== 'Stopped') {
      const regarding = referenceTo(lambdaFunctions, owner);
      const note = stopMessage({ owner: view.owner, groups, workers: view.latest });
      const reason = 'ProgressDeadlineExceeded';
      events.record({ regarding, type: 'Warning', reason, action: 'Change', note });
    }
    return [toldVersions, await this.#statuses.write(lambdaFunctions, owner, told, change, call)];
  }

  /** Refusals among some writes: the one that the status of the function tells, and that of a worker. */
  #refusedIn(
    owner: LambdaFunction,
    { published, settings, workers }: Readonly<Record<'workers' | 'settings' | 'published', readonly WriteOutcome[]>>,
  ): { readonly refusal: Refused | undefined; readonly refused: Refused | undefined } {
    const { events } = this.#options;
    const refused = refusalIn(owner, workers, 'WorkerRefused', events);
    const unset = refusalIn(owner, settings, 'SettingsRefused', events);
    const unpublished = refusalIn(owner, published, 'VersionRefused', events);
    return { refused, refusal: refused ?? unpublished ?? unset };
  }

  /** Writes some of a kind for a function, unless the API server has refused that kind a short time ago. */
  async #attempt<T>(
    { key, owner }: Pick<FunctionView, 'key' | 'owner'>,
    kind: WriteKind,
    items: readonly T[],
    write: (items: readonly T[]) => Promise<readonly WriteOutcome[]>,
  ): Promise<readonly WriteOutcome[]> {
    return await this.#refusals.attempt({ key, generation: owner.metadata.generation, kind }, items, write);
  }

  /** Keeps the present template of a function as a ControllerRevision. Errors are those of the API server. */
  async keepTemplate(key: string, call: CallOptions): Promise<ReconcileResult> {
    const { events, functions } = this.#options;
    const owner = functions.cache.get(parseKeyText(key));
    if (owner === undefined) {
      return {};
    }
    const outcomes = await this.#attempt({ key, owner }, 'keep', [owner], async () => [
      await this.#revisions.keep(owner, call),
    ]);
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
}
