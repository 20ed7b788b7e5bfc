import type { CallOptions } from '../common/deadline.ts';
import { hasCode } from '../common/errors.ts';
import type { ContainerdChannel } from './containerd-channel.ts';

const SERVICE = 'containerd.services.namespaces.v1.Namespaces';

/** The namespaces of one containerd; the first thing in a namespace makes it. */
export function createNamespaceService(channel: ContainerdChannel) {
  return {
    /** Makes a namespace where there is none of the name. */
    async ensure(name: string, options?: CallOptions): Promise<void> {
      try {
        await channel.unary(SERVICE, 'Create', { namespace: { name } }, options);
      } catch (error) {
        if (!hasCode(error, 'AlreadyExists')) {
          throw error;
        }
      }
    },
    /** Deletes an empty namespace; `FailedPrecondition` names the contents of others. */
    async delete(name: string, options?: CallOptions): Promise<void> {
      await channel.unary(SERVICE, 'Delete', { name }, options);
    },
  };
}
