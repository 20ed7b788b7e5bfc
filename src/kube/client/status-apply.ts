import { isDeepStrictEqual } from 'node:util';
import { EsbError, hasCode } from '../../common/errors.ts';
import { objectKey } from '../api/object-key.ts';
import { isOlder } from '../api/resource-version.ts';
import type { FenceOptions, KubeClient, KubeObject, ResourceType } from '../api/types.ts';

interface ConditionLike {
  readonly type: string;
}

/** A status with the fields that this module reads. */
type StatusFields = Readonly<Record<string, unknown>> & { readonly conditions?: readonly ConditionLike[] };

/** The fields of a status that belong to one writer. */
export interface StatusOwnership {
  readonly fieldManager: string;
  /** Names of fields of the status, `conditions` not among them. A field left out of a status is removed. */
  readonly fields: readonly string[];
  readonly conditions: readonly string[];
}

export interface StatusApplyOptions<T extends KubeObject> extends FenceOptions {
  /**
   * Whether the status is still ours to write, asked of each version of the object that is written to. When it is not,
   * nothing is written. Default: it is.
   */
  readonly mayWrite?: (object: T) => boolean;
}

export type StatusApplyResult<T extends KubeObject> =
  | { readonly kind: 'unchanged'; readonly object: T }
  | { readonly kind: 'written'; readonly object: T }
  /** The object is gone, or another one has its name. */
  | { readonly kind: 'gone' }
  | { readonly kind: 'refused'; readonly object: T };

export type StatusApplier<T extends KubeObject> = ReturnType<typeof createStatusApplier<T>>;

const TRIES = 5;

function statusOf(object: KubeObject): object {
  return (object as { readonly status?: object }).status ?? {};
}

/** Without members that are undefined, which JSON does not have. */
function plain(value: object): unknown {
  return JSON.parse(JSON.stringify(value));
}

/** Whether two values are the same in JSON. Most are texts and numbers. */
function isSame(one: unknown, other: unknown): boolean {
  if (!isObject(one) || !isObject(other)) {
    return one === other;
  }
  return isDeepStrictEqual(plain(one), plain(other));
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function conditionOf(status: StatusFields, type: string): ConditionLike | undefined {
  return status.conditions?.find((condition) => condition.type === type);
}

/** Whether the owned fields of `current` differ from those of `wished`. */
export function statusDiffers(currentStatus: object, wishedStatus: object, owned: StatusOwnership): boolean {
  const current = currentStatus as StatusFields;
  const wished = wishedStatus as StatusFields;
  return (
    owned.fields.some((name) => !isSame(current[name], wished[name])) ||
    owned.conditions.some((type) => !isSame(conditionOf(current, type), conditionOf(wished, type)))
  );
}

function checkOwned(status: StatusFields, owned: StatusOwnership): void {
  const foreign = [
    ...Object.keys(status).filter((name) => name !== 'conditions' && !owned.fields.includes(name)),
    ...(status.conditions ?? []).map(({ type }) => type).filter((type) => !owned.conditions.includes(type)),
  ];
  if (foreign.length > 0) {
    throw new EsbError(`${owned.fieldManager} does not own ${foreign.join(', ')} of the status`, { code: 'Internal' });
  }
}

/**
 * Server-side apply of some fields of the status. A comparison with the object comes first, so that an unchanged status
 * costs no request. The version that was compared is a precondition of the write: the API server ignores the uid of an
 * applied status, and an object re-created under the same name must not get its predecessor's status. After a conflict
 * the object is read and compared again.
 */
export function createStatusApplier<T extends KubeObject>(
  client: Pick<KubeClient, 'get' | 'patch'>,
  type: ResourceType<T>,
  owned: StatusOwnership,
) {
  /** Our last writes by uid: the cache may still be older. */
  const written = new Map<string, T>();

  const latestOf = (cached: T): T => {
    const ours = written.get(cached.metadata.uid ?? '');
    return ours !== undefined && isOlder(cached, ours) ? ours : cached;
  };

  const write = (object: T, status: object, options: FenceOptions): Promise<T> =>
    client.patch(
      type,
      objectKey(object),
      {
        kind: 'apply',
        fieldManager: owned.fieldManager,
        body: { metadata: { ...objectKey(object), resourceVersion: object.metadata.resourceVersion }, status },
      },
      { ...options, subresource: 'status' },
    );

  return {
    /**
     * Makes the fields and conditions that we own in the object's status those of `status`, and leaves all others
     * alone.
     *
     * @param cached the object as it was last seen; something older than our own last write is no harm
     * @param status as it should be, or how to make it for each version of the object that is written to
     */
    async apply(
      cached: T,
      status: object | ((object: T) => object),
      options: StatusApplyOptions<T> = {},
    ): Promise<StatusApplyResult<T>> {
      const { mayWrite = () => true, ...writeOptions } = options;
      const { uid } = cached.metadata;
      let object = latestOf(cached);
      for (let tries = 1; ; tries++) {
        if (!mayWrite(object)) {
          return { kind: 'refused', object };
        }
        const wished: object = typeof status === 'function' ? status(object) : status;
        checkOwned(wished as StatusFields, owned);
        if (!statusDiffers(statusOf(object), wished, owned)) {
          return { kind: 'unchanged', object };
        }
        try {
          const result = await write(object, wished, writeOptions);
          written.set(uid ?? '', result);
          return { kind: 'written', object: result };
        } catch (error) {
          if (tries === TRIES || !(hasCode(error, 'Conflict') || hasCode(error, 'NotFound'))) {
            throw error;
          }
        }
        const { deadlineMs, signal } = options;
        const fresh = await client.get(type, objectKey(cached), { signal, deadlineMs });
        if (fresh === undefined || fresh.metadata.uid !== uid) {
          written.delete(uid ?? '');
          return { kind: 'gone' };
        }
        object = fresh;
      }
    },
    /** The object as it is after our own last write, where that is newer than what is given. */
    latest: latestOf,
    /** Forgets an object that is gone. */
    forget(uid: string): void {
      written.delete(uid);
    },
  };
}
