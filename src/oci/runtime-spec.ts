import { takenMiB } from '../api/worker-resources.ts';
import { EsbError } from '../common/errors.ts';
import type { ImageConfig } from './image-config.ts';
import { type SeccompProfile, workerSeccompProfile } from './seccomp.ts';

/** What of a worker forms its runtime spec, secrets already resolved. */
export interface SpecShape {
  /** Replaces the image's Entrypoint, and with it its Cmd, when not empty. */
  readonly command: readonly string[];
  /** Replaces the image's Cmd when not empty. */
  readonly args: readonly string[];
  readonly handler?: string;
  readonly env: readonly { readonly name: string; readonly value: string }[];
  readonly memoryMiB: number;
  /** Thousandths of a core; absent means no limit. */
  readonly milliCpu?: number;
  readonly pids: number;
  /** Size of the writable /tmp in MiB. */
  readonly ephemeralStorageMiB: number;
  readonly readOnlyRootFilesystem: boolean;
  readonly timeoutSeconds: number;
}

/** Files of the node that are mounted read-only over the worker's own, by path. Each may be left out. */
export interface EtcFiles {
  readonly resolvConf?: string;
  readonly hosts?: string;
  readonly hostname?: string;
}

export interface RuntimeSpecOptions {
  readonly containerId: string;
  readonly functionName: string;
  readonly shape: SpecShape;
  readonly image: ImageConfig;
  /** Processor of the node in Go's names, never what the image says: the filter of system calls goes by it. */
  readonly architecture: string;
  /** Pinned network namespace to join; absent means the node's own (`Host` mode). */
  readonly netnsPath?: string;
  /**
   * Absolute path below the cgroup root, such as `/esb/hello-3f2a91bc`; with the systemd driver slice, prefix and name,
   * such as `esb.slice:esb:hello-3f2a91bc`.
   */
  readonly cgroupsPath: string;
  /** Host name inside. Default: the container id. In `Host` mode the node's own stays. */
  readonly hostname?: string;
  readonly etcFiles?: EtcFiles;
  /** `AWS_REGION` where neither image nor user gives one. Default `us-east-1`, the region of the emulator's ARNs. */
  readonly region?: string;
  /** Text of the image's /etc/passwd and /etc/group; needed only when {@link needsUserFiles} says so. */
  readonly passwd?: string;
  readonly group?: string;
  /** How much sooner than others the kernel ends it when memory is short, 0 to 1000. Default: as its shim. */
  readonly oomScoreAdj?: number;
  /** Whether to filter system calls; off for a runc that was built without. Default true. */
  readonly seccomp?: boolean;
  /** Gives the worker a user namespace of its own, with these users of the node in it. */
  readonly userIds?: UserIds;
  /** Paths that are hidden beside those that always are: the ones that depend on the machine. */
  readonly maskedPaths?: readonly string[];
}

/** A block of users and groups of the node: user 0 of the worker is `first`, the last one is `first + count - 1`. */
export interface UserIds {
  readonly first: number;
  readonly count: number;
}

/** How an id within a user namespace becomes one outside of it. */
export interface IdMapping {
  readonly containerID: number;
  readonly hostID: number;
  readonly size: number;
}

export interface SpecMount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

