import { isDeepStrictEqual } from 'node:util';
import { ApiError } from '../../src/kube/api/api-error.ts';
import { keyText, objectKey } from '../../src/kube/api/object-key.ts';
import { isGone } from '../../src/kube/api/resource-version.ts';
import type {
  CacheEvent,
  Informer,
  KubeClient,
  KubeObject,
  ListParameters,
  ObjectKey,
  PatchBody,
  ResourceType,
} from '../../src/kube/api/types.ts';
import { createObjectCache, type IndexFunction } from '../../src/kube/cache/object-cache.ts';
import { type WriteTarget, wrapWrites } from '../../src/kube/client/wrapped-writes.ts';

export type Verb = 'get' | 'list' | WriteTarget['verb'];

/** A request as the API server saw it. */
export interface ClusterRequest {
  readonly verb: Verb;
  readonly plural: string;
  /** Empty for a list. */
  readonly name: string;
}

/** Fate of a write, in place of an answer. */
export type WriteFault =
  | { readonly kind: 'refused'; readonly error: ApiError }
  /** Carried out, and answered with {@link TestCluster.answer}. */
  | { readonly kind: 'slow' }
  /** No answer: the write is carried out now, when it arrives with {@link TestCluster.arrive}, or never. */
  | { readonly kind: 'lost'; readonly carriedOut: 'at once' | 'late' | 'never' };

/** A write, and its object before and after it; `isLate` where its caller had no answer. */
export interface CarriedOut {
  readonly target: WriteTarget;
  readonly before: KubeObject | undefined;
  readonly after: KubeObject | undefined;
  readonly isLate: boolean;
}

interface Stored {
  readonly spec?: object;
  readonly status?: object;
}

type StoredObject = KubeObject & Stored;

type Change =
  | { readonly kind: 'set'; readonly object: StoredObject }
  | { readonly kind: 'removed'; readonly object: StoredObject };

/** An informer whose watch tells of changes when it is told to. */
export interface LaggingInformer<T extends KubeObject> extends Informer<T> {
  /** Shows so many of the changes that the watch has not told; all when absent. */
  show(count?: number): void;
  /**
   * Lists what there is now. No watch is open until the answer is taken in by the function returned.
   */
  beginList(): () => void;
  /** From now on changes are shown at once, or wait for {@link LaggingInformer.show}. Default: at once. */
  setLagging(isLagging: boolean): void;
}

/** The error of a write that had no answer. */
export const noAnswer = new ApiError('no answer', { code: 'Unreachable' });

/**
 * An API server in memory, as an object: for faults and orders of events that a real one cannot be made to show.
 * Objects are not validated. Server-side apply is a merge patch.
 */
export class TestCluster {
  readonly requests: ClusterRequest[] = [];
  readonly client: KubeClient = this.#client();
  /** Called with each write of {@link TestCluster.client} that was carried out. */
  onWritten: ((write: CarriedOut) => void) | undefined;
  readonly #objects = new Map<string, StoredObject>();
  readonly #watches: { readonly type: string; readonly tell: (change: Change) => void }[] = [];
  /** Writes that were begun and have not arrived. */
  #underWay: readonly (() => Promise<unknown>)[] = [];
  #faults: readonly { readonly matches: (target: WriteTarget) => boolean; readonly fault: WriteFault }[] = [];
  readonly #answers: (() => void)[] = [];
  #version = 0;

