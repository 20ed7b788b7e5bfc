import { isDeepStrictEqual } from 'node:util';
import { ApiError } from '../../src/kube/api/api-error.ts';
import { keyText, objectKey } from '../../src/kube/api/object-key.ts';
import { isGone } from '../../src/kube/api/resource-version.ts';
import type {
  DeleteOptions,
  KubeClient,
  KubeObject,
  ListParameters,
  ObjectKey,
  PatchBody,
  ResourceType,
  WriteOptions,
} from '../../src/kube/api/types.ts';
import type { IndexFunction } from '../../src/kube/cache/object-cache.ts';
import type { WriteTarget } from '../../src/kube/client/wrapped-writes.ts';
import { type Change, type LaggingInformer, laggingInformer } from './lagging-informer.ts';
import { jsonPatched, merged } from './patched-object.ts';

export type Verb = 'get' | 'list' | WriteTarget['verb'];

/** A request as the API server saw it. */
export interface ClusterRequest {
  readonly verb: Verb;
  readonly plural: string;
  /** Empty for a list. */
  readonly name: string;
  /** Object that is created or updated, or the patch. */
  readonly body?: object;
  readonly options?: DeleteOptions & ListParameters & WriteOptions;
}

type Matches = (request: ClusterRequest) => boolean;

/** A write under way. */
interface Write<T extends KubeObject> {
  readonly verb: WriteTarget['verb'];
  readonly type: ResourceType<T>;
  readonly key: ObjectKey;
  readonly body?: object;
  readonly options: (DeleteOptions & WriteOptions) | undefined;
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
  readonly request: ClusterRequest;
  readonly before: KubeObject | undefined;
  readonly after: KubeObject | undefined;
  readonly isLate: boolean;
}

interface Stored {
  readonly spec?: object;
  readonly status?: object;
}

