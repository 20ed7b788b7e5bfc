import { takenMiB } from '../api/worker-resources.ts';
import { EsbError } from '../common/errors.ts';
import type { ImageConfig } from './image-config.ts';
import { type SeccompProfile, workerSeccompProfile } from './seccomp.ts';
import { initArguments, runtimeArguments } from './spec-init.ts';
import { type EtcFiles, mounts } from './spec-mounts.ts';
import { type EnvironmentSources, environment, processArguments } from './spec-process.ts';
import type { SpecShape } from './spec-shape.ts';
import { checkMapped, resolveUser, type UserIds, type UserSources } from './spec-user.ts';

export interface RuntimeSpecOptions extends EnvironmentSources, UserSources {
  readonly image: ImageConfig;
  readonly shape: SpecShape;
  /** Processor of the node in Go's names, never the image's word: the filter of system calls depends on the processor. */
  readonly architecture: string;
  /** Pinned network namespace to join; absent means the node's own (`Host` mode). */
  readonly netnsPath?: string | undefined;
  /**
   * Absolute path below the cgroup root, such as `/esb/hello-3f2a91bc`; with the systemd driver slice, prefix and name,
   * such as `esb.slice:esb:hello-3f2a91bc`.
   */
  readonly cgroupsPath: string;
  readonly etcFiles?: EtcFiles;
  /** Preference of the kernel for ending this worker when memory is short, 0 to 1000. Default: as its shim. */
  readonly oomScoreAdj?: number | undefined;
  /** Whether to filter system calls; off for a runc that was built without. Default true. */
  readonly seccomp?: boolean | undefined;
  /** Users of the node for a user namespace of the worker's own. Default: no user namespace. */
  readonly userIds?: UserIds | undefined;
  /** Machine-dependent paths that are hidden beside the fixed ones. */
  readonly maskedPaths?: readonly string[];
  /** Whether a file on disk is mounted at `/tmp` with the root file system. Default: a tmpfs, part of the memory. */
  readonly tmpOnDisk?: boolean;
}

/** The parts of an OCI runtime spec (version 1.1) that a worker uses; to be encoded as JSON. */
export type RuntimeSpec = ReturnType<typeof buildRuntimeSpec>;

const MEBIBYTE = 1024 * 1024;
const CPU_PERIOD_US = 100_000;
/** Smallest quota that the kernel accepts. */
const MIN_CPU_QUOTA_US = 1000;
/** Lambda's own limit of open files ("Lambda quotas"). */
const OPEN_FILES = 1024;
/**
 * Limit that suppresses core dumps. The kernel writes none to a file that may not have a page, and with exactly 1 pipes
 * none to a program of the node. With 0 the program that `core_pattern` names, root outside of every container, would
 * still get the memory of a crashed process (core(5), `fs/coredump.c`).
 */
const CORE_BYTES = 1;
const MASKED_PATHS: readonly string[] = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
];
const READONLY_PATHS: readonly string[] = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

/**
 * Builds the OCI runtime spec of a worker: no capabilities, no new privileges, a read-only root with a sized writable
 * `/tmp`, limits, the environment that Lambda promises, and the process that image and resource name together.
 *
 * With a user namespace no user of the worker is a user of the node, root included. The network namespace is older and
 * belongs to the node's users. Two things of it are therefore withheld: `/sys`, replaced by a folder with the
 * processors alone, and the setting that opens ports below 1024.
 *
 * @throws {EsbError} `NoEntrypoint` when neither image nor resource names a program; `ImageInvalid` when the image's
 *   user cannot be resolved, or lies outside of the worker's user namespace; `CreateFailed` when there is no filter of
 *   system calls for the node's processor, and for an init in the network of the node
 */
export function buildRuntimeSpec(options: RuntimeSpecOptions) {
  const { image, init, netnsPath, shape, userIds } = options;
  const seccomp = options.seccomp === false ? undefined : requiredProfile(options.architecture);
  const bridged = netnsPath !== undefined;
  if (init !== undefined && !bridged) {
    throw new EsbError('the interface Lambda needs a network of its own: others would reach the Runtime API', {
      code: 'CreateFailed',
    });
  }
  const program = processArguments(shape, image);
  const tmpOnDisk = options.tmpOnDisk === true;
  const memory = takenMiB(shape, tmpOnDisk) * MEBIBYTE;
  const user = resolveUser(options);
  if (userIds !== undefined) {
    checkMapped(user, userIds);
  }
  return {
    ociVersion: '1.1.0',
    ...(bridged ? { hostname: hostnameOf(options.containerId) } : {}),
    process: {
      user,
      args: init === undefined ? program : initArguments(runtimeArguments(program), init, shape.logging),
      env: environment(options),
      cwd: image.workingDir === '' ? '/' : image.workingDir,
      capabilities: { bounding: [], effective: [], permitted: [], inheritable: [], ambient: [] },
      rlimits: [
        { type: 'RLIMIT_NOFILE', hard: OPEN_FILES, soft: OPEN_FILES },
        { type: 'RLIMIT_CORE', hard: CORE_BYTES, soft: CORE_BYTES },
      ],
      noNewPrivileges: true,
      ...(options.oomScoreAdj === undefined ? {} : { oomScoreAdj: options.oomScoreAdj }),
    },
    root: { path: 'rootfs', readonly: shape.readOnlyRootFilesystem },
    mounts: mounts(
      tmpOnDisk ? undefined : shape.ephemeralStorageMiB,
      options.etcFiles ?? {},
      userIds !== undefined,
      init,
    ),
    linux: {
      cgroupsPath: options.cgroupsPath,
      namespaces: [
        { type: 'pid' },
        { type: 'ipc' },
        { type: 'mount' },
        { type: 'cgroup' },
        ...(bridged ? [{ type: 'uts' }, { type: 'network', path: netnsPath }] : []),
        ...(userIds === undefined ? [] : [{ type: 'user' }]),
      ],
      ...(userIds === undefined ? {} : { uidMappings: mappingsOf(userIds), gidMappings: mappingsOf(userIds) }),
      resources: {
        devices: [{ allow: false, access: 'rwm' }],
        // The kernel charges a tmpfs to its writer; equal limits mean no swap.
        memory: { limit: memory, swap: memory },
        ...(shape.milliCpu === undefined ? {} : { cpu: cpuLimit(shape.milliCpu) }),
        pids: { limit: shape.pids },
      },
      // Opens ports below 1024 to a worker without capabilities.
      ...(bridged && userIds === undefined ? { sysctl: { 'net.ipv4.ip_unprivileged_port_start': '0' } } : {}),
      maskedPaths: [...MASKED_PATHS, ...(options.maskedPaths ?? [])],
      readonlyPaths: READONLY_PATHS,
      ...(seccomp === undefined ? {} : { seccomp }),
    },
  };
}

function cpuLimit(milliCpu: number) {
  const quota = Math.max(MIN_CPU_QUOTA_US, Math.round((milliCpu * CPU_PERIOD_US) / 1000));
  return { quota, period: CPU_PERIOD_US };
}

function mappingsOf({ first, count }: UserIds) {
  return [{ containerID: 0, hostID: first, size: count }];
}

function requiredProfile(architecture: string): SeccompProfile {
  const profile = workerSeccompProfile(architecture);
  if (profile === undefined) {
    throw new EsbError(`there is no filter of system calls for the processor ${architecture} of this node`, {
      code: 'CreateFailed',
    });
  }
  return profile;
}

/** Host name of a worker with a network of its own. */
export function hostnameOf(containerId: string): string {
  // The kernel takes at most 64 bytes.
  return containerId.slice(0, 63);
}
