import type { CallOptions } from '../common/deadline.ts';
import type { DockerChannel } from './docker-channel.ts';

type Strings = Readonly<Record<string, string>>;

export type NetworkService = ReturnType<typeof createNetworkService>;

/** Networks of the engine, by name. Errors are those of `dockerError`. */
export function createNetworkService({ docker, call }: DockerChannel) {
  return {
    async inspect(
      name: string,
      options: CallOptions = {},
    ): Promise<{ readonly driver: string; readonly labels: Strings }> {
      const info = await call(`docker network inspect ${name}`, options, () => docker.getNetwork(name).inspect());
      return { driver: info.Driver, labels: info.Labels ?? {} };
    },
    /**
     * Makes a bridge network, with addresses from the engine's own pool.
     *
     * @param driver options of the driver
     */
    async createBridge(name: string, labels: Strings, driver: Strings, options: CallOptions = {}): Promise<void> {
      await call(`docker network create ${name}`, options, (abortSignal) =>
        docker.createNetwork({
          Name: name,
          Driver: 'bridge',
          CheckDuplicate: true,
          Labels: { ...labels },
          Options: { ...driver },
          abortSignal,
        }),
      );
    },
    async remove(name: string, options: CallOptions = {}): Promise<void> {
      await call(`docker network rm ${name}`, options, (abortSignal) =>
        docker.getNetwork(name).remove({ abortSignal }),
      );
    },
  };
}
