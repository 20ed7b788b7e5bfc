import type { CallOptions } from '../common/deadline.ts';
import type { DockerChannel } from './docker-channel.ts';

export interface DockerVersion {
  /** Such as `20.10.24`. */
  readonly version: string;
  /** Version of the API, such as `1.41`. */
  readonly apiVersion: string;
  readonly os: string;
}

/** The engine itself. Errors are those of `dockerError`. */
export function createSystemService({ docker, call }: DockerChannel) {
  return {
    async version(options: CallOptions = {}): Promise<DockerVersion> {
      const info = await call('docker version', options, () => docker.version());
      return { version: info.Version, apiVersion: info.ApiVersion, os: info.Os };
    },
  };
}
