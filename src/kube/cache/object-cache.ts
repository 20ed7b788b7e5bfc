import { EsbError } from '../../common/errors.ts';
import { keyText, objectKey } from '../api/object-key.ts';
import type { CacheEvent, KubeObject, ObjectKey } from '../api/types.ts';

/** Gives the values under which an index files an object. */
export type IndexFunction<T extends KubeObject> = (object: T) => readonly string[];

/** The cache of an informer, with the side that fills it. */
export type WritableCache<T extends KubeObject> = ReturnType<typeof createObjectCache<T>>;

function freezeDeeply(value: unknown): void {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) {
    return;
  }
  Object.freeze(value);
  for (const part of Object.values(value)) {
    freezeDeeply(part);
  }
}

function sameObject(a: KubeObject, b: KubeObject): boolean {
  return a.metadata.uid === b.metadata.uid;
}

/**
 * Keeps objects by namespace and name, tells a re-created object from a changed one by its uid, and files them in named
 * indexes. Objects are frozen when they come in.
 */
export function createObjectCache<T extends KubeObject>(
  indexFunctions: Readonly<Record<string, IndexFunction<T>>> = {},
) {
  const objects = new Map<string, T>();
  const indexes = new Map(
    Object.entries(indexFunctions).map(([name, valuesOf]) => [
      name,
      { valuesOf, buckets: new Map<string, Map<string, T>>() },
    ]),
  );
  let snapshot: readonly T[] | undefined;

  const unfile = (key: string, object: T): void => {
    for (const { valuesOf, buckets } of indexes.values()) {
      for (const value of valuesOf(object)) {
        const bucket = buckets.get(value);
        bucket?.delete(key);
        if (bucket?.size === 0) {
          buckets.delete(value);
        }
      }
    }
  };

  const file = (key: string, object: T): void => {
    for (const { valuesOf, buckets } of indexes.values()) {
      for (const value of valuesOf(object)) {
        buckets.set(value, (buckets.get(value) ?? new Map<string, T>()).set(key, object));
      }
    }
  };

  const apply = (event: CacheEvent<T>): void => {
    const key = keyText(objectKey(event.object));
    snapshot = undefined;
    if (event.kind !== 'added') {
      unfile(key, event.kind === 'updated' ? event.old : event.object);
    }
    if (event.kind === 'deleted') {
      objects.delete(key);
    } else {
      objects.set(key, event.object);
      file(key, event.object);
    }
  };

  const changesOf = (object: T): readonly CacheEvent<T>[] => {
    const old = objects.get(keyText(objectKey(object)));
    if (old === undefined) {
      return [{ kind: 'added', object }];
    }
    if (!sameObject(old, object)) {
      return [
        { kind: 'deleted', object: old },
        { kind: 'added', object },
      ];
    }
    const version = object.metadata.resourceVersion;
    return version !== undefined && version === old.metadata.resourceVersion ? [] : [{ kind: 'updated', object, old }];
  };

  const set = (object: T): readonly CacheEvent<T>[] => {
    freezeDeeply(object);
    const changes = changesOf(object);
    changes.forEach(apply);
    return changes;
  };

  return {
    get: (key: ObjectKey): T | undefined => objects.get(keyText(key)),
    list(): readonly T[] {
      snapshot ??= Object.freeze([...objects.values()]);
      return snapshot;
    },
    byIndex(name: string, value: string): readonly T[] {
      const index = indexes.get(name);
      if (index === undefined) {
        throw new EsbError(`there is no index ${name}`, { code: 'Internal' });
      }
      return [...(index.buckets.get(value)?.values() ?? [])];
    },
    /** Takes in one object; gives the changes that this makes, in order. None when it is known already. */
    set,
    /** Takes an object out, unless another one bears its name by now. */
    remove(object: T): readonly CacheEvent<T>[] {
      const old = objects.get(keyText(objectKey(object)));
      if (old === undefined || !sameObject(old, object)) {
        return [];
      }
      const change: CacheEvent<T> = { kind: 'deleted', object: old };
      apply(change);
      return [change];
    },
    /** Makes `listed` the whole content. Every change has been made when the first one is looked at. */
    replace(listed: readonly T[]): readonly CacheEvent<T>[] {
      const present = new Set(listed.map((object) => keyText(objectKey(object))));
      const gone = [...objects].filter(([key]) => !present.has(key)).map(([, object]) => object);
      const removals = gone.map((object): CacheEvent<T> => ({ kind: 'deleted', object }));
      removals.forEach(apply);
      return [...removals, ...listed.flatMap(set)];
    },
  };
}
