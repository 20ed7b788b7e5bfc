import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';

const SERVICE = 'containerd.services.version.v1.Version';

export function createVersionService(channel: ContainerdChannel) {
  return {
    get: (options?: CallOptions) => channel.unary<{ readonly version: string }>(SERVICE, 'Version', {}, options),
  };
}
