import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { containerLabels } from '../../api/label.ts';
import { EsbError, errnoOf } from '../../common/errors.ts';
import type { ContainerRecord } from '../../containerd/container-service.ts';
import { linuxPlatform } from '../../oci/image-config.ts';
import type { RuntimeSpecOptions } from '../../oci/runtime-spec.ts';
import type { UserIds } from '../../oci/spec-user.ts';
import {
  CGROUP_ROOT,
  type CgroupDriver,
  cgroupParent,
  isCgroup2,
  prepareCgroupParent,
} from './cgroup-parent.ts';
import { type LimitOutcome, limitParent, machineSize, parentLimits } from './parent-limits.ts';
import { UserIdBlocks } from './user-id-blocks.ts';

/** How the workers of a node are held. */
export interface IsolationOptions {
  /** Who makes the cgroups. Default `cgroupfs`. */
  readonly cgroupDriver?: CgroupDriver | undefined;
  /** Cgroup above the workers' own. Default `/esb`, with systemd `esb.slice`. */
  readonly cgroupParent?: string | undefined;
  /** Memory that all workers together are promised, MiB: what the cgroup above them is held to. Default: no limit. */
  readonly promisedMiB?: number | undefined;
  /** Users of the node from which each worker gets a user namespace. Default: none has one. */
  readonly userIds?: UserIds | undefined;
  /** `oom_score_adj` of workers. Default {@link DEFAULT_OOM_SCORE_ADJ}. */
  readonly oomScoreAdj?: number | undefined;
  /** Whether workers' system calls are filtered. Default true. */
  readonly seccomp?: boolean | undefined;
}

/** What holds one worker. */
export interface WorkerIsolation {
  readonly spec: Pick<
    RuntimeSpecOptions,
    'architecture' | 'cgroupsPath' | 'userIds' | 'oomScoreAdj' | 'seccomp' | 'maskedPaths'
  >;
  /** Of its container. */
  readonly labels: Readonly<Record<string, string>>;
  /** Of its file system. */
  readonly snapshotLabels: Readonly<Record<string, string>>;
  readonly systemdCgroup: boolean;
}

/**
 * A worker is started again at its next call; what else runs on the node is not. So workers go before Pods that asked for
 * memory (2 to 999 as the kubelet gives it, near 999 for those that asked for little), and after those that asked for
 * nothing (1000).
 */
export const DEFAULT_OOM_SCORE_ADJ = 950;

/** How containerd's snapshotters are told whose the files are to look. */
const SNAPSHOT_MAPPINGS = ['containerd.io/snapshot/uidmapping', 'containerd.io/snapshot/gidmapping'] as const;
/** What a snapshotter says of itself that can do so without copying. */
export const REMAP_CAPABILITY = 'remap-ids';

const PROCESSORS = '/sys/devices/system/cpu';

/** Gives each worker what keeps it from the node and from other workers. */
export class Isolation {
  readonly #options: IsolationOptions;
  readonly #cgroups: ReturnType<typeof cgroupParent>;
  readonly #blocks: UserIdBlocks | undefined;
  #maskedPaths: Promise<readonly string[]> | undefined;

  /** @param records containers of ours that there are; asked before the first worker gets its users */
  constructor(options: IsolationOptions, records: () => Promise<readonly ContainerRecord[]>) {
    this.#options = options;
    this.#cgroups = cgroupParent(options.cgroupDriver ?? 'cgroupfs', options.cgroupParent);
    this.#blocks =
      options.userIds === undefined
        ? undefined
        : new UserIdBlocks(options.userIds, async () => takenIds(await records()));
  }

  /**
   * Makes the parent of the workers' cgroups and looks whether user namespaces can be had.
   *
   * @param capabilities what the snapshotter says it can do
   * @throws {EsbError} `CgroupUnusable`, `UserNamespacesUnsupported`
   */
  async prepare(capabilities: readonly string[]): Promise<void> {
    if (this.#blocks !== undefined && !capabilities.includes(REMAP_CAPABILITY)) {
      throw new EsbError(
        "containerd's snapshotter cannot give files to users of a namespace: user namespaces need Linux 5.19 or newer and containerd 2.0 or newer",
        { code: 'UserNamespacesUnsupported' },
      );
    }
    await prepareCgroupParent(this.#cgroups);
  }

  /** Holds all workers together to what they are promised, as far as the parent is there. May be repeated at any time. */
  async limit(): Promise<LimitOutcome> {
    const { promisedMiB } = this.#options;
    if (promisedMiB === undefined) {
      return { kind: 'Limited' };
    }
    const place = {
      root: CGROUP_ROOT,
      folder: this.#cgroups.folder,
      isVersion2: await isCgroup2(CGROUP_ROOT),
    };
    return await limitParent(parentLimits(promisedMiB, await machineSize()), place);
  }

  /** @throws {EsbError} `UserIdsExhausted` */
  async take(containerId: string): Promise<WorkerIsolation> {
    const { oomScoreAdj, seccomp } = this.#options;
    const userIds = await this.#blocks?.take(containerId);
    this.#maskedPaths ??= throttlePaths(PROCESSORS);
    return {
      spec: {
        architecture: linuxPlatform(process.arch).architecture,
        cgroupsPath: this.#cgroups.specPath(containerId),
        oomScoreAdj: oomScoreAdj ?? DEFAULT_OOM_SCORE_ADJ,
        maskedPaths: await this.#maskedPaths,
        ...(seccomp === undefined ? {} : { seccomp }),
        ...(userIds === undefined ? {} : { userIds }),
      },
      labels: userIds === undefined ? {} : { [containerLabels.userIds]: String(userIds.first) },
      snapshotLabels:
        userIds === undefined
          ? {}
          : Object.fromEntries(
              SNAPSHOT_MAPPINGS.map((label) => [label, `0:${userIds.first}:${userIds.count}`]),
            ),
      systemdCgroup: this.#cgroups.driver === 'systemd',
    };
  }

  /** Once nothing of a worker is left. */
  async release(containerId: string): Promise<void> {
    await this.#blocks?.release(containerId);
  }
}

/**
 * Counters of how hot each processor got: who reads them learns what others compute; hidden by
 * containerd and Docker too. Only physical machines have them.
 */
export async function throttlePaths(processors: string): Promise<readonly string[]> {
  const names = (await readdir(processors).catch(() => [])).filter((name) => /^cpu\d+$/.test(name));
  const paths = names.map((name) => join(processors, name, 'thermal_throttle'));
  const there = await Promise.all(
    paths.map((path) =>
      stat(path).then(
        () => true,
        (error: unknown) => errnoOf(error) !== 'ENOENT',
      ),
    ),
  );
  return paths.filter((_, index) => there[index] === true);
}

function takenIds(records: readonly ContainerRecord[]): ReadonlyMap<string, number> {
  return new Map(
    records.flatMap(({ id, labels }): [string, number][] => {
      const first = Number(labels[containerLabels.userIds] ?? '');
      return first > 0 ? [[id, first]] : [];
    }),
  );
}
