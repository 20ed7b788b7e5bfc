import { readFileSync } from 'node:fs';
import type { NodeNetwork } from '../../cni/contract.ts';
import { systemCommandRunner } from '../../common/exec/command-runner.ts';
import { type ContainerdClient, createContainerdClient } from '../../containerd/containerd-client.ts';
import { linuxPlatform } from '../../oci/image-config.ts';
import { ImageStore } from '../images/image-store.ts';
import { createRuntimeParts, type RuntimeOptions } from '../lifecycle/runtime-parts.ts';
import { TmpFiles } from '../tmp/tmp-files.ts';
import { TmpMedium } from '../tmp/tmp-medium.ts';
import { CgroupEvents } from './cgroup-events.ts';
import { WorkerCgroups } from './cgroups.ts';
import { containerdEvents } from './events.ts';
import { Freezer } from './freezer.ts';
import { HostsFiles } from './hosts-files.ts';
import { Isolation, type IsolationOptions } from './isolation.ts';
import { Leftovers } from './leftovers.ts';
import { OrphanShims } from './orphan-shim.ts';
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
  /** Default: `/tmp` of workers is in memory. */
  readonly tmp?: {
    /** Folder on disk for the files that are `/tmp` of workers. */
    readonly folder: string;
    /** Whether new workers get such a file where that is possible. */
    readonly isWanted: boolean;
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

export type ContainerdParts = Readonly<ReturnType<typeof createContainerdParts>>;

/** Makes the parts that creation, removal and the rest of the backend share. */
export function createContainerdParts(options: ContainerdRuntimeOptions) {
  const { etc, images, isolation = {}, network, observer, runner, shims } = options;
  const { socketPath } = options.containerd;
  const parts = createRuntimeParts(options);
  const { clock, events, logger } = parts;
  const owner = { socketPath, namespace: CONTAINERD_NAMESPACE };
  const snapshotter = SNAPSHOTTER;
  const runcRoot = shims?.runcRoot;
  const client = options.containerd.client ?? createContainerdClient({ ...owner, snapshotter });
  const cgroups = new WorkerCgroups({ driver: isolation.cgroupDriver, parent: isolation.cgroupParent, clock });
  const freezer = new Freezer({ folders: (id) => cgroups.freezerFolders(id), clock });
  const limits = new CgroupEvents({
    read: (id) => cgroups.limitHits(id),
    onHit: (containerId, limit, count) => {
      logger.warn({ containerId, limit, count }, 'a worker ran into its limit');
      observer?.limitReached(limit, count);
      events.publish({ kind: 'LimitReached', containerId });
    },
    clock,
  });
  return {
    ...parts,
    client,
    snapshotter,
    runtime: 'io.containerd.runc.v2',
    runcRoot,
    /** Name of this boot of the machine (`random(4)`): no process outlives a change of the name. */
    bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    network,
    images: new ImageStore({ ...parts, ...images, client, platform: linuxPlatform(process.arch), snapshotter }),
    tasks: new TaskControl({ client, freezer, clock, logger }),
    cgroups,
    isolation: new Isolation(isolation, () => client.containers.list({ deadlineMs: 60_000 })),
    limits,
    hosts: new HostsFiles(etc.hostsFolder),
    tmp: new TmpMedium(
      options.tmp === undefined ? undefined : new TmpFiles(options.tmp.folder, runner ?? systemCommandRunner),
      options.tmp?.isWanted === true,
    ),
    resolvConfPath: etc.resolvConfPath,
    leftovers: new Leftovers({ ...owner, runcRoot, runner }),
    shims: new OrphanShims({ ...owner, clock }),
    groups: new ShimGroups(shims?.workersPerShim ?? 1),
    feed: containerdEvents({
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
    }),
  };
}
