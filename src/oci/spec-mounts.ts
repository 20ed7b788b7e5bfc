import type { SpecShape } from './spec-shape.ts';

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

const SYS_MOUNTS: readonly SpecMount[] = [
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
];

/** Only the owner of the network namespace may mount a sysfs, and the node's own sysfs shows the node's devices. */
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

/** @param isMapped whether the worker has a user namespace of its own */
export function mounts(
  shape: Pick<SpecShape, 'ephemeralStorageMiB'>,
  files: EtcFiles,
  isMapped: boolean,
): readonly SpecMount[] {
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
    ...(isMapped ? MAPPED_SYS_MOUNTS : SYS_MOUNTS),
    {
      destination: '/tmp',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'nodev', 'mode=1777', `size=${shape.ephemeralStorageMiB}m`],
    },
    ...bind(files.resolvConf, '/etc/resolv.conf'),
    ...bind(files.hosts, '/etc/hosts'),
  ];
}
