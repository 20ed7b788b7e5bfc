import { existsSync } from 'node:fs';
import { mkdir, readFile, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EsbError, errnoOf, messageOf } from '../../common/errors.ts';

/** Maker of the workers' cgroups: runc itself, or systemd at runc's request. */
export type CgroupDriver = 'cgroupfs' | 'systemd';

/** Place and names of the cgroups of a node's workers. */
export interface CgroupParent {
  readonly driver: CgroupDriver;
  /** Folder of all these cgroups below a hierarchy's root, such as `/esb` or `/esb.slice`. */
  readonly folder: string;
  /** `cgroupsPath` of a worker's runtime spec. */
  specPath(containerId: string): string;
  /** Name of a worker's folder within {@link folder}. */
  folderName(containerId: string): string;
  /** The worker of a folder; undefined for a foreign folder. */
  containerId(folderName: string): string | undefined;
}

export const CGROUP_ROOT = '/sys/fs/cgroup';

/** Type of a file system that is the one hierarchy of version 2 (`CGROUP2_SUPER_MAGIC` of linux/magic.h). */
const CGROUP2_MAGIC = 0x6367_7270;
/** Controllers that limit a worker. */
const CONTROLLERS = ['cpu', 'memory', 'pids'] as const;
/** Hierarchies of version 1 in which a parent needs no settings of the machine, as `cpuset` would. */
const V1_HIERARCHIES: readonly string[] = [...CONTROLLERS, 'freezer'];
const SCOPE_PREFIX = 'esb';
/** Exists while systemd runs (sd_booted(3)). */
const SYSTEMD_FOLDER = '/run/systemd/system';

/**
 * The place of the workers' cgroups.
 *
 * @param parent for `cgroupfs` an absolute path, by default `/esb`; for `systemd` the name of a slice, by default
 *   `esb.slice`
 * @throws {EsbError} `InvalidArgument` for a malformed parent, and for one of the kubelet: the kubelet removes unknown
 *   cgroups there, and counts them as Pods
 */
export function cgroupParent(driver: CgroupDriver, parent?: string): CgroupParent {
  const wanted = parent ?? (driver === 'systemd' ? 'esb.slice' : '/esb');
  const folder = driver === 'systemd' ? sliceFolder(wanted) : plainFolder(wanted);
  if (folder.split('/').some((part) => /^kubepods\b/.test(part))) {
    throw invalid(`the control group ${wanted} is the kubelet's: workers need one of their own, such as /esb`);
  }
  if (driver === 'cgroupfs') {
    return {
      driver,
      folder,
      specPath: (containerId) => join(folder, containerId),
      folderName: (containerId) => containerId,
      containerId: (folderName) => folderName,
    };
  }
  const pattern = new RegExp(`^${SCOPE_PREFIX}-(.+)\\.scope$`);
  return {
    driver,
    folder,
    specPath: (containerId) => `${wanted}:${SCOPE_PREFIX}:${containerId}`,
    folderName: (containerId) => `${SCOPE_PREFIX}-${containerId}.scope`,
    containerId: (folderName) => pattern.exec(folderName)?.[1],
  };
}

/**
 * Makes the parent with all controllers that limit a worker, so that no start depends on an earlier one. May be
 * repeated. With systemd the parent is a slice, which systemd makes; only systemd itself is required.
 *
 * @throws {EsbError} `CgroupUnusable` that says what is missing
 */
export async function prepareCgroupParent(
  parent: CgroupParent,
  options: { readonly root?: string; readonly isVersion2?: boolean; readonly systemdFolder?: string } = {},
): Promise<void> {
  const root = options.root ?? CGROUP_ROOT;
  if (parent.driver === 'systemd') {
    if (!existsSync(options.systemdFolder ?? SYSTEMD_FOLDER)) {
      throw new EsbError(
        'the control groups are to be made by systemd, which does not run on this node: use --cgroup-driver cgroupfs',
        { code: 'CgroupUnusable' },
      );
    }
    return;
  }
  const isVersion2 = options.isVersion2 ?? (await isCgroup2(root));
  try {
    if (isVersion2) {
      await prepareVersion2(root, parent.folder);
      return;
    }
    for (const hierarchy of V1_HIERARCHIES) {
      await mkdir(join(root, hierarchy, parent.folder), { recursive: true });
    }
  } catch (error) {
    throw error instanceof EsbError ? error : unusable(parent.folder, messageOf(error), error);
  }
}

/** Whether an error says that a cgroup does not exist any more. */
export function isCgroupGone(error: unknown): boolean {
  const code = errnoOf(error);
  return code === 'ENOENT' || code === 'ENODEV' || code === 'ENOTDIR';
}

/** Whether the one hierarchy of version 2 is mounted there, and not those of version 1. */
export async function isCgroup2(root: string): Promise<boolean> {
  return (await statfs(root)).type === CGROUP2_MAGIC;
}

/** Enables the controllers of version 2 in each folder down to the parent. */
async function prepareVersion2(root: string, folder: string): Promise<void> {
  let current = root;
  for (const part of ['', ...folder.split('/').slice(1)]) {
    current = join(current, part);
    await mkdir(current, { recursive: true });
    const available = (await readFile(join(current, 'cgroup.controllers'), 'utf8')).trim().split(/\s+/);
    const missing = CONTROLLERS.filter((name) => !available.includes(name));
    if (missing.length > 0) {
      throw unusable(folder, `${current} has no controller ${missing.join(', ')}`);
    }
    try {
      await writeFile(join(current, 'cgroup.subtree_control'), CONTROLLERS.map((name) => `+${name}`).join(' '));
    } catch (error) {
      const reason =
        errnoOf(error) === 'EBUSY'
          ? `there are processes in ${current}, which may not have both processes and limited groups below it`
          : messageOf(error);
      throw unusable(folder, reason, error);
    }
  }
}

function unusable(folder: string, reason: string, cause?: unknown): EsbError {
  return new EsbError(`the workers' control group ${folder} cannot be made: ${reason}`, {
    code: 'CgroupUnusable',
    cause,
  });
}

function plainFolder(path: string): string {
  if (!/^(?:\/[\w.@:-]+)+$/.test(path) || path.split('/').some((part) => part === '.' || part === '..')) {
    throw invalid(`the control group ${path} is no absolute path below the root, such as /esb`);
  }
  return path;
}

/** `a-b.slice` lies in `a.slice` (systemd.slice(5)). */
function sliceFolder(slice: string): string {
  const name = /^((?:[\w.@:]+-)*[\w.@:]+)\.slice$/.exec(slice)?.[1];
  if (name === undefined) {
    throw invalid(`${slice} is no slice of systemd, such as esb.slice`);
  }
  const parts = name.split('-');
  return parts.map((_, index) => `/${parts.slice(0, index + 1).join('-')}.slice`).join('');
}

function invalid(message: string): EsbError {
  return new EsbError(message, { code: 'InvalidArgument' });
}
