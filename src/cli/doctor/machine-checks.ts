import { type Finding, problem, warning, well } from './finding.ts';
import { compareVersions, type MountEntry, mountOf, type NodeProbe, parseMounts } from './node-probe.ts';

/** The agent's options that the machine has to fit. */
export interface MachineNeeds {
  readonly stateDir: string;
  readonly runDir: string;
  readonly maxWorkers: number;
  readonly cgroupDriver: 'cgroupfs' | 'systemd';
}

/** Oldest kernel that still gets fixes. */
const OLDEST_KERNEL = '5.4';
/** First kernel with idmapped overlay mounts, which workers with users of their own need. */
const IDMAP_KERNEL = '5.19';
const GIB = 2 ** 30;
const LEAST_DISK = 10 * GIB;
/** A shim has about a dozen threads, and so has a worker with a small runtime. */
const THREADS_PER_WORKER = 32;
const SPARE = 200;

export async function checkKernel(probe: NodeProbe): Promise<Finding[]> {
  const release = (await probe.read('/proc/sys/kernel/osrelease'))?.trim() ?? '';
  const seccomp = await probe.exists('/proc/sys/kernel/seccomp/actions_avail');
  const mend = 'boot a kernel with CONFIG_SECCOMP_FILTER; workers are not started without their filter';
  const filters = seccomp ? [] : [problem('seccomp', 'the kernel cannot filter system calls', mend)];
  if (compareVersions(release, OLDEST_KERNEL) < 0) {
    return [problem('kernel', release, `boot ${OLDEST_KERNEL} or newer`), ...filters];
  }
  if (compareVersions(release, IDMAP_KERNEL) < 0) {
    const message = `${release}: workers cannot have users of their own (--user-namespaces)`;
    return [warning('kernel', message, `boot ${IDMAP_KERNEL} or newer, or leave that option out`), ...filters];
  }
  return [well('kernel', release), ...filters];
}

export async function checkCgroups(probe: NodeProbe, needs: MachineNeeds): Promise<Finding[]> {
  const mounts = parseMounts((await probe.read('/proc/self/mountinfo')) ?? '');
  const pure = mounts.some(({ point, type }) => point === '/sys/fs/cgroup' && type === 'cgroup2');
  return [
    pure ? await checkVersion2(probe) : checkVersion1(mounts, (await probe.read('/proc/cgroups')) ?? ''),
    await checkDriver(probe, needs),
  ];
}

async function checkVersion2(probe: NodeProbe): Promise<Finding> {
  const controllers = ((await probe.read('/sys/fs/cgroup/cgroup.controllers')) ?? '').trim().split(/\s+/);
  const missing = ['cpu', 'memory', 'pids'].filter((name) => !controllers.includes(name));
  return missing.length === 0
    ? well('control groups', 'version 2')
    : problem(
        'control groups',
        `version 2 without ${missing.join(', ')}: workers cannot be limited`,
        missing.includes('memory')
          ? 'boot with cgroup_enable=memory on the kernel command line (small boards switch it off)'
          : 'switch them on in /sys/fs/cgroup/cgroup.subtree_control of the groups above, or see who mounted them as version 1',
      );
}

function checkVersion1(mounts: readonly MountEntry[], table: string): Finding {
  const mounted = mounts.filter(({ type }) => type === 'cgroup').map(({ point }) => point);
  const names = mounted.flatMap((point) => (point.split('/').at(-1) ?? '').split(','));
  const missing = ['freezer', 'memory', 'pids', 'cpu'].filter((name) => !names.includes(name));
  if (missing.length > 0) {
    const disabled = missing.filter((name) => new RegExp(`^${name}\\s+\\d+\\s+\\d+\\s+0$`, 'm').test(table));
    return problem(
      'control groups',
      `${missing.join(', ')} not mounted: workers cannot be ${missing.includes('freezer') ? 'paused' : 'limited'}`,
      disabled.length > 0
        ? `boot without ${disabled.map((name) => `cgroup_disable=${name}`).join(' ')}`
        : 'boot with systemd.unified_cgroup_hierarchy=1 for version 2, or mount them',
    );
  }
  return warning(
    'control groups',
    'version 1, which systemd and the kubelet give up',
    'boot with systemd.unified_cgroup_hierarchy=1 for version 2',
  );
}

async function checkDriver(probe: NodeProbe, needs: MachineNeeds): Promise<Finding> {
  const what = 'cgroup driver';
  const systemd = await probe.exists('/run/systemd/system');
  const kubelet = /^cgroupDriver:\s*"?(\w+)"?/m.exec((await probe.read('/var/lib/kubelet/config.yaml')) ?? '')?.[1];
  if (needs.cgroupDriver === 'systemd' && !systemd) {
    return problem(what, 'systemd is asked for and does not run here', 'give the agent --cgroup-driver cgroupfs');
  }
  if (needs.cgroupDriver === 'cgroupfs' && kubelet === 'systemd') {
    return warning(
      what,
      'cgroupfs, while the kubelet of this node has systemd make its groups: two masters of one tree',
      'give the agent --cgroup-driver systemd',
    );
  }
  return well(what, kubelet === undefined ? needs.cgroupDriver : `${needs.cgroupDriver}; the kubelet has ${kubelet}`);
}

