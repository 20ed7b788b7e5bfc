import type { CallOptions } from '../common/deadline.ts';
import type { DockerChannel } from './docker-channel.ts';

export interface DockerNetwork {
  readonly driver: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface NewNetwork {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Options of the driver. */
  readonly options: Readonly<Record<string, string>>;
}

/** Networks of the engine, by name. Errors are those of `dockerError`. */
export interface NetworkService {
  inspect(name: string, options?: CallOptions): Promise<DockerNetwork>;
  /** Makes a bridge network, with addresses from the engine's own pool. */
  createBridge(network: NewNetwork, options?: CallOptions): Promise<void>;
  remove(name: string, options?: CallOptions): Promise<void>;
}

export function createNetworkService({ docker, call }: DockerChannel): NetworkService {
  return {
    async inspect(name, options = {}) {
      const info = await call(`docker network inspect ${name}`, options, () => docker.getNetwork(name).inspect());
      return { driver: info.Driver, labels: info.Labels ?? {} };
    },
    async createBridge({ name, labels, options: driverOptions }, options = {}) {
      await call(`docker network create ${name}`, options, (abortSignal) =>
        docker.createNetwork({
          Name: name,
          Driver: 'bridge',
          CheckDuplicate: true,
          Labels: { ...labels },
          Options: { ...driverOptions },
          abortSignal,
        }),
      );
    },
    async remove(name, options = {}) {
      await call(`docker network rm ${name}`, options, (abortSignal) =>
        docker.getNetwork(name).remove({ abortSignal }),
      );
    },
  };
}