/** The parts of an OCI runtime spec (version 1.1) that a worker uses; to be encoded as JSON. */
export interface RuntimeSpec {
  readonly ociVersion: string;
  readonly hostname?: string;
  readonly process: {
    readonly user: {
      readonly uid: number;
      readonly gid: number;
      readonly additionalGids?: readonly number[];
    };
    readonly args: readonly string[];
    readonly env: readonly string[];
    readonly cwd: string;
    readonly capabilities: Readonly<
      Record<'bounding' | 'effective' | 'permitted' | 'inheritable' | 'ambient', readonly string[]>
    >;
    readonly rlimits: readonly { readonly type: string; readonly hard: number; readonly soft: number }[];
    readonly noNewPrivileges: boolean;
    readonly oomScoreAdj?: number;
  };
  readonly root: { readonly path: string; readonly readonly: boolean };
  readonly mounts: readonly SpecMount[];
  readonly linux: {
    readonly cgroupsPath: string;
    readonly namespaces: readonly { readonly type: string; readonly path?: string }[];
    readonly uidMappings?: readonly IdMapping[];
    readonly gidMappings?: readonly IdMapping[];
    readonly resources: {
      readonly devices: readonly { readonly allow: boolean; readonly access: string }[];
      readonly memory: { readonly limit: number; readonly swap: number };
      readonly cpu?: { readonly quota: number; readonly period: number };
      readonly pids: { readonly limit: number };
    };
    readonly sysctl?: Readonly<Record<string, string>>;
    readonly maskedPaths: readonly string[];
    readonly readonlyPaths: readonly string[];
    readonly seccomp?: SeccompProfile;
  };
}

const MEBIBYTE = 1024 * 1024;
const CPU_PERIOD_US = 100_000;
/** The kernel accepts no smaller quota. */
const MIN_CPU_QUOTA_US = 1000;
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Lambda's own limit of open files ("Lambda quotas"). */
const OPEN_FILES = 1024;
/**
 * No core dumps. The kernel writes none to a file that may not have a page, and hands none to a program of the node when
 * the limit is exactly 1 (core(5) and `fs/coredump.c`; with 0 the program that `core_pattern` names, as root and
 * outside of every container, is still given the memory of whatever crashes).
 */
const CORE_BYTES = 1;
/** Lambda runs every image as this user whatever it says, so an image made for Lambda can be run as it. */
const LAMBDA_USER = { uid: 993, gid: 990 } as const;

/**
 * Names that neither the image nor the user sets: the first group is what Lambda reserves, `AWS_LAMBDA_MAX_CONCURRENCY`
 * would make the emulator run several calls at once.
 */
const RESERVED: ReadonlySet<string> = new Set([
  'AWS_LAMBDA_FUNCTION_NAME',
  'AWS_LAMBDA_FUNCTION_VERSION',
  'AWS_LAMBDA_FUNCTION_MEMORY_SIZE',
  'AWS_LAMBDA_FUNCTION_TIMEOUT',
  'AWS_LAMBDA_INITIALIZATION_TYPE',
  'AWS_LAMBDA_LOG_GROUP_NAME',
  'AWS_LAMBDA_LOG_STREAM_NAME',
  'AWS_LAMBDA_RUNTIME_API',
  'AWS_LAMBDA_MAX_CONCURRENCY',
  '_X_AMZN_TRACE_ID',
]);

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
const READONLY_PATHS: readonly string[] = [
  '/proc/bus',
  '/proc/fs',
  '/proc/irq',
  '/proc/sys',
  '/proc/sysrq-trigger',
];

/** What little of the node's processors a runtime reads that counts them from `/sys`. */
const PROCESSORS_PATH = '/sys/devices/system/cpu';

/**
 * Builds the OCI runtime spec of a worker: no capabilities, no new privileges, a read-only root with a sized writable
 * `/tmp`, limits, the environment that Lambda promises, and the process that image and resource name together.
 *
 * With a user namespace nobody in it is anybody on the node, root included. The network namespace was made before it and
 * belongs to the node's users, so two things of it are not the worker's to have: `/sys`, in place of which it gets a
 * folder with the processors alone, and the setting that opens ports below 1024.
 *
 * @throws {EsbError} `NoEntrypoint` when neither image nor resource names a program; `ImageInvalid` when the image's
 *   user cannot be resolved, or lies outside of the worker's user namespace; `CreateFailed` when there is no filter of
 *   system calls for the node's processor
 */
