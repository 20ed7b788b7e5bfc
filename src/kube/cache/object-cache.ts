import { EsbError } from '../../common/errors.ts';
import { keyText, objectKey } from '../api/object-key.ts';
import { isOlder } from '../api/resource-version.ts';
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
 *
 * Objects come from a watch and from answers to writes, in any order: an older version never takes the place of a newer
 * one, and an object whose deletion was answered does not come back with a watch that is behind.
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
  /** Objects by uid that are gone, and of whose deletion no watch or list has told yet. */
  const gone = new Map<string, T>();
  /** Version up to which a watch or a list has told all. */
  let toldTo = Number.NEGATIVE_INFINITY;
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

  const put = (object: T): readonly CacheEvent<T>[] => {
    freezeDeeply(object);
    const changes = changesOf(object);
    changes.forEach(apply);
    return changes;
  };

  const isGone = ({ metadata }: T): boolean => metadata.uid !== undefined && gone.has(metadata.uid);

  const take = (old: T): readonly CacheEvent<T>[] => {
    const change: CacheEvent<T> = { kind: 'deleted', object: old };
    apply(change);
    return [change];
  };

  const advance = (resourceVersion: string | undefined): void => {
    const version = Number(resourceVersion);
    toldTo = Number.isNaN(version) ? toldTo : Math.max(version, toldTo);
  };

  const set = (object: T): readonly CacheEvent<T>[] => {
    const old = objects.get(keyText(objectKey(object)));
    return isGone(object) || (old !== undefined && isOlder(object, old)) ? [] : put(object);
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
    /**
     * Takes in an object that a watch tells of; gives the changes that this makes, in order. None when it is known already,
     * or a newer one, or when it is known to be gone.
     */
    set(object: T): readonly CacheEvent<T>[] {
      advance(object.metadata.resourceVersion);
      return set(object);
    },
    /**
     * Takes in an object from the answer to a write, as {@link set} does, but for one that is gone already: the watch has come
     * further, and the object is not there.
     */
    setAhead(object: T): readonly CacheEvent<T>[] {
      const isTold = Number(object.metadata.resourceVersion) <= toldTo;
      return isTold && objects.get(keyText(objectKey(object))) === undefined ? [] : set(object);
    },
    /** Takes an object out, of whose deletion the server has told, unless another one bears its name by now. */
    remove(object: T): readonly CacheEvent<T>[] {
      const old = objects.get(keyText(objectKey(object)));
      advance(object.metadata.resourceVersion);
      gone.delete(object.metadata.uid ?? '');
      return old !== undefined && sameObject(old, object) ? take(old) : [];
    },
    /** Takes an object out whose deletion was answered before the watch has reported it. */
    removeAhead(key: ObjectKey, uid: string): readonly CacheEvent<T>[] {
      const old = objects.get(keyText(key));
      if (old?.metadata.uid !== uid) {
        return [];
      }
      gone.set(uid, old);
      return take(old);
    },
    /**
     * Makes `listed` the content, but for what is newer than the list: it came with the answer to a write. Every removal
     * has been made when the first change is looked at.
     *
     * @param resourceVersion of the list
     */
    replace(listed: readonly T[], resourceVersion?: string): readonly CacheEvent<T>[] {
      toldTo = resourceVersion === undefined ? Number.NEGATIVE_INFINITY : toldTo;
      advance(resourceVersion);
      const isNewer = (kept: T): boolean => isOlder({ metadata: { name: '', resourceVersion } }, kept);
      const present = new Set(listed.map((object) => keyText(objectKey(object))));
      const uids = new Set(listed.map(({ metadata }) => metadata.uid));
      for (const [uid, last] of gone) {
        if (!uids.has(uid) && !isNewer(last)) {
          gone.delete(uid);
        }
      }
      const absent = [...objects].filter(([key, kept]) => !present.has(key) && !isNewer(kept));
      const removals = absent.map(([, object]): CacheEvent<T> => ({ kind: 'deleted', object }));
      removals.forEach(apply);
      const changes = listed.flatMap((object) => {
        const old = objects.get(keyText(objectKey(object)));
        return isGone(object) || (old !== undefined && isNewer(old)) ? [] : put(object);
      });
      return [...removals, ...changes];
    },
  };
}
