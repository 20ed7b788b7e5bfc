import type { V1ObjectMeta } from '@kubernetes/client-node';
import type { CallOptions } from '../../common/deadline.ts';

/**
 * A type of `@kubernetes/client-node` as JSON has it: times are text, and undefined is as good as none. Read-only,
 * since cached objects are frozen.
 */
export type Wire<T> = T extends Date
  ? string
  : T extends readonly (infer Item)[]
    ? readonly Wire<Item>[]
    : T extends object
      ? { readonly [Name in keyof T]: Wire<T[Name]> | (object extends Pick<T, Name> ? undefined : never) }
      : T;

export type ObjectMeta = Wire<V1ObjectMeta> & { readonly name: string };

/** An object of the API server. Cached objects are frozen: never change one. */
export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: ObjectMeta;
}

/** Where a kind of object is found. `group` is empty for the core group. */
export interface ResourceType<T extends KubeObject> {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
  /** Never set: ties the descriptor to its TypeScript type. */
  readonly type?: T;
}

/** Name of an object; without a namespace for cluster-scoped ones. */
export interface ObjectKey {
  readonly namespace?: string | undefined;
  readonly name: string;
}

export interface ListParameters {
  /** All namespaces when absent. */
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
}

export interface ObjectList<T extends KubeObject> {
  readonly items: readonly T[];
  readonly resourceVersion: string;
}

export type PatchBody =
  | { readonly kind: 'merge'; readonly body: object; readonly fieldManager?: string }
  | { readonly kind: 'json'; readonly body: readonly object[]; readonly fieldManager?: string }
  /**
   * Server-side apply: the caller owns exactly the fields of `body`. Forced by default; otherwise a field that another
   * manager has set to another value is a `Conflict`.
   */
  | { readonly kind: 'apply'; readonly body: object; readonly fieldManager: string; readonly force?: boolean };

/** Options of every write. */
export interface FenceOptions extends CallOptions {
  /**
   * Called at the last moment before the request is put on the wire, after any wait for a connection. When it throws,
   * nothing is sent and the call throws the same error.
   */
  readonly fence?: () => void;
}

export interface WriteOptions extends FenceOptions {
  /** `approval` is that of certificate signing requests, `resize` that of Pods. */
  readonly subresource?: 'status' | 'approval' | 'resize';
  /** Of a patch: has the server check it, and answer as if it were done. */
  readonly dryRun?: boolean;
}

export interface ListOptions<T extends KubeObject> extends CallOptions {
  /** Changes each object as its page comes in, so that dropped fields take memory for one page alone. */
  readonly transform?: (object: T) => T;
}

export interface DeleteOptions extends FenceOptions {
  /** Delete only the object with this uid. */
  readonly uid?: string | undefined;
  /** Delete the object only as it was at this version; a Conflict else. */
  readonly resourceVersion?: string | undefined;
  /** Grace of a Pod, in place of its own. With 0 the object goes at once, and the process in its own time. */
  readonly gracePeriodSeconds?: number;
}

export type WatchFrame<T extends KubeObject> =
  | { readonly kind: 'added' | 'modified' | 'deleted'; readonly object: T }
  | { readonly kind: 'bookmark'; readonly resourceVersion: string };

/**
 * The API server. Errors are {@link import('./api-error.ts').ApiError}, an EsbError with the HTTP status, the Status
 * reason as its `code` (`NotFound`, `Conflict`, `AlreadyExists`, `Invalid`, `Forbidden`, `Expired`, `TooManyRequests`,
 * `Unreachable`, …) and `retryAfterMs` where the server gave one. Every call has a deadline, 30,000 ms by default.
 */
export interface KubeClient {
  /** Undefined when there is none. */
  get<T extends KubeObject>(type: ResourceType<T>, key: ObjectKey, options?: CallOptions): Promise<T | undefined>;
  /** All pages together. */
  list<T extends KubeObject>(
    type: ResourceType<T>,
    parameters?: ListParameters,
    options?: ListOptions<T>,
  ): Promise<ObjectList<T>>;
  /**
   * How many objects of a kind there are, in all namespaces, by the server's own count; undefined where it does not say.
   * One object is read, however many there are.
   */
  count<T extends KubeObject>(type: ResourceType<T>, options?: CallOptions): Promise<number | undefined>;
  create<T extends KubeObject>(type: ResourceType<T>, object: T, options?: FenceOptions): Promise<T>;
  /** Replaces the object; a resourceVersion in its metadata is a precondition. */
  update<T extends KubeObject>(type: ResourceType<T>, object: T, options?: WriteOptions): Promise<T>;
  patch<T extends KubeObject>(
    type: ResourceType<T>,
    key: ObjectKey,
    patch: PatchBody,
    options?: WriteOptions,
  ): Promise<T>;
  /**
   * Missing is success.
   *
   * @returns the object, where it goes only later, as with a finalizer or a grace; undefined where it is gone
   */
  delete<T extends KubeObject>(type: ResourceType<T>, key: ObjectKey, options?: DeleteOptions): Promise<T | undefined>;
  /** Ends when the server ends it; a 410 or an ERROR frame throws. */
  watch<T extends KubeObject>(
    type: ResourceType<T>,
    parameters: ListParameters & { readonly resourceVersion: string; readonly timeoutSeconds: number },
    options?: CallOptions,
  ): AsyncIterable<WatchFrame<T>>;
  /** Closes every connection. */
  close(): Promise<void>;
}

/** A change of the cache. A delete and re-create under one name during an outage is reported as deleted, then added. */
export type CacheEvent<T extends KubeObject> =
  | { readonly kind: 'added'; readonly object: T }
  | { readonly kind: 'updated'; readonly object: T; readonly old: T }
  | { readonly kind: 'deleted'; readonly object: T };

/** The objects of one kind as last listed and watched. */
export interface ObjectCache<T extends KubeObject> {
  get(key: ObjectKey): T | undefined;
  list(): readonly T[];
  /** Objects that an index of this name files under `value`. */
  byIndex(index: string, value: string): readonly T[];
}

/** A running list/watch loop and its cache. */
export interface Informer<T extends KubeObject> {
  readonly cache: ObjectCache<T>;
  /** Calls listeners in order; none may throw. Each first gets every object of the cache as `added`. */
  subscribe(listener: (event: CacheEvent<T>) => void): () => void;
  /** Whether one list has been taken in completely. */
  hasSynced(): boolean;
  /** Resolves with the first complete list; rejects when the signal fires. */
  synced(signal?: AbortSignal): Promise<void>;
  /**
   * Lists again: resolves once the cache shows all that any client wrote before the call. Rejects when the signal
   * fires, or the informer stops.
   */
  refresh(signal?: AbortSignal): Promise<void>;
  /** Takes in the answer to a write, before the watch tells of it. Nothing before the first list. */
  written(object: T): void;
  /** Takes out an object whose deletion was answered, before the watch tells of it. */
  removed(key: ObjectKey, uid: string): void;
  /** Monotonic milliseconds of the last time that the server answered: a list, a watch frame or a bookmark. */
  lastSuccessAt(): number | undefined;
  /**
   * Whether the cache is as new as the connection allows: false before the first list, and from a failure until the
   * server answers again.
   */
  isCurrent(): boolean;
  start(): void;
  stop(): Promise<void>;
}