export function buildRuntimeSpec(options: RuntimeSpecOptions): RuntimeSpec {
  const { shape, image } = options;
  const seccomp = options.seccomp === false ? undefined : requiredProfile(options.architecture);
  const bridged = options.netnsPath !== undefined;
  const memory = takenMiB(shape) * MEBIBYTE;
  const { userIds } = options;
  const user = resolveUser(options);
  if (userIds !== undefined) {
    checkMapped(user, userIds);
  }
  return {
    ociVersion: '1.1.0',
    ...(bridged ? { hostname: options.hostname ?? hostnameOf(options.containerId) } : {}),
    process: {
      user,
      args: processArguments(shape, image),
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
    mounts: mounts(shape, options.etcFiles ?? {}, userIds === undefined ? SYS_MOUNTS : MAPPED_SYS_MOUNTS),
    linux: {
      cgroupsPath: options.cgroupsPath,
      namespaces: [
        { type: 'pid' },
        { type: 'ipc' },
        { type: 'mount' },
        { type: 'cgroup' },
        ...(options.netnsPath === undefined
          ? []
          : [{ type: 'uts' }, { type: 'network', path: options.netnsPath }]),
        ...(userIds === undefined ? [] : [{ type: 'user' }]),
      ],
      ...(userIds === undefined ? {} : { uidMappings: mappings(userIds), gidMappings: mappings(userIds) }),
      resources: {
        devices: [{ allow: false, access: 'rwm' }],
        // A tmpfs is charged to whoever writes to it; equal limits mean no swap.
        memory: { limit: memory, swap: memory },
        ...(shape.milliCpu === undefined
          ? {}
          : {
              cpu: {
                quota: Math.max(MIN_CPU_QUOTA_US, Math.round((shape.milliCpu * CPU_PERIOD_US) / 1000)),
                period: CPU_PERIOD_US,
              },
            }),
        pids: { limit: shape.pids },
      },
      // Without capabilities a worker could not listen on a port below 1024 otherwise.
      ...(bridged && userIds === undefined ? { sysctl: { 'net.ipv4.ip_unprivileged_port_start': '0' } } : {}),
      maskedPaths: [...MASKED_PATHS, ...(options.maskedPaths ?? [])],
      readonlyPaths: READONLY_PATHS,
      ...(seccomp === undefined ? {} : { seccomp }),
    },
  };
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

/** Whether the image names its user or group by a name, so that its own /etc/passwd and /etc/group are needed. */
export function needsUserFiles(image: ImageConfig): boolean {
  const { user, group } = splitUser(image.user);
  return !isNumeric(user) || (group !== undefined && !isNumeric(group));
}

/** The program and its arguments. Exported for what else has to know them. */
export function processArguments(shape: SpecShape, image: ImageConfig): readonly string[] {
  const replaced = shape.command.length > 0;
  const entrypoint = replaced ? shape.command : image.entrypoint;
  // As in Kubernetes: the Cmd is an argument of the Entrypoint it came with, not of another program.
  const imageCmd = replaced ? [] : image.cmd;
  const cmd = shape.args.length > 0 ? shape.args : imageCmd;
  const program = [...entrypoint, ...cmd];
  if (program.length === 0) {
    throw new EsbError(
      'the image names neither an Entrypoint nor a Cmd, so there is nothing to run: set spec.command, for example ' +
        '["/usr/local/bin/aws-lambda-rie", "python3", "-m", "awslambdaric", "lambda_function.handler"]',
      { code: 'NoEntrypoint' },
    );
  }
  const handler = cmd.length === 0 && entrypoint.length > 0 ? shape.handler : undefined;
  return handler === undefined || handler === '' ? program : [...program, handler];
}

/**
 * The word that a runtime takes for the handler although the resource names another one: `spec.handler` has no effect
 * then. The emulator and the runtimes go by an argument, the last or the first that looks like a handler, and not by
 * `_HANDLER`. Undefined where `spec.handler` decides, or none is given.
 */
export function handlerInItsPlace(shape: SpecShape, image: ImageConfig): string | undefined {
  const { handler } = shape;
  if (handler === undefined || handler === '') {
    return undefined;
  }
  const [, ...words] = processArguments(shape, image);
  const last = words.at(-1);
  const taken = last === handler ? words.at(-2) : last;
  return taken !== undefined && taken !== handler && isHandler(taken) ? taken : undefined;
}

/** `module.function` or `Class::method`, as opposed to a path, an option, a version, or the name of a file. */
function isHandler(word: string): boolean {
  const named = /^\w[\w-]*(?:[./]|::)(?:[\w-]+(?:[./]|::))*[A-Za-z_]\w*$/;
  return named.test(word) && !/\.(?:[cm]?[jt]s|py|rb|sh|jar|dll|so)$/.test(word) && /\.|::/.test(word);
}

function environment(options: RuntimeSpecOptions): readonly string[] {
  const { shape, image } = options;
  const region = options.region ?? 'us-east-1';
  const variables = new Map<string, string>([
    ['PATH', DEFAULT_PATH],
    ['AWS_REGION', region],
    ['AWS_DEFAULT_REGION', region],
    ['LAMBDA_TASK_ROOT', '/var/task'],
    ['LAMBDA_RUNTIME_DIR', '/var/runtime'],
    ['TZ', ':UTC'],
  ]);
  for (const entry of image.env) {
    const equals = entry.indexOf('=');
    if (equals > 0) {
      variables.set(entry.slice(0, equals), entry.slice(equals + 1));
    }
  }
  for (const { name, value } of shape.env) {
    variables.set(name, value);
  }
  for (const name of RESERVED) {
    variables.delete(name);
  }
  variables.set('AWS_LAMBDA_FUNCTION_NAME', options.functionName);
  variables.set('AWS_LAMBDA_FUNCTION_VERSION', '$LATEST');
  variables.set('AWS_LAMBDA_FUNCTION_MEMORY_SIZE', String(shape.memoryMiB));
  variables.set('AWS_LAMBDA_FUNCTION_TIMEOUT', String(shape.timeoutSeconds));
  variables.set('AWS_LAMBDA_INITIALIZATION_TYPE', 'on-demand');
  variables.set('AWS_LAMBDA_LOG_GROUP_NAME', `/aws/lambda/${options.functionName}`);
  variables.set('AWS_LAMBDA_LOG_STREAM_NAME', `$LATEST/${options.containerId}`);
  if (shape.handler !== undefined && shape.handler !== '') {
    variables.set('_HANDLER', shape.handler);
  }
  return [...variables].map(([name, value]) => `${name}=${value}`);
}

const SYS_MOUNTS: readonly SpecMount[] = [
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
];

/** Only who owns the network namespace may mount a sysfs, and the node's own shows what is the node's. */
const MAPPED_SYS_MOUNTS: readonly SpecMount[] = [
  {
    destination: '/sys',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'noexec', 'nodev', 'ro', 'mode=755', 'size=64k'],
  },
  {
    destination: PROCESSORS_PATH,
    type: 'bind',
    source: PROCESSORS_PATH,
    options: ['bind', 'ro', 'nosuid', 'nodev', 'noexec'],
  },
];

function mappings({ first, count }: UserIds): readonly IdMapping[] {
  return [{ containerID: 0, hostID: first, size: count }];
}

function checkMapped(user: SpecUser, { count }: UserIds): void {
  const outside = [user.uid, user.gid, ...(user.additionalGids ?? [])].find((id) => id >= count);
  if (outside !== undefined) {
    throw new EsbError(
      `the image runs as user or group ${outside}, and a worker's user namespace has ${count}: build the image with a smaller one`,
      { code: 'ImageInvalid' },
    );
  }
}

function mounts(shape: SpecShape, files: EtcFiles, sys: readonly SpecMount[]): readonly SpecMount[] {
  const bind = (source: string | undefined, destination: string): readonly SpecMount[] =>
    source === undefined
      ? []
      : [{ destination, type: 'bind', source, options: ['rbind', 'ro', 'nosuid', 'nodev', 'noexec'] }];
  return [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    {
      destination: '/dev',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
    },
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620'],
    },
    {
      destination: '/dev/shm',
      type: 'tmpfs',
      source: 'shm',
      options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'],
    },
    ...sys,
    {
      destination: '/tmp',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'nodev', 'mode=1777', `size=${shape.ephemeralStorageMiB}m`],
    },
    ...bind(files.resolvConf, '/etc/resolv.conf'),
    ...bind(files.hosts, '/etc/hosts'),
    ...bind(files.hostname, '/etc/hostname'),
  ];
}

