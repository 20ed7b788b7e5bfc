import type { CacheEvent, Informer, KubeObject } from '../../src/kube/api/types.ts';
import { createObjectCache, type IndexFunction } from '../../src/kube/cache/object-cache.ts';

/** One change as a watch tells of it. */
export interface Change {
  readonly kind: 'set' | 'removed';
  readonly object: KubeObject;
}

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

/** The server that an informer lists and watches. */
export interface ListSource<T extends KubeObject> {
  list(): readonly T[];
  version(): number;
}

/**
 * An informer that has listed what there is, and the function by which its watch hears of a change.
 *
 * @param transform changes objects before they are kept
 */
export function laggingInformer<T extends KubeObject>(
  source: ListSource<T>,
  indexes: Readonly<Record<string, IndexFunction<T>>>,
  transform: (object: T) => T,
): { readonly informer: LaggingInformer<T>; readonly tell: (change: Change) => void } {
  const cache = createObjectCache<T>(indexes);
  const listeners = new Set<(event: CacheEvent<T>) => void>();
  let late: Change[] = [];
  let isLagging = false;
  let isListing = false;
  const tell = (events: readonly CacheEvent<T>[]): void => {
    for (const event of events) {
      for (const listener of listeners) {
        listener(event);
      }
    }
  };
  const copy = (object: unknown): T => transform(structuredClone(object) as T);
  const take = ({ kind, object }: Change): void =>
    tell(kind === 'set' ? cache.set(copy(object)) : cache.remove(copy(object)));
  const show = (count: number): void => {
    for (const change of isListing ? [] : late.splice(0, count)) {
      take(change);
    }
  };
  const beginList = (): (() => void) => {
    const items = source.list().map(copy);
    const version = source.version();
    isListing = true;
    return () => {
      isListing = false;
      late = late.filter(({ object }) => Number(object.metadata.resourceVersion) > version);
      tell(cache.replace(items, String(version)));
      show(isLagging ? 0 : late.length);
    };
  };
  beginList()();
  const informer: LaggingInformer<T> = {
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
  return {
    informer,
    tell(change) {
      late.push(change);
      show(isLagging ? 0 : late.length);
    },
  };
}
