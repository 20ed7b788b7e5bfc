import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel, LeasedCallOptions } from './containerd-channel.ts';

const SERVICE = 'containerd.services.snapshots.v1.Snapshots';

export interface Mount {
  readonly type: string;
  readonly source: string;
  /** Folder below the root that is mounted over. Default: the root itself. */
  readonly target?: string;
  readonly options: readonly string[];
}

export interface Snapshot {
  readonly name: string;
  readonly kind: 'UNKNOWN' | 'VIEW' | 'ACTIVE' | 'COMMITTED';
}

/** The file systems of one snapshotter. */
export function createSnapshotService(channel: ContainerdChannel, snapshotter: string) {
  async function mountsBy(name: string, request: object, options?: LeasedCallOptions): Promise<readonly Mount[]> {
    return (await channel.unary<{ mounts: readonly Mount[] }>(SERVICE, name, { snapshotter, ...request }, options))
      .mounts;
  }

  return {
    /** Makes a writable snapshot on top of `parent`. */
    prepare: (
      key: string,
      parent: string,
      { labels = {}, ...options }: LeasedCallOptions & { readonly labels?: Readonly<Record<string, string>> } = {},
    ) => mountsBy('Prepare', { key, parent, labels }, options),
    /** Makes a read-only snapshot of `parent`. */
    view: (key: string, parent: string, options?: LeasedCallOptions) => mountsBy('View', { key, parent }, options),
    mounts: (key: string, options?: CallOptions) => mountsBy('Mounts', { key }, options),
    async remove(key: string, options?: CallOptions): Promise<void> {
      await channel.unary(SERVICE, 'Remove', { snapshotter, key }, options);
    },
    async stat(key: string, options?: CallOptions): Promise<Snapshot> {
      const answer = await channel.unary<{ info: Snapshot }>(SERVICE, 'Stat', { snapshotter, key }, options);
      return answer.info;
    },
    async list(options?: CallOptions): Promise<readonly Snapshot[]> {
      const all: Snapshot[] = [];
      const parts = channel.serverStream<{ info: Snapshot[] }>(SERVICE, 'List', { snapshotter }, options);
      for await (const part of parts) {
        all.push(...part.info);
      }
      return all;
    },
  };
}