interface SpecUser {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids?: readonly number[];
}

interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * The image's own user where it names one. Where it names none, the user that Lambda runs images as, except that a
 * writable root file system is only of use to root.
 */
function resolveUser(options: RuntimeSpecOptions): SpecUser {
  const { user, group } = splitUser(options.image.user);
  if (user === '') {
    const base = options.shape.readOnlyRootFilesystem ? LAMBDA_USER : { uid: 0, gid: 0 };
    return group === undefined ? base : { uid: base.uid, gid: resolveGroup(group, options) };
  }
  const entry = readPasswd(options.passwd ?? '').find((candidate) =>
    isNumeric(user) ? candidate.uid === Number(user) : candidate.name === user,
  );
  if (entry === undefined && !isNumeric(user)) {
    throw new EsbError(
      `the image's user '${options.image.user}' is not in its /etc/passwd: build the image with a numeric USER`,
      { code: 'ImageInvalid' },
    );
  }
  const uid = entry?.uid ?? Number(user);
  if (group !== undefined) {
    return { uid, gid: resolveGroup(group, options) };
  }
  const additionalGids = entry === undefined ? [] : supplementaryGroups(options.group ?? '', entry);
  return { uid, gid: entry?.gid ?? 0, ...(additionalGids.length > 0 ? { additionalGids } : {}) };
}

