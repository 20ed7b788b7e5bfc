import { EsbError } from '../../common/errors.ts';
import type { FenceOptions, KubeClient } from '../api/types.ts';

/** The error of a write that was not sent: the right to write had ended by the time that the request could go out. */
export class FencedError extends EsbError {
  constructor() {
    super('not the leader: nothing was written', { code: 'NotLeader' });
  }
}

/**
 * A client whose writes reach the wire only while `mayWrite` holds, asked at the last moment: a process that slept
 * through its term with a request in hand does not send it when it wakes.
 */
export function fencedClient(client: KubeClient, mayWrite: () => boolean): KubeClient {
  const fenced = <T extends FenceOptions>(options: T | undefined): T & FenceOptions => ({
    ...(options as T),
    fence() {
      if (!mayWrite()) {
        throw new FencedError();
      }
      options?.fence?.();
    },
  });
  return {
    get: (type, key, options) => client.get(type, key, options),
    list: (type, parameters, options) => client.list(type, parameters, options),
    count: (type, options) => client.count(type, options),
    watch: (type, parameters, options) => client.watch(type, parameters, options),
    create: (type, object, options) => client.create(type, object, fenced(options)),
    update: (type, object, options) => client.update(type, object, fenced(options)),
    patch: (type, key, patch, options) => client.patch(type, key, patch, fenced(options)),
    delete: (type, key, options) => client.delete(type, key, fenced(options)),
    close: () => client.close(),
  };
}
