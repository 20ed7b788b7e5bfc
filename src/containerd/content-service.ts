import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';

const SERVICE = 'containerd.services.content.v1.Content';

/** containerd's content store. */
export interface ContentService {
  /** The whole of a blob; meant for manifests and configurations. */
  read(digest: string, options?: CallOptions): Promise<Buffer>;
}

export function createContentService(channel: ContainerdChannel): ContentService {
  return {
    async read(digest, options) {
      const parts: Buffer[] = [];
      for await (const part of channel.serverStream<{ data: Buffer }>(SERVICE, 'Read', { digest }, options)) {
        parts.push(part.data);
      }
      return Buffer.concat(parts);
    },
  };
}
