import type { InitFiles } from '../init/contract.ts';
import { INIT_FOLDER, INIT_PROGRAM } from './spec-init.ts';

/** Files of the node that are mounted read-only over the worker's own, by path; absent ones stay the image's. */
export interface EtcFiles {
  readonly resolvConf?: string | undefined;
  readonly hosts?: string | undefined;
}

interface SpecMount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

/** The part of `/sys` that runtimes read to count processors. */
const PROCESSORS_PATH = '/sys/devices/system/cpu';

const SYS_MOUNTS = [mount('/sys', 'sysfs', 'sysfs', ['nosuid', 'noexec', 'nodev', 'ro'])];

/** Only the owner of the network namespace may mount a sysfs, and the node's own sysfs shows the node's devices. */
const MAPPED_SYS_MOUNTS = [
  mount('/sys', 'tmpfs', 'tmpfs', ['nosuid', 'noexec', 'nodev', 'ro', 'mode=755', 'size=64k']),
  mount(PROCESSORS_PATH, 'bind', PROCESSORS_PATH, ['bind', 'ro', 'nosuid', 'nodev', 'noexec']),
];

/**
 * @param tmpMiB size of a tmpfs at `/tmp`; undefined where something else is mounted there
 * @param isMapped whether the worker has a user namespace of its own
 * @param init files of our init, where it is the first process
 */
export function mounts(
  tmpMiB: number | undefined,
  files: EtcFiles,
  isMapped: boolean,
  init: InitFiles | undefined,
): readonly SpecMount[] {
  const bind = (source: string | undefined, destination: string): readonly SpecMount[] =>
    source === undefined ? [] : [mount(destination, 'bind', source, ['rbind', 'ro', 'nosuid', 'nodev', 'noexec'])];
  return [
    mount('/proc', 'proc', 'proc', ['nosuid', 'noexec', 'nodev']),
    mount('/dev', 'tmpfs', 'tmpfs', ['nosuid', 'strictatime', 'mode=755', 'size=65536k']),
    mount('/dev/pts', 'devpts', 'devpts', ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620']),
    mount('/dev/shm', 'tmpfs', 'shm', ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k']),
    ...(isMapped ? MAPPED_SYS_MOUNTS : SYS_MOUNTS),
    ...(tmpMiB === undefined
      ? []
      : [mount('/tmp', 'tmpfs', 'tmpfs', ['nosuid', 'nodev', 'mode=1777', `size=${tmpMiB}m`])]),
    ...bind(files.resolvConf, '/etc/resolv.conf'),
    ...bind(files.hosts, '/etc/hosts'),
    ...bind(init?.folder, INIT_FOLDER),
    ...(init === undefined ? [] : [mount(INIT_PROGRAM, 'bind', init.program, ['rbind', 'ro', 'nosuid', 'nodev'])]),
  ];
}

function mount(destination: string, type: string, source: string, options: readonly string[]): SpecMount {
  return { destination, type, source, options };
}
