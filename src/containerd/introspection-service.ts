import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';

const SERVICE = 'containerd.services.introspection.v1.Introspection';

/** A plugin of containerd and its state. */
export interface Plugin {
  readonly type: string;
  readonly id: string;
  readonly exports: Readonly<Record<string, string>>;
  /** Capabilities beyond those of every plugin of the type. */
  readonly capabilities: readonly string[];
  /** Reason why the plugin does not work; absent when it works. */
  readonly error?: string;
}

type WirePlugin = Omit<Plugin, 'error'> & { readonly initErr: { readonly message: string } | null };

export function createIntrospectionService(channel: ContainerdChannel) {
  return {
    /** @param filters such as `type==io.containerd.snapshotter.v1,id==overlayfs`; none for every plugin */
    async plugins(filters: readonly string[], options?: CallOptions): Promise<readonly Plugin[]> {
      const answer = await channel.unary<{ plugins: WirePlugin[] }>(SERVICE, 'Plugins', { filters }, options);
      return answer.plugins.map(({ initErr, ...plugin }) => ({
        ...plugin,
        ...(initErr === null ? {} : { error: initErr.message }),
      }));
    },
  };
}
