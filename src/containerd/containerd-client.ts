import { type ContainerService, createContainerService } from './container-service.ts';
import { ContainerdChannel, type ContainerdChannelOptions } from './containerd-channel.ts';
import { type ContentService, createContentService } from './content-service.ts';
import { createEventService, type EventService } from './event-service.ts';
import { createImageService, type ImageService } from './image-service.ts';
import { createIntrospectionService, type IntrospectionService } from './introspection-service.ts';
import { createLeaseService, type LeaseService } from './lease-service.ts';
import { createNamespaceService, type NamespaceService } from './namespace-service.ts';
import { createSnapshotService, type SnapshotService } from './snapshot-service.ts';
import { createTaskService, type TaskService } from './task-service.ts';
import { createTransferService, type TransferService } from './transfer-service.ts';
import { createVersionService, type VersionService } from './version-service.ts';

/** The services of one containerd, in one namespace. Every method fails with an `EsbError`. */
export interface ContainerdClient {
  readonly version: VersionService;
  readonly introspection: IntrospectionService;
  readonly leases: LeaseService;
  readonly images: ImageService;
  readonly content: ContentService;
  readonly snapshots: SnapshotService;
  readonly containers: ContainerService;
  readonly tasks: TaskService;
  readonly events: EventService;
  readonly transfer: TransferService;
  readonly namespaces: NamespaceService;
  close(): void;
}

export interface ContainerdClientOptions extends ContainerdChannelOptions {
  readonly snapshotter: string;
}

/** Makes a client, whose first call opens the connection. */
export function createContainerdClient(options: ContainerdClientOptions): ContainerdClient {
  const channel = new ContainerdChannel(options);
  return {
    version: createVersionService(channel),
    introspection: createIntrospectionService(channel),
    leases: createLeaseService(channel),
    images: createImageService(channel),
    content: createContentService(channel),
    snapshots: createSnapshotService(channel, options.snapshotter),
    containers: createContainerService(channel),
    tasks: createTaskService(channel),
    events: createEventService(channel),
    transfer: createTransferService(channel),
    namespaces: createNamespaceService(channel),
    close: () => channel.close(),
  };
}