type StoredObject = KubeObject & Stored;

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
  #underWay: readonly (() => unknown)[] = [];
  #faults: readonly { readonly matches: Matches; readonly fault: WriteFault }[] = [];
  readonly #refusals = new Set<(request: ClusterRequest) => void>();
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
  inject(matches: Matches, fault: WriteFault): void {
    this.#faults = [...this.#faults, { matches, fault }];
  }

  /** Refuses each request that matches, reads included, until the function returned is called. */
  refuse(matches: Matches, error: ApiError): () => void {
    const refusal = (request: ClusterRequest): void => {
      if (matches(request)) {
        throw error;
      }
    };
    this.#refusals.add(refusal);
    return () => this.#refusals.delete(refusal);
  }

  /** Carries out the writes that are under way. Those that are refused have no caller who would hear of it. */
  arrive(): void {
    const underWay = this.#underWay;
    this.#underWay = [];
    for (const work of underWay) {
      try {
        work();
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
    transform: (object: T) => T = (object) => object,
  ): LaggingInformer<T> {
    const source = { list: () => this.all(type), version: () => this.#version };
    const { informer, tell } = laggingInformer<T>(source, indexes, transform);
    this.#watches.push({ type: kindOf(type), tell });
    return informer;
  }

  #client(): KubeClient {
    return {
      get: async (type, key) => {
        this.#take({ verb: 'get', plural: type.plural, name: key.name });
        return this.get(type, key);
      },
      list: async (type, parameters = {}) => {
        this.#take({ verb: 'list', plural: type.plural, name: '', options: parameters });
        const items = this.all(type).filter((object) => selects(parameters, object));
        return { items, resourceVersion: String(this.#version) };
      },
      count: async (type) => this.all(type).length,
      watch: () => {
        throw new Error('a TestCluster is watched by its informers');
      },
      create: (type, object, options) => {
        const write = { verb: 'create', type, key: objectKey(object), body: object, options } as const;
        return this.#write(write, () => this.#create(type, object));
      },
      update: (type, object, options) => {
        const write = { verb: 'update', type, key: objectKey(object), body: object, options } as const;
        return this.#write(write, () => this.#update(type, object, options?.subresource === 'status'));
      },
      patch: (type, key, patch, options) => {
        const write = { verb: 'patch', type, key, body: patch.body, options } as const;
        return this.#write(write, () => this.#patch(type, key, patch, options?.subresource === 'status'));
      },
      delete: (type, key, options) => {
        const write = { verb: 'delete', type, key, options } as const;
        return this.#write(write, () => this.#delete(type, key, options));
      },
      close: async () => undefined,
    };
  }

  #take(request: ClusterRequest, fence?: () => void): void {
    this.requests.push(request);
    fence?.();
    for (const refusal of this.#refusals) {
      refusal(request);
    }
  }

  async #write<T extends KubeObject, A extends T | undefined>(write: Write<T>, carryOut: () => A): Promise<A> {
    const { type, key, verb, body, options } = write;
    const request = { verb, plural: type.plural, name: key.name, ...(body && { body }), ...(options && { options }) };
    this.#take(request, options?.fence);
    const at = this.#faults.findIndex(({ matches }) => matches(request));
    const fault = this.#faults[at]?.fault;
    this.#faults = this.#faults.filter((_each, place) => place !== at);
    const work = (isLate: boolean): A => {
      const before = this.get(type, key);
      const answer = carryOut();
      this.onWritten?.({ request, before, after: this.get(type, key), isLate });
      return answer;
    };
    if (fault?.kind === 'refused') {
      throw fault.error;
    }
    if (fault === undefined) {
      return work(false);
    }
    if (fault.kind === 'slow') {
      const answer = work(false);
      await new Promise<void>((resolve) => this.#answers.push(resolve));
      return answer;
    }
    if (fault.carriedOut === 'at once') {
      work(false);
    } else if (fault.carriedOut === 'late') {
      this.#underWay = [...this.#underWay, () => work(true)];
    }
    throw noAnswer;
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
    const next = this.put(type, this.#patched(type, key, patch, isStatus));
    // The last finalizer was taken away.
    if (isGone(next)) {
      this.remove(type, key);
    }
    return next;
  }

  #patched<T extends KubeObject>(type: ResourceType<T>, key: ObjectKey, patch: PatchBody, isStatus: boolean): T {
    if (patch.kind === 'json') {
      const next = jsonPatched(this.#present(type, key), patch.body);
      this.#present(type, key, next.metadata);
      return next;
    }
    const { metadata = {}, status, ...rest } = plain(patch.body) as Partial<KubeObject> & Stored;
    const present = this.#present(type, key, metadata as KubeObject['metadata']);
    const { resourceVersion: _version, uid: _uid, ...changes } = metadata as KubeObject['metadata'];
    const body = isStatus ? plain({ status }) : { ...rest, metadata: changes };
    return merged(present, body) as T;
  }

  #delete<T extends KubeObject>(
    type: ResourceType<T>,
    key: ObjectKey,
    { resourceVersion, uid }: DeleteOptions = {},
  ): T | undefined {
    const present = this.get(type, key);
    if (present === undefined || (uid !== undefined && present.metadata.uid !== uid)) {
      return undefined;
    }
    this.#present(type, key, resourceVersion === undefined ? {} : { resourceVersion });
    if ((present.metadata.finalizers ?? []).length === 0) {
      this.remove(type, key);
      return undefined;
    }
    const deletionTimestamp = present.metadata.deletionTimestamp ?? '2026-11-01T01:00:00Z';
    return this.put(type, { ...present, metadata: { ...present.metadata, deletionTimestamp } });
  }

  #present<T extends KubeObject>(
    type: ResourceType<T>,
    key: ObjectKey,
    wanted: Partial<KubeObject['metadata']> = {},
  ): T {
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

function selects({ labelSelector = '', namespace }: ListParameters, { metadata }: KubeObject): boolean {
  const terms = labelSelector.split(',').filter((term) => term !== '');
  const isIn = namespace === undefined || metadata.namespace === namespace;
  return isIn && terms.every((term) => metadata.labels?.[term.split('=')[0] ?? ''] === term.split('=')[1]);
}
