import type { NodeNetwork } from '../../cni/contract.ts';
import { type ContainerdClient, createContainerdClient } from '../../containerd/containerd-client.ts';
import { linuxPlatform } from '../../oci/image-config.ts';
import { ImageStore } from '../images/image-store.ts';
import { createNodeImages } from '../images/node-images.ts';
import { createRuntimeParts, type RuntimeOptions } from '../lifecycle/runtime-parts.ts';
import { WorkerRuntime } from '../lifecycle/worker-runtime.ts';
import { ContainerdBackend } from './backend.ts';
import { readBootId } from './boot-id.ts';
import { CgroupEvents } from './cgroup-events.ts';
import { WorkerCgroups } from './cgroups.ts';
import { type MadeWorker, WorkerCreation } from './create.ts';
import { EventFeed } from './events.ts';
import { Freezer } from './freezer.ts';
import { HostsFiles } from './hosts-files.ts';
import { Isolation, type IsolationOptions } from './isolation.ts';
import { Leftovers } from './leftovers.ts';
import { OrphanShims } from './orphan-shim.ts';
import { WorkerRemoval } from './remove.ts';
import { ShimGroups } from './shim-groups.ts';
import { TaskControl } from './task.ts';

export interface ContainerdRuntimeOptions extends RuntimeOptions {
  readonly containerd: {
    /** Path of containerd's socket, as containerd itself is configured. */
    readonly socketPath: string;
    /** Default: a client of containerd at `socketPath`. */
    readonly client?: ContainerdClient | undefined;
  };
  readonly network: NodeNetwork;
  readonly images?: RuntimeOptions['images'] & {
    /** `certs.d`: per-registry settings, read by containerd. */
    readonly hostsFolder?: string | undefined;
  };
  readonly etc: {
    /** Folder on a tmpfs for the files that are mounted over `/etc/hosts` of the workers. */
    readonly hostsFolder: string;
    /** Mounted over `/etc/resolv.conf` of every worker. Default: the image's own. */
    readonly resolvConfPath?: string | undefined;
  };
  readonly shims?: {
    /**
     * Folder of runc's states, on tmpfs. A worker has the same container id on every node, so nodes on one machine need
     * one each. Default: a folder that all daemons of a machine share.
     */
    readonly runcRoot?: string | undefined;
    /** Workers that share a shim. Default 1. */
    readonly workersPerShim?: number | undefined;
  };
  /** Default: in cgroups below `/esb` and in no user namespaces. */
  readonly isolation?: IsolationOptions | undefined;
}

/** Namespace of containerd that holds everything of ours, and nothing else. */
export const CONTAINERD_NAMESPACE = 'esb';

const SNAPSHOTTER = 'overlayfs';
const SHIM = 'io.containerd.runc.v2';

/** Makes the runtime of workers as tasks of containerd. Nothing happens before its start. */
export function createContainerdRuntime(options: ContainerdRuntimeOptions): WorkerRuntime<MadeWorker> {
  const { images: imageOptions, isolation: isolationOptions = {}, network, observer, runner, shims } = options;
  const { socketPath } = options.containerd;
  const parts = createRuntimeParts(options);
  const { clock, events, hostPorts, logger, logs } = parts;
  const owner = { socketPath, namespace: CONTAINERD_NAMESPACE };
  const container = {
    snapshotter: SNAPSHOTTER,
    runtime: SHIM,
    runcRoot: shims?.runcRoot,
    bootId: readBootId(),
  };
  const client = options.containerd.client ?? createContainerdClient({ ...owner, snapshotter: SNAPSHOTTER });
  const cgroups = new WorkerCgroups({
    driver: isolationOptions.cgroupDriver,
    parent: isolationOptions.cgroupParent,
    clock,
  });
  const isolation = new Isolation(isolationOptions, () => client.containers.list({ deadlineMs: 60_000 }));
  const hosts = new HostsFiles(options.etc.hostsFolder);
  const leftovers = new Leftovers({ ...owner, runcRoot: shims?.runcRoot, runner });
  const freezer = new Freezer({ folders: (id) => cgroups.freezerFolders(id), clock });
  const tasks = new TaskControl({ client, freezer, clock, logger });
  const images = new ImageStore({
    client,
    platform: linuxPlatform(process.arch),
    snapshotter: SNAPSHOTTER,
    hostsFolder: imageOptions?.hostsFolder,
    maxPulls: imageOptions?.maxPulls,
    observer,
    clock,
    logger,
  });
  const groups = new ShimGroups(shims?.workersPerShim ?? 1);
  const removal = new WorkerRemoval({
    ...container,
    client,
    tasks,
    network,
    hostPorts,
    cgroups,
    isolation,
    shims: new OrphanShims({ ...owner, clock }),
    groups,
    logs,
    hosts,
    clock,
    logger,
  });
  const creation = new WorkerCreation({
    parts,
    container,
    client,
    images,
    network,
    removal,
    cgroups,
    isolation,
    groups,
    etc: { hosts, resolvConfPath: options.etc.resolvConfPath },
    removeBundle: (containerId, error) => leftovers.removeBundle(containerId, error),
  });
  const limits = new CgroupEvents({
    read: (id) => cgroups.limitHits(id),
    onHit: (containerId, limit, count) => {
      logger.warn({ containerId, limit, count }, 'a worker ran into its limit');
      observer?.limitReached(limit, count);
      events.publish({ kind: 'LimitReached', containerId });
    },
    clock,
  });
  const feed = new EventFeed({
    events: client.events,
    namespace: CONTAINERD_NAMESPACE,
    clock,
    logger,
    listener: (event) => {
      if (event.kind === 'OutOfMemory') {
        limits.hint(event.containerId);
      }
      events.publish(event);
    },
  });
  const backend = new ContainerdBackend({
    parts,
    client,
    namespace: CONTAINERD_NAMESPACE,
    snapshotter: SNAPSHOTTER,
    network,
    images,
    nodeImages: createNodeImages({ client, store: images, snapshotter: SNAPSHOTTER }),
    tasks,
    creation,
    removal,
    cgroups,
    isolation,
    limits,
    hosts,
    leftovers,
    groups,
    feed,
  });
  return new WorkerRuntime(backend, parts);
}