export async function checkMounts(probe: NodeProbe, needs: MachineNeeds): Promise<Finding[]> {
  const mounts = parseMounts((await probe.read('/proc/self/mountinfo')) ?? '');
  const inPod = await probe.exists('/var/run/secrets/kubernetes.io/serviceaccount/token');
  const findings: Finding[] = [];
  for (const path of ['/run/netns', needs.runDir]) {
    const what = `mount propagation of ${path}`;
    const { point, shared } = mountOf(path, mounts) ?? { point: '/', shared: false };
    const mend = inPod
      ? `mount ${path} of the host with mountPropagation: Bidirectional`
      : 'mount --make-rshared / (systemd does so at boot); not needed for an agent outside of a Pod';
    if (shared) {
      findings.push(well(what, `shared, by ${point}`));
    } else if (inPod) {
      findings.push(problem(what, `what is mounted below ${point} in this container is not seen by containerd`, mend));
    } else {
      const message = `${point} is private: an agent in a Pod could not hand its mounts to containerd`;
      findings.push(warning(what, message, mend));
    }
  }
  const run = mountOf(needs.runDir, mounts);
  findings.push(
    run?.type === 'tmpfs'
      ? well('run folder', `${needs.runDir} is on tmpfs`)
      : warning(
          'run folder',
          `${needs.runDir} is on ${run?.type ?? 'nothing known'}: marks of calls would outlive a boot, and each call would write to a disk`,
          'give the agent a --run-dir on tmpfs, such as below /run',
        ),
  );
  return findings;
}

export async function checkLimits(probe: NodeProbe, needs: MachineNeeds): Promise<Finding[]> {
  const { maxWorkers } = needs;
  const isVersion2 = await probe.exists('/sys/fs/cgroup/cgroup.controllers');
  // With control groups of version 1, shims watch the memory of workers by other means.
  const instances = isVersion2 ? maxWorkers + SPARE : SPARE / 2;
  const threads = maxWorkers * THREADS_PER_WORKER;
  const limits: readonly (readonly [key: string, least: number, suggested: number, why: string])[] = [
    ['fs.inotify.max_user_instances', instances, 8192, 'shims watch the memory of workers with them'],
    ['kernel.pid_max', threads, 4_194_304, 'threads'],
    ['kernel.threads-max', threads, 4_194_304, 'threads'],
    ['net.ipv4.neigh.default.gc_thresh3', maxWorkers + SPARE, 8192, 'each worker is a neighbour on the bridge'],
    ['user.max_net_namespaces', maxWorkers + SPARE, 16_384, 'each worker has one'],
    ['fs.file-max', maxWorkers * 64, 1_048_576, 'open files of shims and workers'],
  ];
  const findings: Finding[] = [];
  for (const [key, least, suggested, why] of limits) {
    const text = await probe.read(`/proc/sys/${key.replaceAll('.', '/')}`);
    const value = Number(text);
    if (text !== undefined && value < least) {
      findings.push(
        warning(
          key,
          `${value}; ${maxWorkers} workers need ${least} (${why})`,
          `sysctl -w ${key}=${suggested}, and the same in a file of /etc/sysctl.d`,
        ),
      );
    }
  }
  return findings.length === 0 ? [well('limits of the kernel', `enough for ${maxWorkers} workers`)] : findings;
}

export async function checkDisk(probe: NodeProbe, needs: MachineNeeds): Promise<Finding[]> {
  const { free, total } = await probe.room(needs.stateDir);
  const text = `${(free / GIB).toFixed(1)} of ${(total / GIB).toFixed(1)} GiB free at ${needs.stateDir}`;
  return [
    free < LEAST_DISK
      ? warning('disk', text, 'make room, or put the state folder elsewhere with --state-dir')
      : well('disk', text),
  ];
}

/** Whether a program keeps the clock right, by the kernel's own word (adjtimex) where it can be read. */
export async function checkClock(probe: NodeProbe): Promise<Finding[]> {
  const mend = 'systemctl enable --now systemd-timesyncd, or install chrony';
  const told = (synchronised: boolean, by: string): Finding[] => [
    synchronised
      ? well('clock', `synchronised, says ${by}`)
      : warning('clock', `not synchronised, says ${by}: certificates and logs rely on it`, mend),
  ];
  const timedatectl = await probe.run('timedatectl', ['show', '--property=NTPSynchronized', '--value']);
  if (timedatectl?.code === 0) {
    return told(timedatectl.stdout.trim() === 'yes', 'timedatectl');
  }
  const chrony = await probe.run('chronyc', ['-n', 'tracking']);
  if (chrony?.code === 0) {
    return told(/^Leap status\s*:\s*Normal/m.test(chrony.stdout), 'chronyc');
  }
  const kernel = await probe.run('adjtimex', ['--print']);
  const status = /^\s*(?:status|-[a-z]*\s+status):?\s*(\d+)/m.exec(kernel?.stdout ?? '')?.[1];
  if (kernel?.code === 0 && status !== undefined) {
    // STA_UNSYNC of linux/timex.h.
    return told((Number(status) & 0x40) === 0, 'adjtimex');
  }
  if (await probe.exists('/run/systemd/timesync/synchronized')) {
    return told(true, 'systemd-timesyncd');
  }
  return [warning('clock', 'nothing here tells whether it is synchronised', mend)];
}
