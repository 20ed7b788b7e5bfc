import { type Clock, systemClock } from '../common/clock.ts';
import { createContainerService } from './container-service.ts';
import { openDockerChannel } from './docker-channel.ts';
import { createEventService } from './event-service.ts';
import { createImageService } from './image-service.ts';
import { createNetworkService } from './network-service.ts';
import { createSystemService } from './system-service.ts';

/** One Docker engine, over its API. */
export type DockerClient = Readonly<ReturnType<typeof createDockerClient>>;

/**
 * Makes a client; calls open connections on demand.
 *
 * @param socketPath of the engine
 */
export function createDockerClient(socketPath: string, clock: Clock = systemClock) {
  const channel = openDockerChannel(socketPath);
  return {
    containers: createContainerService(channel),
    images: createImageService(channel),
    networks: createNetworkService(channel),
    events: createEventService(channel, () => clock.now()),
    system: createSystemService(channel),
    close: () => channel.close(),
  };
}
