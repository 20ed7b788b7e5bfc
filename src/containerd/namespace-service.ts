import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';

const SERVICE = 'containerd.services.namespaces.v1.Namespaces';

/** The namespaces of one containerd; they come to be with the first thing that is put in them. */
export interface NamespaceService {
  /** Only an empty one goes: `FailedPrecondition` says what is still in it. */
  delete(name: string, options?: CallOptions): Promise<void>;
}

export function createNamespaceService(channel: ContainerdChannel): NamespaceService {
  return {
    async delete(name, options) {
      await channel.unary(SERVICE, 'Delete', { name }, options);
    },
  };
}
