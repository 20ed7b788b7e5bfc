import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { containerLabels } from '../../api/label.ts';
import { EsbError } from '../../common/errors.ts';
import type { ContainerRecord } from '../../containerd/container-service.ts';
import { linuxPlatform } from '../../oci/image-config.ts';
import type { RuntimeSpecOptions } from '../../oci/runtime-spec.ts';
import type { UserIds } from '../../oci/spec-user.ts';
import { CGROUP_ROOT, type CgroupDriver, cgroupParent, isCgroup2, prepareCgroupParent } from './cgroup-parent.ts';
import { type LimitOutcome, limitParent, machineSize, parentLimits } from './parent-limits.ts';
import { UserIdBlocks } from './user-id-blocks.ts';

export interface IsolationOptions {
  /** Maker of the cgroups. Default `cgroupfs`. */
  readonly cgroupDriver?: CgroupDriver | undefined;
  /** Cgroup above the workers' own. Default `/esb`, with systemd `esb.slice`. */
  readonly cgroupParent?: string | undefined;
  /** Memory promised to all workers together, MiB: the limit of the cgroup above them. Default: no limit. */
  readonly promisedMiB?: (() => number) | undefined;
  /**
   * CPU that is reserved for all workers together, in thousandths of a core; undefined where none is told. Default: they
   * weigh as much as their part of the memory.
   */
  readonly reservedMilliCPU?: (() => number | undefined) | undefined;
  /** Users of the node for user namespaces of workers. Default: no user namespaces. */
  readonly userIds?: UserIds | undefined;
  /** `oom_score_adj` of workers. Default {@link DEFAULT_OOM_SCORE_ADJ}. */
  readonly oomScoreAdj?: number | undefined;
  /** Whether workers' system calls are filtered. Default true. */
  readonly seccomp?: boolean | undefined;
}

export interface WorkerIsolation {
  readonly spec: Pick<
    RuntimeSpecOptions,
    'architecture' | 'cgroupsPath' | 'userIds' | 'oomScoreAdj' | 'seccomp' | 'maskedPaths'
  >;
  readonly labels: Readonly<Record<string, string>>;
  /** Labels of the file system. */
  readonly snapshotLabels: Readonly<Record<string, string>>;
  readonly systemdCgroup: boolean;
}

/**
 * A worker starts again at its next call; other programs of the node do not. When memory is short the kernel ends
 * workers before Pods with a memory request (2 to 999 by the kubelet, near 999 for small requests), and after Pods
 * without one (1000).
 */
export const DEFAULT_OOM_SCORE_ADJ = 950;

/** Labels that tell containerd's snapshotters the owners of the files. */
const SNAPSHOT_MAPPINGS = ['containerd.io/snapshot/uidmapping', 'containerd.io/snapshot/gidmapping'] as const;
/** Capability of a snapshotter that maps owners without copying. */
export const REMAP_CAPABILITY = 'remap-ids';

const PROCESSORS = '/sys/devices/system/cpu';

/** Isolates workers from the node and from each other. */
export class Isolation {
  readonly #options: IsolationOptions;
  readonly #cgroups: ReturnType<typeof cgroupParent>;
  readonly #blocks: UserIdBlocks | undefined;
  /** The promise that the workers were limited to. */
  #limitedMiB: number | undefined;
  #weighedMilliCPU: number | undefined;
  #maskedPaths: Promise<readonly string[]> | undefined;

  /** @param records gives our containers; called before the first worker gets its users */
  constructor(options: IsolationOptions, records: () => Promise<readonly ContainerRecord[]>) {
    this.#options = options;
    this.#cgroups = cgroupParent(options.cgroupDriver ?? 'cgroupfs', options.cgroupParent);
    this.#blocks =
      options.userIds === undefined
        ? undefined
        : new UserIdBlocks(options.userIds, async () => takenIds(await records()));
  }

  /**
   * Makes the parent of the workers' cgroups and checks the support for user namespaces.
   *
   * @param capabilities of the snapshotter
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

  /** Limits all workers together to their promise, where the parent exists. May be repeated at any time. */
  async limit(): Promise<LimitOutcome> {
    const promisedMiB = this.#options.promisedMiB?.();
    if (promisedMiB === undefined) {
      return { kind: 'Limited' };
    }
    const { folder } = this.#cgroups;
    const place = { root: CGROUP_ROOT, folder, isVersion2: await isCgroup2(CGROUP_ROOT) };
    const milliCPU = this.#options.reservedMilliCPU?.();
    const outcome = await limitParent(parentLimits(promisedMiB, await machineSize(), milliCPU), place);
    this.#weighedMilliCPU = milliCPU;
    this.#limitedMiB = outcome.kind === 'Limited' ? promisedMiB : undefined;
    return outcome;
  }

  /** Whether the common limit and weight of the workers are what is promised to them and reserved for them now. */
  get isLimited(): boolean {
    const { promisedMiB, reservedMilliCPU } = this.#options;
    return this.#limitedMiB === promisedMiB?.() && this.#weighedMilliCPU === reservedMilliCPU?.();
  }

  /** The control group of a container. */
  cgroupOf(containerId: string): { readonly cgroupsPath: string; readonly systemdCgroup: boolean } {
    const { driver, specPath } = this.#cgroups;
    return { cgroupsPath: specPath(containerId), systemdCgroup: driver === 'systemd' };
  }

  /** @throws {EsbError} `UserIdsExhausted` */
  async take(containerId: string): Promise<WorkerIsolation> {
    const { oomScoreAdj = DEFAULT_OOM_SCORE_ADJ, seccomp } = this.#options;
    const userIds = await this.#blocks?.take(containerId);
    this.#maskedPaths ??= throttlePaths(PROCESSORS);
    const { cgroupsPath, systemdCgroup } = this.cgroupOf(containerId);
    return {
      spec: {
        architecture: linuxPlatform(process.arch).architecture,
        cgroupsPath,
        oomScoreAdj,
        maskedPaths: await this.#maskedPaths,
        seccomp,
        userIds,
      },
      labels: userIds === undefined ? {} : { [containerLabels.userIds]: String(userIds.first) },
      snapshotLabels:
        userIds === undefined
          ? {}
          : Object.fromEntries(SNAPSHOT_MAPPINGS.map((label) => [label, `0:${userIds.first}:${userIds.count}`])),
      systemdCgroup,
    };
  }

  /** Gives back the users of a removed worker. */
  async release(containerId: string): Promise<void> {
    await this.#blocks?.release(containerId);
  }
}

/**
 * Heat counters of the processors, which reveal the work of others; containerd and Docker hide them too. Only physical
 * machines have such counters.
 */
export async function throttlePaths(processors: string): Promise<readonly string[]> {
  const names = (await readdir(processors).catch(() => [])).filter((name) => /^cpu\d+$/.test(name));
  return names.map((name) => join(processors, name, 'thermal_throttle')).filter((path) => existsSync(path));
}

function takenIds(records: readonly ContainerRecord[]): ReadonlyMap<string, number> {
  const firsts = records.map(({ id, labels }) => [id, Number(labels[containerLabels.userIds] ?? '')] as const);
  return new Map(firsts.filter(([, first]) => first > 0));
}
