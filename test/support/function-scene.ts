import { type LambdaFunction, lambdaFunctions } from '../../src/api/lambda-function.ts';
import { type LambdaVersion, lambdaVersions } from '../../src/api/lambda-version.ts';
import { type LambdaWorker, type LambdaWorkerStatus, lambdaWorkers } from '../../src/api/lambda-worker.ts';
import { silentLogger } from '../../src/common/logger.ts';
import { FunctionController } from '../../src/controller/functions/function-controller.ts';
import {
  CALLED_INDEX,
  calledIndex,
  ORPHAN_INDEX,
  OWNER_INDEX,
  orphanIndex,
  ownerIndex,
} from '../../src/controller/functions/owner-index.ts';
import { ApiError } from '../../src/kube/api/api-error.ts';
import type { ControllerRevision, Namespace } from '../../src/kube/api/resource-types.ts';
import type {
  CacheEvent,
  KubeClient,
  KubeObject,
  ListParameters,
  ObjectKey,
  PatchBody,
  ResourceType,
} from '../../src/kube/api/types.ts';
import { createObjectCache } from '../../src/kube/cache/object-cache.ts';
import { OwnWrites } from '../../src/kube/client/own-writes.ts';
import { fakeInformer } from './fake-informer.ts';
import { functionFixture, ownedFixture } from './function-fixture.ts';
import { manualClock, settle } from './manual-clock.ts';

/** Key of the function of a scene. */
export const KEY = 'default/hello';

/** An API server of workers and functions, and caches that show it when they are told to. */
export class FunctionScene {
  readonly functions = fakeInformer<LambdaFunction>([], { [CALLED_INDEX]: calledIndex });
  readonly namespaces = fakeInformer<Namespace>();
  readonly cache = createObjectCache<LambdaWorker>({ [OWNER_INDEX]: ownerIndex });
  readonly stored = new Map<string, LambdaWorker>();
  readonly owners = new Map<string, LambdaFunction>();
  readonly versions = new Map<string, LambdaVersion>();
  readonly revisions = new Map<string, ControllerRevision>();
  readonly versionCache = createObjectCache<LambdaVersion>({ [OWNER_INDEX]: ownerIndex, [ORPHAN_INDEX]: orphanIndex });
  readonly writes: string[] = [];
  readonly told: unknown[] = [];
  readonly events: string[] = [];
  readonly clock = manualClock();
  /** Requests that reached the API server, by verb and kind, as `get lambdaworkers`. */
  readonly requests: string[] = [];
  /** Whether gateways tell of the calls. */
  isHeard = true;
  /** Calls of the function, in all gateways. */
  calls = 0;
  refusal: ApiError | undefined;
  /** Errors by verb and name of an object, or by verb and kind, or of the creation of workers by image. */
  readonly faults = new Map<string, ApiError>();
  /** Whether the leader ends before this write of a status of a function. */
  cut: ((status: object) => boolean) | undefined;
  /** Goes by while a worker is written. */
  onUpdate: (() => Promise<void>) | undefined;
  controller = this.#start();

