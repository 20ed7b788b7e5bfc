import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';

const SERVICE = 'containerd.services.version.v1.Version';

/** The version of containerd. */
export interface VersionService {
  get(options?: CallOptions): Promise<{ readonly version: string; readonly revision: string }>;
}

export function createVersionService(channel: ContainerdChannel): VersionService {
  return { get: (options) => channel.unary(SERVICE, 'Version', {}, options) };
}
