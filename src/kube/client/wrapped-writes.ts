import { objectKey } from '../api/object-key.ts';
import type { FenceOptions, KubeClient, KubeObject, ObjectKey, ResourceType } from '../api/types.ts';

/** Object that a write is for. */
export interface WriteTarget {
  readonly verb: 'create' | 'delete' | 'patch' | 'update';
  readonly type: ResourceType<KubeObject>;
  readonly key: ObjectKey;
  /** Of the object that is written to, where the write names it. */
  readonly uid: string | undefined;
}

/** Frame around each write: sends the request with the options that the write is to have. */
export type AroundWrite = <O extends FenceOptions, T extends KubeObject | undefined>(
  options: O | undefined,
  send: (options: O) => Promise<T>,
  target: WriteTarget,
) => Promise<T>;

/** A client whose writes go through `around`, and whose reads are as before. */
export function wrapWrites(client: KubeClient, around: AroundWrite): KubeClient {
  return {
    get: (type, key, options) => client.get(type, key, options),
    list: (type, parameters, options) => client.list(type, parameters, options),
    count: (type, options) => client.count(type, options),
    watch: (type, parameters, options) => client.watch(type, parameters, options),
    create: (type, object, options) => {
      const target = { verb: 'create', type, key: objectKey(object), uid: undefined } as const;
      return around(options, (each) => client.create(type, object, each), target);
    },
    update: (type, object, options) => {
      const target = { verb: 'update', type, key: objectKey(object), uid: object.metadata.uid } as const;
      return around(options, (each) => client.update(type, object, each), target);
    },
    patch: (type, key, patch, options) => {
      const target = { verb: 'patch', type, key, uid: undefined } as const;
      return around(options, (each) => client.patch(type, key, patch, each), target);
    },
    delete: (type, key, options) => {
      const target = { verb: 'delete', type, key, uid: options?.uid } as const;
      return around(options, (each) => client.delete(type, key, each), target);
    },
    close: () => client.close(),
  };
}