  #start(): FunctionController {
    const writes = new OwnWrites(this.#client(), [
      {
        type: lambdaWorkers,
        informer: {
          written: (worker) => this.#note(this.cache.setAhead(worker as LambdaWorker)),
          removed: (key, uid) => this.#note(this.cache.removeAhead(key, uid)),
        },
      },
      {
        type: lambdaVersions,
        informer: {
          written: (version) => this.versionCache.setAhead(version as LambdaVersion),
          removed: (key, uid) => this.versionCache.removeAhead(key, uid),
        },
      },
      { type: lambdaFunctions, informer: this.functions },
    ]);
    return new FunctionController({
      client: writes.client,
      settle: (key, call) => writes.settle(key, call),
      functions: this.functions,
      workers: { cache: this.cache },
      versions: { ...fakeInformer<LambdaVersion>(), cache: this.versionCache },
      urls: { domain: 'fn.example.com', namespaces: this.namespaces },
      events: {
        record: ({ reason, note }) => {
          this.events.push(`${reason}: ${note}`);
        },
      },
      load: { calls: () => this.calls, isHeard: () => this.isHeard },
      clock: this.clock,
      logger: silentLogger(),
      metrics: {},
    });
  }

  #note(changes: readonly CacheEvent<LambdaWorker>[]): void {
    for (const change of changes) {
      this.controller.noteWorker(change);
    }
  }

  #client(): KubeClient {
    const client = {
      get: async ({ plural }: ResourceType<KubeObject>, { name }: ObjectKey) => {
        this.#take('get', plural, name);
        return plural === 'lambdaworkers'
          ? this.stored.get(name)
          : plural === 'lambdaversions'
            ? this.versions.get(name)
            : plural === 'controllerrevisions'
              ? this.revisions.get(name)
              : this.owners.get(name);
      },
      list: async ({ plural }: ResourceType<KubeObject>, { labelSelector = '' }: ListParameters) => {
        this.#take('list', plural, labelSelector);
        const [label = '', value] = labelSelector.split('=');
        const items = [...this.stored.values()].filter(({ metadata }) => metadata.labels?.[label] === value);
        return { items, resourceVersion: '1' };
      },
      create: async ({ plural }: ResourceType<KubeObject>, worker: LambdaWorker) => {
        const { name } = worker.metadata;
        this.#take('create', plural, name);
        if (plural === 'controllerrevisions') {
          this.#keep(worker as unknown as ControllerRevision);
          return worker;
        }
        if (this.refusal !== undefined) {
          throw this.refusal;
        }
        const fault = this.faults.get(`create ${worker.spec.image}`);
        if (fault !== undefined) {
          throw fault;
        }
        // Some take longer than others.
        await settle();
        if (plural === 'lambdaversions') {
          return this.#publish(worker as unknown as LambdaVersion);
        }
        if (this.stored.has(name)) {
          throw apiError('AlreadyExists', 409);
        }
        this.writes.push(`create ${name}`);
        const made = { ...worker, metadata: { ...worker.metadata, uid: `uid-of-${name}`, generation: 1 } };
        this.stored.set(name, made);
        return made;
      },
      update: async (_type: unknown, worker: LambdaWorker) => {
        await this.onUpdate?.();
        this.#take('update', 'lambdaworkers', worker.metadata.name);
        this.writes.push(`update ${worker.metadata.name}`);
        this.stored.set(worker.metadata.name, worker);
        return worker;
      },
      delete: async ({ plural }: ResourceType<KubeObject>, { name }: ObjectKey, { uid }: { uid?: string }) => {
        this.#take('delete', plural, name);
        if (plural === 'controllerrevisions') {
          this.revisions.delete(name);
          return;
        }
        if (plural === 'lambdaversions') {
          this.writes.push(`delete version ${name}`);
          this.versions.delete(name);
          return;
        }
        if (this.stored.get(name)?.metadata.uid === uid) {
          this.writes.push(`delete ${name}`);
          this.stored.delete(name);
        }
      },
      patch: async ({ plural }: ResourceType<KubeObject>, { name }: ObjectKey, { body }: PatchBody) => {
        this.#take('patch', plural, name);
        const { metadata, status } = body as Pick<LambdaFunction, 'metadata'> & { readonly status: object };
        const kept = this.revisions.get(name);
        if (plural === 'controllerrevisions' && kept !== undefined) {
          const { revision } = body as ControllerRevision;
          this.#keep({ ...kept, metadata: { ...kept.metadata, annotations: metadata.annotations }, revision });
          return kept;
        }
        if (plural === 'lambdaversions') {
          const version = this.versions.get(name);
          const { ownerReferences } = metadata;
          const owned = ownerReferences && version && { ...version.metadata, ownerReferences };
          const given = owned === undefined ? { status } : { metadata: owned };
          this.versions.set(name, { ...version, ...given } as LambdaVersion);
          return this.versions.get(name);
        }
        const owner = this.owners.get(name);
        if (owner === undefined) {
          return undefined;
        }
        const { resourceVersion } = owner.metadata;
        if (metadata.resourceVersion !== undefined && metadata.resourceVersion !== resourceVersion) {
          throw apiError('Conflict', 409);
        }
        if (this.cut?.(status) === true) {
          throw apiError('Unreachable', 0);
        }
        this.told.push(status);
        const merged = merge(owner.status ?? {}, status) as NonNullable<LambdaFunction['status']>;
        const next = { ...owner, metadata: { ...owner.metadata, ...increased(resourceVersion) }, status: merged };
        this.owners.set(name, next);
        return next;
      },
    };
    return client as unknown as KubeClient;
  }

  #take(verb: string, plural: string, name: string): void {
    this.requests.push(`${verb} ${plural}`);
    const fault = this.faults.get(`${verb} ${name}`) ?? this.faults.get(`${verb} ${plural}`);
    if (fault !== undefined) {
      throw fault;
    }
  }

  /** Has another controller lead, whose caches begin with what there is. */
  changeLeader(): void {
    this.controller = this.#start();
    this.see();
    this.seeVersions();
  }

  #keep(revision: ControllerRevision): void {
    const { name } = revision.metadata;
    this.revisions.set(name, { ...revision, metadata: { ...revision.metadata, uid: `uid-of-${name}` } });
  }

  #publish(version: LambdaVersion): LambdaVersion {
    const { name } = version.metadata;
    if (this.versions.has(name)) {
      throw apiError('AlreadyExists', 409);
    }
    this.writes.push(`publish ${name}`);
    const made = { ...version, metadata: { ...version.metadata, uid: `uid-of-${name}`, generation: 1 } };
    this.versions.set(name, made);
    return made;
  }

  put(owner: LambdaFunction): void {
    this.owners.set(owner.metadata.name, owner);
    this.functions.put(owner);
  }

  remove(name: string): void {
    this.owners.delete(name);
    this.functions.remove({ namespace: 'default', name });
  }

  /** Shows the caches what the API server has. */
  see(): void {
    this.#note(this.cache.replace([...this.stored.values()]));
  }

  /** Cache of versions and functions. */
  seeVersions(): void {
    this.versionCache.replace([...this.versions.values()]);
    for (const owner of this.owners.values()) {
      this.functions.put(owner);
    }
  }

  /** Workers whose agents have made them as their spec wishes. */
  settle(which: (worker: LambdaWorker) => boolean = () => true): void {
    for (const [name, worker] of this.stored) {
      const ready = ownedFixture(functionFixture(), 0).status;
      if (which(worker)) {
        this.stored.set(name, { ...worker, status: { ...ready, observedGeneration: worker.metadata.generation ?? 1 } });
      }
    }
    this.see();
  }

  /** Has the agents of the workers whose image ends so tell these conditions. */
  tell(image: string, conditions: NonNullable<LambdaWorkerStatus['conditions']>): void {
    for (const [name, worker] of this.stored) {
      if (worker.spec.image.endsWith(image)) {
        const observedGeneration = worker.metadata.generation ?? 1;
        this.stored.set(name, { ...worker, status: { phase: 'Running', observedGeneration, conditions } });
      }
    }
    this.see();
  }

  /** A function all of whose workers are ready, at rest. */
  async begin(owner: LambdaFunction): Promise<void> {
    this.put({ ...owner, metadata: { resourceVersion: '1', ...owner.metadata } });
    for (let round = 0; round < 3; round += 1) {
      await this.look();
      this.settle();
      this.seeVersions();
    }
    await this.look();
    this.written();
  }

  /** Writes another spec over the function, as its user does. */
  change({ spec }: LambdaFunction): void {
    const present = this.owners.get('hello') ?? functionFixture();
    const { generation = 0, resourceVersion } = present.metadata;
    const metadata = { ...present.metadata, ...increased(resourceVersion), generation: generation + 1 };
    this.put({ ...present, metadata, spec });
  }

  rollout(): NonNullable<LambdaFunction['status']>['rollout'] {
    return this.owners.get('hello')?.status?.rollout;
  }

  /** How many workers there are of each image, by its tag. */
  images(): Readonly<Record<string, number>> {
    const tags = [...this.stored.values()].map(({ spec }) => spec.image.slice(spec.image.lastIndexOf(':')));
    return Object.fromEntries([...Map.groupBy(tags, (tag) => tag)].map(([tag, { length }]) => [tag, length]));
  }

  /** One look at the function, and then one at its template that is to be kept. */
  async look() {
    const { requeueAfterMs: first } = await this.controller.reconcile(KEY, {});
    const { requeueAfterMs: second } = await this.controller.keepTemplate(KEY, {});
    const waits = [first, second].filter((wait) => wait !== undefined);
    return waits.length === 0 ? {} : { requeueAfterMs: Math.min(...waits) };
  }

  /** Writes since the last question. */
  written(): readonly string[] {
    return this.writes.splice(0);
  }
}

/** A merge patch of the members of a status. */
function merge(present: object, patch: object): object {
  const one = present as Readonly<Record<string, object | undefined>>;
  const entries = Object.entries(patch).map(([name, value]: [string, unknown]) => {
    const isNested = name === 'publication' && value !== null;
    return [name, isNested ? { ...one[name], ...(value as object) } : (value ?? undefined)];
  });
  return { ...present, ...Object.fromEntries(entries) } as object;
}

function increased(resourceVersion: string | undefined): object {
  return resourceVersion === undefined ? {} : { resourceVersion: String(Number(resourceVersion) + 1) };
}

export function apiError(
  code: 'AlreadyExists' | 'BadRequest' | 'Conflict' | 'Forbidden' | 'Unreachable',
  status?: number,
): ApiError {
  return new ApiError(`not so: ${code}`, status === undefined ? { code } : { code, status });
}
