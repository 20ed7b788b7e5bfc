import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';

const SERVICE = 'containerd.services.leases.v1.Leases';

export interface Lease {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** What keeps content from being collected while nothing refers to it yet. */
export interface LeaseService {
  /** @param expiresAt when containerd drops the lease by itself, for the case that we do not live to */
  create(id: string, expiresAt: Date, options?: CallOptions): Promise<void>;
  delete(id: string, options?: CallOptions): Promise<void>;
  list(options?: CallOptions): Promise<readonly Lease[]>;
}

export function createLeaseService(channel: ContainerdChannel): LeaseService {
  return {
    async create(id, expiresAt, options) {
      // Go's time.RFC3339 takes no fraction here.
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
