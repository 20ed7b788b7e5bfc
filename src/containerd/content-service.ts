import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';

const SERVICE = 'containerd.services.content.v1.Content';

/** containerd's content store. */
export function createContentService(channel: ContainerdChannel) {
  return {
    /** The whole of a blob; meant for manifests and configurations. */
    async read(digest: string, options?: CallOptions): Promise<Buffer> {
      const parts: Buffer[] = [];
      for await (const part of channel.serverStream<{ data: Buffer }>(SERVICE, 'Read', { digest }, options)) {
        parts.push(part.data);
      }
      return Buffer.concat(parts);
    },
  };
}
