import { join } from 'node:path';

/** Facts for a guest about the machine that it runs on: paths, the same on both. */
export interface GuestLayout {
  readonly kernelRelease: string;
  /** Folder with `lib/modules/<release>` of the guest's kernel. */
  readonly modules: string;
  readonly repository: string;
  /** Folders for PATH. */
  readonly path: readonly string[];
  readonly home: string;
  /** Files below /tmp that tests keep between runs, taken along since the guest has a /tmp of its own. */
  readonly kept: readonly string[];
  /** Home of the local instance whose node and gateway run in the guest. */
  readonly instance: string;
  /** Folder of what Node.js has compiled. */
  readonly compiled: string;
  /** Port of this machine's loopback that leads to containerd in the guest. */
  readonly containerdPort: number;
  /** Port of this machine's loopback where a service runs commands for the tests in the guest. */
  readonly commandsPort: number;
  /** Test files, relative to the repository. */
  readonly tests: readonly string[];
}

/** Address of this machine's loopback as the guest sees it (qemu, `-netdev user`). */
export const outside = '10.0.2.2';
/** Address of the guest, and its port that leads to its containerd. */
export const guestAddress = '10.0.2.15';
export const guestContainerdPort = 1025;

/** Modules of the kernel that the guest needs before it has a root. */
export const earlyModules = ['virtio_pci', 'virtiofs', 'overlay'] as const;

/** Line with which the guest tells how its tests ended. */
export const resultMark = 'ESB-CGROUP2-RESULT';

/** How many times as long as usual tests wait in the guest. */
export const guestPatience = 20;

/**
 * First program of the guest, run by a static busybox: the machine's own files, read-only below a writable layer in
 * memory, become the root, with a /tmp, a /run and control groups of its own.
 */
export function firstProgram(layout: GuestLayout): string {
  return `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in ${earlyModules.join(' ')}; do modprobe $module || echo "no module $module"; done
mount -t virtiofs -o ro host /host
mount -t tmpfs -o size=3g layer /layer
mkdir -p /layer/upper /layer/work /layer/kept
mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work root /root
mkdir -p /root/usr/lib/modules
mount --bind /root${layout.modules}/lib/modules /root/usr/lib/modules
rm -f /root/usr/sbin/modprobe
cp /bin/busybox /root/usr/sbin/modprobe
for file in ${layout.kept.join(' ')}; do [ -e "/root/tmp/$file" ] && cp -a "/root/tmp/$file" /layer/kept/; done
mkdir /layer/repository
mount --bind /root${layout.repository} /layer/repository
mount -t tmpfs -o size=3g tmp /root/tmp
mount -t tmpfs run /root/run
# It may lie below the /tmp that has just been covered.
mkdir -p /root${layout.repository}
mount --move /layer/repository /root${layout.repository}
[ -n "$(ls /layer/kept)" ] && cp -a /layer/kept/. /root/tmp/
cp /second /root/run/second
mount --move /proc /root/proc
mount --move /sys /root/sys
mount --move /dev /root/dev
exec switch_root /root /bin/bash /run/second
`;
}

/** Second program: gives the guest its network, runs the tests and switches the guest off. */
export function secondProgram(layout: GuestLayout): string {
  const containerd = join(layout.instance, 'nodes/node-1/root');
  return `export PATH=${layout.path.join(':')}
export NODE_COMPILE_CACHE=${layout.compiled}
export HOME=${layout.home} TERM=dumb NO_COLOR=1 CI=1
export ESB_TEST_PATIENCE=${guestPatience} ESB_E2E_HOME=${layout.instance} ESB_E2E_COMMANDS=http://${outside}:${layout.commandsPort}
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 none /sys/fs/cgroup
ip link set lo up
modprobe virtio_net
ip address add ${guestAddress}/24 dev eth0
ip link set eth0 up
ip route add default via ${outside}
# An overlay upon an overlay would not do for images.
mkdir -p ${containerd}
mount -t tmpfs -o size=2g images ${containerd}
cd ${layout.repository}
echo "kernel $(uname -r), control groups: $(stat -f -c %T /sys/fs/cgroup), controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"
node --disable-warning=ExperimentalWarning test/cgroup2/guest-tests.ts ${layout.tests.join(' ')} || echo ${resultMark} 0 1 1
sync
echo o > /proc/sysrq-trigger
sleep 60
`;
}