  /** All objects of a kind. */
  all<T extends KubeObject>(type: ResourceType<T>): readonly T[] {
    const prefix = `${kindOf(type)} `;
    return [...this.#objects].filter(([key]) => key.startsWith(prefix)).map(([, object]) => object as unknown as T);
  }

  get<T extends KubeObject>(type: ResourceType<T>, key: ObjectKey): T | undefined {
    return this.#objects.get(pathOf(type, key)) as T | undefined;
  }

  /** Creates or changes an object, its status included, as others do. Equal content is no change. */
  put<T extends KubeObject>(type: ResourceType<T>, object: T): T {
    const present = this.get(type, objectKey(object)) as StoredObject | undefined;
    const { spec } = object as T & Stored;
    const isChanged = present !== undefined && !isDeepStrictEqual(plain(present.spec), plain(spec));
    const generation = (present?.metadata.generation ?? 1) + Number(isChanged);
    const uid = object.metadata.uid ?? present?.metadata.uid ?? `uid-${this.#version + 1}`;
    return this.#store(type, { ...object, metadata: { ...object.metadata, generation, uid } });
  }

  /** Takes an object away at last, also where a finalizer holds it. */
  remove(type: ResourceType<KubeObject>, key: ObjectKey): void {
    const object = this.#objects.get(pathOf(type, key));
    if (object !== undefined) {
      this.#objects.delete(pathOf(type, key));
      this.#version += 1;
      const metadata = { ...object.metadata, resourceVersion: String(this.#version) };
      this.#tell(type, { kind: 'removed', object: { ...object, metadata } });
    }
  }

  /** The next write that matches has this fault. */
  inject(matches: (target: WriteTarget) => boolean, fault: WriteFault): void {
    this.#faults = [...this.#faults, { matches, fault }];
  }

  /** Carries out the writes that are under way. Those that are refused have no caller who would hear of it. */
  async arrive(): Promise<void> {
    const underWay = this.#underWay;
    this.#underWay = [];
    for (const work of underWay) {
      try {
        await work();
      } catch (error) {
        if (!(error instanceof ApiError)) {
          throw error;
        }
      }
    }
  }

  /** Sends the answers that are slow. */
  answer(): void {
    for (const send of this.#answers.splice(0)) {
      send();
    }
  }

  /** An informer that has listed what there is. */
  informer<T extends KubeObject>(
    type: ResourceType<T>,
    indexes: Readonly<Record<string, IndexFunction<T>>> = {},
  ): LaggingInformer<T> {
    const cache = createObjectCache<T>(indexes);
    const listeners = new Set<(event: CacheEvent<T>) => void>();
    let late: Change[] = [];
    let isLagging = false;
    const tell = (events: readonly CacheEvent<T>[]): void => {
      for (const event of events) {
        for (const listener of listeners) {
          listener(event);
        }
      }
    };
    const copy = (object: unknown): T => structuredClone(object) as T;
    const take = ({ kind, object }: Change): void =>
      tell(kind === 'set' ? cache.set(copy(object)) : cache.remove(copy(object)));
    let isListing = false;
    const show = (count: number): void => {
      for (const change of isListing ? [] : late.splice(0, count)) {
        take(change);
      }
    };
    const beginList = (): (() => void) => {
      const items = this.all(type).map(copy);
      const version = this.#version;
      isListing = true;
      return () => {
        isListing = false;
        late = late.filter(({ object }) => Number(object.metadata.resourceVersion) > version);
        tell(cache.replace(items, String(version)));
        show(isLagging ? 0 : late.length);
      };
    };
    beginList()();
    this.#watches.push({
      type: kindOf(type),
      tell(change) {
        late.push(change);
        show(isLagging ? 0 : late.length);
      },
    });
    return {
      cache,
      subscribe(listener) {
        for (const object of cache.list()) {
          listener({ kind: 'added', object });
        }
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
      hasSynced: () => true,
      synced: async () => undefined,
      refresh: async () => beginList()(),
      written: (object) => tell(cache.setAhead(copy(object))),
      removed: (key, uid) => tell(cache.removeAhead(key, uid)),
      lastSuccessAt: () => undefined,
      isCurrent: () => true,
      start: () => undefined,
      stop: async () => undefined,
      show: (count = late.length) => show(count),
      beginList,
      setLagging(now) {
        isLagging = now;
      },
    };
  }

  #client(): KubeClient {
    const bare: KubeClient = {
      get: async (type, key) => {
        this.requests.push({ verb: 'get', plural: type.plural, name: key.name });
        return this.get(type, key);
      },
      list: async (type, parameters = {}) => {
        this.requests.push({ verb: 'list', plural: type.plural, name: '' });
        const items = this.all(type).filter((object) => selects(parameters, object));
        return { items, resourceVersion: String(this.#version) };
      },
      count: async (type) => this.all(type).length,
      watch: () => {
        throw new Error('a TestCluster is watched by its informers');
      },
      create: async (type, object) => this.#create(type, object),
      update: async (type, object, options) => this.#update(type, object, options?.subresource === 'status'),
      patch: async (type, key, patch, options) => this.#patch(type, key, patch, options?.subresource === 'status'),
      delete: async (type, key, options) => this.#delete(type, key, options?.uid),
      close: async () => undefined,
    };
    return wrapWrites(bare, async (options, send, target) => {
      this.requests.push({ verb: target.verb, plural: target.type.plural, name: target.key.name });
      options?.fence?.();
      const at = this.#faults.findIndex(({ matches }) => matches(target));
      const fault = this.#faults[at]?.fault;
      this.#faults = this.#faults.filter((_each, place) => place !== at);
      const work = async (isLate: boolean) => {
        const { key, type } = target;
        const before = this.get(type, key);
        const answer = await send(options as NonNullable<typeof options>);
        this.onWritten?.({ target, before, after: this.get(type, key), isLate });
        return answer;
      };
      if (fault?.kind === 'refused') {
        throw fault.error;
      }
      if (fault === undefined) {
        return await work(false);
      }
      if (fault.kind === 'slow') {
        const answer = await work(false);
        await new Promise<void>((resolve) => this.#answers.push(resolve));
        return answer;
      }
      if (fault.carriedOut === 'at once') {
        await work(false);
      } else if (fault.carriedOut === 'late') {
        this.#underWay = [...this.#underWay, () => work(true)];
      }
      throw noAnswer;
    });
  }

  #create<T extends KubeObject>(type: ResourceType<T>, object: T): T {
    if (this.#objects.has(pathOf(type, objectKey(object)))) {
      throw refusal('AlreadyExists', 409);
    }
    const { status: _left, ...given } = object as T & Stored;
    const uid = `uid-${this.#version + 1}`;
    const metadata = { ...given.metadata, uid, generation: 1, creationTimestamp: '2026-11-01T00:00:00Z' };
    return this.#store(type, { ...(given as unknown as T), metadata });
  }

  #update<T extends KubeObject>(type: ResourceType<T>, object: T, isStatus: boolean): T {
    const present = this.#present(type, objectKey(object), object.metadata);
    const { spec, status } = object as T & Stored;
    const next = isStatus
      ? { ...present, status }
      : {
          ...object,
          spec,
          status: (present as T & Stored).status,
          metadata: { ...present.metadata, ...object.metadata },
        };
    return this.put(type, next as unknown as T);
  }

  #patch<T extends KubeObject>(type: ResourceType<T>, key: ObjectKey, patch: PatchBody, isStatus: boolean): T {
    if (patch.kind === 'json') {
      throw new Error('a TestCluster takes no JSON patches');
    }
    const { metadata = {}, status, ...rest } = patch.body as Partial<KubeObject> & Stored;
    const present = this.#present(type, key, metadata as KubeObject['metadata']);
    const { resourceVersion: _version, uid: _uid, ...changes } = metadata as KubeObject['metadata'];
    const body = isStatus ? { status } : { ...rest, metadata: changes };
    const next = this.put(type, merged(present, body) as T);
    // The last finalizer was taken away.
    if (isGone(next)) {
      this.remove(type, key);
    }
    return next;
  }

  #delete<T extends KubeObject>(type: ResourceType<T>, key: ObjectKey, uid: string | undefined): T | undefined {
    const present = this.get(type, key);
    if (present === undefined || (uid !== undefined && present.metadata.uid !== uid)) {
      return undefined;
    }
    if ((present.metadata.finalizers ?? []).length === 0) {
      this.remove(type, key);
      return undefined;
    }
    const deletionTimestamp = present.metadata.deletionTimestamp ?? '2026-11-01T01:00:00Z';
    return this.put(type, { ...present, metadata: { ...present.metadata, deletionTimestamp } });
  }

