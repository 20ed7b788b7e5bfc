import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';

const SERVICE = 'containerd.services.namespaces.v1.Namespaces';

/** The namespaces of one containerd; the first thing in a namespace makes it. */
export function createNamespaceService(channel: ContainerdChannel) {
  return {
    /** Deletes an empty namespace; `FailedPrecondition` names the contents of others. */
    async delete(name: string, options?: CallOptions): Promise<void> {
      await channel.unary(SERVICE, 'Delete', { name }, options);
    },
  };
}
