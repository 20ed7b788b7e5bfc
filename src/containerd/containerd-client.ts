import { createContainerService } from './container-service.ts';
import { ContainerdChannel, type ContainerdChannelOptions } from './containerd-channel.ts';
import { createContentService } from './content-service.ts';
import { createEventService } from './event-service.ts';
import { createImageService } from './image-service.ts';
import { createIntrospectionService } from './introspection-service.ts';
import { createLeaseService } from './lease-service.ts';
import { createNamespaceService } from './namespace-service.ts';
import { createSnapshotService } from './snapshot-service.ts';
import { createTaskService } from './task-service.ts';
import { createTransferService } from './transfer-service.ts';
import { createVersionService } from './version-service.ts';

/** The services of one containerd, in one namespace. Every method fails with an `EsbError`. */
export type ContainerdClient = Readonly<ReturnType<typeof createContainerdClient>>;

/** Makes a client, whose first call opens the connection. */
export function createContainerdClient(options: ContainerdChannelOptions & { readonly snapshotter: string }) {
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
