import { type Clock, systemClock } from '../common/clock.ts';
import { type ContainerService, createContainerService } from './container-service.ts';
import { openDockerChannel } from './docker-channel.ts';
import { createEventService, type EventService } from './event-service.ts';
import { createImageService, type ImageService } from './image-service.ts';
import { createNetworkService, type NetworkService } from './network-service.ts';
import { createSystemService, type SystemService } from './system-service.ts';

/** One Docker engine, over its API. */
export interface DockerClient {
  readonly containers: ContainerService;
  readonly images: ImageService;
  readonly networks: NetworkService;
  readonly events: EventService;
  readonly system: SystemService;
  close(): void;
}

export interface DockerClientOptions {
  /** Path of the engine's socket. */
  readonly socketPath: string;
  readonly clock?: Clock | undefined;
}

/** Makes a client; calls open connections on demand. */
export function createDockerClient(options: DockerClientOptions): DockerClient {
  const clock = options.clock ?? systemClock;
  const channel = openDockerChannel(options.socketPath);
  return {
    containers: createContainerService(channel),
    images: createImageService(channel),
    networks: createNetworkService(channel),
    events: createEventService(channel, () => clock.now()),
    system: createSystemService(channel),
    close: () => channel.close(),
  };
}
