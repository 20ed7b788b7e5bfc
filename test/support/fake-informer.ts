import type { CacheEvent, Informer, KubeObject, ObjectKey } from '../../src/kube/api/types.ts';
import type { IndexFunction } from '../../src/kube/cache/object-cache.ts';

/** An informer that is told what there is. */
export interface FakeInformer<T extends KubeObject> extends Informer<T> {
  /** Creates or changes an object. */
  put(object: T): void;
  remove(key: ObjectKey): void;
  /** From now on it counts as synced, or not. */
  setSynced(synced: boolean): void;
  /** From now on it counts as what the server has, or not. */
  setCurrent(current: boolean): void;
}

function textOf({ namespace, name }: ObjectKey): string {
  return `${namespace ?? ''}/${name}`;
}

/** @param objects what is there from the beginning */
export function fakeInformer<T extends KubeObject>(
  objects: readonly T[] = [],
  indexes: Readonly<Record<string, IndexFunction<T>>> = {},
): FakeInformer<T> {
  const kept = new Map(objects.map((object) => [textOf(object.metadata), object]));
  const listeners = new Set<(event: CacheEvent<T>) => void>();
  let synced = true;
  let current = true;
  const tell = (event: CacheEvent<T>): void => {
    for (const listener of listeners) {
      listener(event);
    }
  };
  const put = (object: T): void => {
    const old = kept.get(textOf(object.metadata));
    kept.set(textOf(object.metadata), object);
    tell(old === undefined ? { kind: 'added', object } : { kind: 'updated', object, old });
  };
  const remove = (key: ObjectKey): void => {
    const object = kept.get(textOf(key));
    if (object !== undefined) {
      kept.delete(textOf(key));
      tell({ kind: 'deleted', object });
    }
  };
  return {
    cache: {
      get: (key) => kept.get(textOf(key)),
      list: () => [...kept.values()],
      byIndex: (name, value) => [...kept.values()].filter((object) => indexes[name]?.(object).includes(value)),
    },
    subscribe(listener) {
      for (const object of kept.values()) {
        listener({ kind: 'added', object });
      }
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    hasSynced: () => synced,
    synced: async () => undefined,
    refresh: async () => undefined,
    written: put,
    removed: remove,
    lastSuccessAt: () => undefined,
    isCurrent: () => synced && current,
    start: () => undefined,
    stop: async () => undefined,
    put,
    remove,
    setSynced(now) {
      synced = now;
    },
    setCurrent(now) {
      current = now;
    },
  };
}
