import { ApiError } from './api-error.ts';
import { objectKey } from './object-key.ts';
import type { FenceOptions, KubeClient, KubeObject, ResourceType } from './types.ts';

const TRIES = 5;

/** Whether somebody has asked for the object's deletion. */
export function isDeleting(object: KubeObject): boolean {
  return object.metadata.deletionTimestamp !== undefined;
}

export function hasFinalizer(object: KubeObject, finalizer: string): boolean {
  return object.metadata.finalizers?.includes(finalizer) === true;
}

function additionTo(object: KubeObject, finalizer: string): readonly object[] {
  const { finalizers } = object.metadata;
  const path = '/metadata/finalizers';
  return finalizers === undefined || finalizers.length === 0
    ? [
        // A missing list tests as null.
        { op: 'test', path, value: null },
        { op: 'add', path, value: [finalizer] },
      ]
    : [
        { op: 'test', path, value: finalizers },
        { op: 'add', path: `${path}/-`, value: finalizer },
      ];
}

function removalFrom(object: KubeObject, finalizer: string): readonly object[] {
  const path = `/metadata/finalizers/${object.metadata.finalizers?.indexOf(finalizer) ?? 0}`;
  return [
    { op: 'test', path, value: finalizer },
    { op: 'remove', path },
  ];
}

/**
 * Brings the list of finalizers to the wished state by JSON patches that test what they change, as kube-rs does, so that
 * finalizers of others are never touched. When the object was not as the caller believed, it is read again.
 */
async function adjust<T extends KubeObject>(
  client: KubeClient,
  type: ResourceType<T>,
  believed: T,
  isWished: (object: T) => boolean,
  operations: (object: T) => readonly object[],
  options: FenceOptions,
): Promise<T | undefined> {
  const { uid } = believed.metadata;
  const key = objectKey(believed);
  let object = believed;
  for (let tries = 1; ; tries++) {
    if (isWished(object)) {
      return object;
    }
    try {
      const body = [{ op: 'test', path: '/metadata/uid', value: uid }, ...operations(object)];
      return await client.patch(type, key, { kind: 'json', body }, options);
    } catch (error) {
      if (!(error instanceof ApiError) || tries === TRIES) {
        throw error;
      }
      if (error.code !== 'Invalid' && error.code !== 'Conflict' && error.code !== 'NotFound') {
        throw error;
      }
      const fresh = await client.get(type, key, { signal: options.signal });
      if (fresh === undefined || fresh.metadata.uid !== uid) {
        return undefined;
      }
      object = fresh;
    }
  }
}

/**
 * Adds a finalizer. Gives the object as it is then; undefined when it is gone. One that is being deleted takes no new
 * finalizers and is given as it is.
 */
export function addFinalizer<T extends KubeObject>(
  client: KubeClient,
  type: ResourceType<T>,
  object: T,
  finalizer: string,
  options: FenceOptions = {},
): Promise<T | undefined> {
  return adjust(
    client,
    type,
    object,
    (one) => hasFinalizer(one, finalizer) || isDeleting(one),
    (one) => additionTo(one, finalizer),
    options,
  );
}

/** Removes a finalizer. Gives the object as it is then; undefined when it is gone. */
export function removeFinalizer<T extends KubeObject>(
  client: KubeClient,
  type: ResourceType<T>,
  object: T,
  finalizer: string,
  options: FenceOptions = {},
): Promise<T | undefined> {
  return adjust(
    client,
    type,
    object,
    (one) => !hasFinalizer(one, finalizer),
    (one) => removalFrom(one, finalizer),
    options,
  );
}