  #present<T extends KubeObject>(type: ResourceType<T>, key: ObjectKey, wanted: KubeObject['metadata']): T {
    const present = this.get(type, key);
    if (present === undefined) {
      throw refusal('NotFound', 404);
    }
    const { resourceVersion = present.metadata.resourceVersion, uid = present.metadata.uid } = wanted;
    if (resourceVersion !== present.metadata.resourceVersion || uid !== present.metadata.uid) {
      throw refusal('Conflict', 409);
    }
    return present;
  }

  #store<T extends KubeObject>(type: ResourceType<T>, object: T): T {
    const path = pathOf(type, objectKey(object));
    const before = this.#objects.get(path);
    const { resourceVersion } = before?.metadata ?? {};
    const same = { ...object, metadata: { ...object.metadata, resourceVersion } };
    if (before !== undefined && isDeepStrictEqual(plain(before), plain(same))) {
      return before as unknown as T;
    }
    this.#version += 1;
    const metadata = { ...object.metadata, resourceVersion: String(this.#version) };
    const next = plain({ ...object, metadata }) as T & Stored;
    this.#objects.set(path, next);
    this.#tell(type, { kind: 'set', object: next });
    return next;
  }

  #tell(type: ResourceType<KubeObject>, change: Change): void {
    for (const watch of this.#watches) {
      if (watch.type === kindOf(type)) {
        watch.tell(change);
      }
    }
  }
}

function kindOf({ group, plural }: ResourceType<KubeObject>): string {
  return `${group}/${plural}`;
}

function pathOf(type: ResourceType<KubeObject>, key: ObjectKey): string {
  return `${kindOf(type)} ${keyText(key)}`;
}

function refusal(code: 'AlreadyExists' | 'Conflict' | 'NotFound', status: number): ApiError {
  return new ApiError(code, { code, status });
}

/** As JSON has it. */
function plain(value: unknown): unknown {
  return value === undefined ? undefined : (JSON.parse(JSON.stringify(value)) as unknown);
}

/** A JSON merge patch (RFC 7386). */
function merged(present: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) {
    return patch;
  }
  const base = typeof present === 'object' && present !== null && !Array.isArray(present) ? present : {};
  const result: Record<string, unknown> = { ...base };
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) {
      delete result[name];
    } else {
      result[name] = merged(result[name], value);
    }
  }
  return result;
}

function selects({ labelSelector = '', namespace }: ListParameters, { metadata }: KubeObject): boolean {
  const terms = labelSelector.split(',').filter((term) => term !== '');
  const isIn = namespace === undefined || metadata.namespace === namespace;
  return isIn && terms.every((term) => metadata.labels?.[term.split('=')[0] ?? ''] === term.split('=')[1]);
}
