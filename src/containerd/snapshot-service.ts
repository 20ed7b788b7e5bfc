import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel, LeasedCallOptions } from './containerd-channel.ts';

const SERVICE = 'containerd.services.snapshots.v1.Snapshots';

/** A mount by containerd's description. */
export interface Mount {
  readonly type: string;
  readonly source: string;
  readonly target?: string;
  readonly options: readonly string[];
}

export interface Snapshot {
  readonly name: string;
  readonly parent: string;
  readonly kind: 'UNKNOWN' | 'VIEW' | 'ACTIVE' | 'COMMITTED';
}

export interface PrepareOptions extends LeasedCallOptions {
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

/** The file systems of one snapshotter. */
export interface SnapshotService {
  /** Makes a writable snapshot on top of `parent`. */
  prepare(key: string, parent: string, options?: PrepareOptions): Promise<readonly Mount[]>;
  /** Makes a read-only snapshot of `parent`. */
  view(key: string, parent: string, options?: LeasedCallOptions): Promise<readonly Mount[]>;
  mounts(key: string, options?: CallOptions): Promise<readonly Mount[]>;
  remove(key: string, options?: CallOptions): Promise<void>;
  stat(key: string, options?: CallOptions): Promise<Snapshot>;
  list(options?: CallOptions): Promise<readonly Snapshot[]>;
}

export function createSnapshotService(channel: ContainerdChannel, snapshotter: string): SnapshotService {
  type Mounts = { readonly mounts: readonly Mount[] };
  return {
    async prepare(key, parent, { labels = {}, ...options } = {}) {
      const request = { snapshotter, key, parent, labels };
      return (await channel.unary<Mounts>(SERVICE, 'Prepare', request, options)).mounts;
    },
    async view(key, parent, options) {
      const request = { snapshotter, key, parent };
      return (await channel.unary<Mounts>(SERVICE, 'View', request, options)).mounts;
    },
    async mounts(key, options) {
      return (await channel.unary<Mounts>(SERVICE, 'Mounts', { snapshotter, key }, options)).mounts;
    },
    async remove(key, options) {
      await channel.unary(SERVICE, 'Remove', { snapshotter, key }, options);
    },
    async stat(key, options) {
      const answer = await channel.unary<{ info: Snapshot }>(SERVICE, 'Stat', { snapshotter, key }, options);
      return answer.info;
    },
    async list(options) {
      const all: Snapshot[] = [];
      const parts = channel.serverStream<{ info: Snapshot[] }>(SERVICE, 'List', { snapshotter }, options);
      for await (const part of parts) {
        all.push(...part.info);
      }
      return all;
    },
  };
}