function resolveGroup(group: string, options: RuntimeSpecOptions): number {
  if (isNumeric(group)) {
    return Number(group);
  }
  const entry = readGroups(options.group ?? '').find((candidate) => candidate.name === group);
  if (entry === undefined) {
    throw new EsbError(
      `the image's group '${group}' is not in its /etc/group: build the image with a numeric USER`,
      { code: 'ImageInvalid' },
    );
  }
  return entry.gid;
}

function splitUser(text: string): { readonly user: string; readonly group?: string } {
  const [user = '', group] = text.split(':', 2);
  return group === undefined || group === '' ? { user } : { user, group };
}

function isNumeric(text: string): boolean {
  return /^\d*$/.test(text);
}

function readPasswd(text: string): readonly PasswdEntry[] {
  return records(text).flatMap(([name, , uid, gid]) =>
    name === undefined || uid === undefined || gid === undefined
      ? []
      : [{ name, uid: Number(uid), gid: Number(gid) }],
  );
}

function readGroups(text: string): readonly { name: string; gid: number; members: readonly string[] }[] {
  return records(text).flatMap(([name, , gid, members]) =>
    name === undefined || gid === undefined
      ? []
      : [{ name, gid: Number(gid), members: (members ?? '').split(',') }],
  );
}

function supplementaryGroups(text: string, user: PasswdEntry): readonly number[] {
  return readGroups(text)
    .filter((group) => group.members.includes(user.name) && group.gid !== user.gid)
    .map((group) => group.gid);
}

function records(text: string): readonly (readonly string[])[] {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'));
}

/** Host name of a worker with a network of its own. */
export function hostnameOf(containerId: string): string {
  // The kernel takes at most 64 bytes.
  return containerId.slice(0, 63);
}
