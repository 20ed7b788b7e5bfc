import type { FenceOptions, KubeClient } from '../api/types.ts';

/** Frame around each write: sends the request with the options that the write is to have. */
export type AroundWrite = <O extends FenceOptions, T>(
  options: O | undefined,
  send: (options: O) => Promise<T>,
) => Promise<T>;

/** A client whose writes go through `around`, and whose reads are as before. */
export function wrapWrites(client: KubeClient, around: AroundWrite): KubeClient {
  return {
    get: (type, key, options) => client.get(type, key, options),
    list: (type, parameters, options) => client.list(type, parameters, options),
    count: (type, options) => client.count(type, options),
    watch: (type, parameters, options) => client.watch(type, parameters, options),
    create: (type, object, options) => around(options, (each) => client.create(type, object, each)),
    update: (type, object, options) => around(options, (each) => client.update(type, object, each)),
    patch: (type, key, patch, options) => around(options, (each) => client.patch(type, key, patch, each)),
    delete: (type, key, options) => around(options, (each) => client.delete(type, key, each)),
    close: () => client.close(),
  };
}
