import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';

const SERVICE = 'containerd.services.namespaces.v1.Namespaces';

/** The namespaces of one containerd; the first thing in a namespace makes it. */
export interface NamespaceService {
  /** Deletes an empty namespace; `FailedPrecondition` names the contents of others. */
  delete(name: string, options?: CallOptions): Promise<void>;
}

export function createNamespaceService(channel: ContainerdChannel): NamespaceService {
  return {
    async delete(name, options) {
      await channel.unary(SERVICE, 'Delete', { name }, options);
    },
  };
}
