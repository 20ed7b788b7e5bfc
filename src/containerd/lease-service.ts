import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';

const SERVICE = 'containerd.services.leases.v1.Leases';

/** Leases, which keep unreferenced content from being collected. */
export function createLeaseService(channel: ContainerdChannel) {
  return {
    /** @param expiresAt time at which containerd drops the lease, in case this process dies */
    async create(id: string, expiresAt: Date, options?: CallOptions): Promise<void> {
      // containerd's format, Go's time.RFC3339, takes no fraction.
      const labels = { 'containerd.io/gc.expire': `${expiresAt.toISOString().slice(0, 19)}Z` };
      await channel.unary(SERVICE, 'Create', { id, labels }, options);
    },
    async delete(id: string, options?: CallOptions): Promise<void> {
      await channel.unary(SERVICE, 'Delete', { id, sync: false }, options);
    },
    async list(options?: CallOptions): Promise<readonly { readonly id: string }[]> {
      const answer = await channel.unary<{ leases: { id: string }[] }>(SERVICE, 'List', {}, options);
      return answer.leases;
    },
  };
}
