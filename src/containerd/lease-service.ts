import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';

const SERVICE = 'containerd.services.leases.v1.Leases';

export interface Lease {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Leases, which keep unreferenced content from being collected. */
export interface LeaseService {
  /** @param expiresAt time at which containerd drops the lease, in case this process dies */
  create(id: string, expiresAt: Date, options?: CallOptions): Promise<void>;
  delete(id: string, options?: CallOptions): Promise<void>;
  list(options?: CallOptions): Promise<readonly Lease[]>;
}

export function createLeaseService(channel: ContainerdChannel): LeaseService {
  return {
    async create(id, expiresAt, options) {
      // containerd's format, Go's time.RFC3339, takes no fraction.
      const labels = { 'containerd.io/gc.expire': `${expiresAt.toISOString().slice(0, 19)}Z` };
      await channel.unary(SERVICE, 'Create', { id, labels }, options);
    },
    async delete(id, options) {
      await channel.unary(SERVICE, 'Delete', { id, sync: false }, options);
    },
    async list(options) {
      const answer = await channel.unary<{ leases: Lease[] }>(SERVICE, 'List', {}, options);
      return answer.leases;
    },
  };
}
