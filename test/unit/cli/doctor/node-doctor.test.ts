import { describe, expect, it } from 'vitest';
import { checkContainerd, checkInit, checkPlugins, checkRunc } from '../../../../src/cli/doctor/container-checks.ts';
import { exitCodeOf, type Finding, formatFindings } from '../../../../src/cli/doctor/finding.ts';
import {
  checkCgroups,
  checkClock,
  checkDisk,
  checkKernel,
  checkLimits,
  checkMounts,
} from '../../../../src/cli/doctor/machine-checks.ts';
import { checkForwarding, checkPacketFilter, checkSubnet } from '../../../../src/cli/doctor/network-checks.ts';
import { compareVersions, mountOf, type NodeProbe, parseMounts } from '../../../../src/cli/doctor/node-probe.ts';
import type { ContainerdClient } from '../../../../src/containerd/containerd-client.ts';

interface FakeNode {
  /** Path to text. A folder or socket is a file here. */
  readonly files?: Readonly<Record<string, string>>;
  /** First words of a command line to what it writes, or to exit code and text. */
  readonly programs?: Readonly<Record<string, string | { readonly code: number; readonly text: string }>>;
  readonly free?: number;
}

function fakeProbe({ files = {}, programs = {}, free = 50 * 2 ** 30 }: FakeNode): NodeProbe {
  return {
    read: (path) => Promise.resolve(files[path]),
    names: () => Promise.resolve([]),
    exists: (path) => Promise.resolve(path in files),
    room: () => Promise.resolve({ free, total: 100 * 2 ** 30 }),
    find: (program) =>
      Promise.resolve(
        Object.keys(programs)
          .find((each) => each.split(' ')[0] === program)
          ?.split(' ')[0],
      ),
    run(program, args) {
      const line = [program, ...args].join(' ');
      const found = Object.entries(programs).find(([start]) => line.startsWith(start))?.[1];
      if (found === undefined) {
        return Promise.resolve(undefined);
      }
      const { code, text } = typeof found === 'string' ? { code: 0, text: found } : found;
      return Promise.resolve({ code, stdout: text, stderr: code === 0 ? '' : text });
    },
  };
}

const needs = {
  stateDir: '/var/lib/esb',
  runDir: '/run/esb',
  maxWorkers: 1000,
  cgroupDriver: 'cgroupfs',
} as const;
const network = { subnet: '10.234.0.0/16', serviceCidr: [], bridge: 'esb0' };

const short = (findings: readonly Finding[]): string[] => findings.map(({ what, level }) => `${level} ${what}`);
const mends = (findings: readonly Finding[]): string => findings.map(({ mend }) => mend ?? '').join('\n');

/** `proc_pid_mountinfo(5)`: one line for each `point type [shared]`. */
function mountInfo(...mounts: readonly string[]): string {
  return mounts
    .map((mount, index) => {
      const [point, type, shared] = mount.split(' ');
      const tags = shared === undefined ? '' : ` shared:${index}`;
      return `${index} 1 0:${index} / ${point} rw${tags} - ${type} none rw`;
    })
    .join('\n');
}

describe('what is told of a node', () => {
  it('has a sign for each level, and what to do below what is not well', () => {
    const findings: Finding[] = [
      { what: 'kernel', level: 'ok', message: '6.1' },
      { what: 'disk', level: 'warning', message: 'full', mend: 'make room\nor buy one' },
    ];
    expect(formatFindings(findings, false)).toBe('✓ kernel: 6.1\n! disk: full\n    make room\n    or buy one\n');
    expect(JSON.parse(formatFindings(findings, true))).toEqual(findings);
    expect(exitCodeOf(findings)).toBe(0);
    expect(exitCodeOf([...findings, { what: 'x', level: 'problem', message: '' }])).toBe(1);
  });
});

describe('versions', () => {
  it.each([
    ['6.18.44-fc', '5.19', 1],
    ['5.4.0', '5.19', -1],
    ['1.1.12', '1.1.9', 1],
    ['v2.0', '2.0.0', 0],
    ['', '1', -1],
  ])('%s against %s', (a, b, sign) => {
    expect(Math.sign(compareVersions(a, b))).toBe(sign);
  });
});

describe('the kernel', () => {
  const kernel = (release: string, seccomp = true): Promise<Finding[]> =>
    checkKernel(
      fakeProbe({
        files: {
          '/proc/sys/kernel/osrelease': `${release}\n`,
          ...(seccomp ? { '/proc/sys/kernel/seccomp/actions_avail': '' } : {}),
        },
      }),
    );

  it.each([
    ['6.1.0-18-amd64', ['ok kernel']],
    ['5.15.0-generic', ['warning kernel']],
    ['4.19.0', ['problem kernel']],
  ])('%s', async (release, expected) => {
    expect(short(await kernel(release))).toEqual(expected);
  });

  it('without filters for system calls', async () => {
    expect(short(await kernel('6.1.0', false))).toEqual(['ok kernel', 'problem seccomp']);
  });
});

describe('control groups', () => {
  const v1 = (...names: readonly string[]): string =>
    mountInfo('/sys/fs/cgroup tmpfs', ...names.map((name) => `/sys/fs/cgroup/${name} cgroup`));
  const v2 = mountInfo('/sys/fs/cgroup cgroup2');

  it('of version 2 with all that limits a worker', async () => {
    const files = {
      '/proc/self/mountinfo': v2,
      '/sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory pids\n',
    };
    expect(short(await checkCgroups(fakeProbe({ files }), needs))).toEqual(['ok control groups', 'ok cgroup driver']);
  });

  it('of version 2 without memory, as on small boards', async () => {
    const files = { '/proc/self/mountinfo': v2, '/sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io pids\n' };
    const [finding] = await checkCgroups(fakeProbe({ files }), needs);
    expect(finding).toMatchObject({
      level: 'problem',
      mend: expect.stringContaining('cgroup_enable=memory'),
    });
  });

  it('of version 1', async () => {
    const files = { '/proc/self/mountinfo': v1('memory', 'freezer', 'pids', 'cpu,cpuacct') };
    expect(short(await checkCgroups(fakeProbe({ files }), needs))[0]).toBe('warning control groups');
  });

  it('of version 1 without the freezer, which the kernel was told to leave out', async () => {
    const files = {
      '/proc/self/mountinfo': v1('memory', 'pids', 'cpu,cpuacct'),
      '/proc/cgroups': '#subsys_name\thierarchy\tnum_cgroups\tenabled\nfreezer\t0\t1\t0\n',
    };
    const [finding] = await checkCgroups(fakeProbe({ files }), needs);
    expect(finding).toMatchObject({
      level: 'problem',
      message: expect.stringContaining('paused'),
      mend: 'boot without cgroup_disable=freezer',
    });
  });

  it('made by systemd where there is none', async () => {
    const findings = await checkCgroups(fakeProbe({ files: { '/proc/self/mountinfo': v2 } }), {
      ...needs,
      cgroupDriver: 'systemd',
    });
    expect(findings[1]).toMatchObject({ level: 'problem', mend: 'give the agent --cgroup-driver cgroupfs' });
  });

  it('made by two masters', async () => {
    const files = {
      '/proc/self/mountinfo': v2,
      '/run/systemd/system': '',
      '/var/lib/kubelet/config.yaml': 'kind: KubeletConfiguration\ncgroupDriver: systemd\n',
    };
    const [, driver] = await checkCgroups(fakeProbe({ files }), needs);
    expect(driver).toMatchObject({ level: 'warning', mend: 'give the agent --cgroup-driver systemd' });
    const [, same] = await checkCgroups(fakeProbe({ files }), { ...needs, cgroupDriver: 'systemd' });
    expect(same?.level).toBe('ok');
  });
});

describe('mounts', () => {
  it('are found by the longest point, and the last of several at one', () => {
    const mounts = parseMounts(mountInfo('/ ext4', '/run tmpfs shared', '/run/netns tmpfs', '/run tmpfs'));
    expect(mountOf('/run/netns', mounts)).toEqual({ point: '/run/netns', type: 'tmpfs', shared: false });
    expect(mountOf('/run/esb', mounts)?.shared).toBe(false);
    expect(mountOf('/runner', mounts)?.point).toBe('/');
  });

  it('that are shared, and a run folder on tmpfs', async () => {
    const files = { '/proc/self/mountinfo': mountInfo('/ ext4 shared', '/run tmpfs shared') };
    expect((await checkMounts(fakeProbe({ files }), needs)).map(({ level }) => level)).toEqual(['ok', 'ok', 'ok']);
  });

  it('that are private matter in a Pod', async () => {
    const files = { '/proc/self/mountinfo': mountInfo('/ overlay', '/run/esb tmpfs', '/run/netns tmpfs') };
    const outside = await checkMounts(fakeProbe({ files }), needs);
    expect(outside[0]).toMatchObject({ level: 'warning', mend: expect.stringContaining('--make-rshared') });
    const token = { '/var/run/secrets/kubernetes.io/serviceaccount/token': 'x' };
    const inside = await checkMounts(fakeProbe({ files: { ...files, ...token } }), needs);
    expect(inside[0]).toMatchObject({ level: 'problem', mend: expect.stringContaining('Bidirectional') });
  });

  it('that put the run folder on a disk', async () => {
    const files = { '/proc/self/mountinfo': mountInfo('/ ext4 shared') };
    const findings = await checkMounts(fakeProbe({ files }), needs);
    expect(findings.at(-1)).toMatchObject({ level: 'warning', what: 'run folder' });
  });
});

describe('limits of the kernel', () => {
  const all = {
    '/sys/fs/cgroup/cgroup.controllers': 'memory',
    '/proc/sys/fs/inotify/max_user_instances': '8192',
    '/proc/sys/kernel/pid_max': '4194304',
    '/proc/sys/kernel/threads-max': '200000',
    '/proc/sys/net/ipv4/neigh/default/gc_thresh3': '4096',
    '/proc/sys/user/max_net_namespaces': '90000',
    '/proc/sys/fs/file-max': '9223372036854775807',
  };

  it('that are wide enough', async () => {
    expect(short(await checkLimits(fakeProbe({ files: all }), needs))).toEqual(['ok limits of the kernel']);
  });

  it.each([
    ['fs.inotify.max_user_instances', '128'],
    ['kernel.pid_max', '30000'],
    ['kernel.threads-max', '1000'],
    ['net.ipv4.neigh.default.gc_thresh3', '1024'],
    ['user.max_net_namespaces', '500'],
    ['fs.file-max', '1000'],
  ])('of which %s is too narrow', async (key, value) => {
    const files = { ...all, [`/proc/sys/${key.replaceAll('.', '/')}`]: `${value}\n` };
    const findings = await checkLimits(fakeProbe({ files }), needs);
    expect(short(findings)).toEqual([`warning ${key}`]);
    expect(mends(findings)).toContain(`sysctl -w ${key}=`);
    expect(short(await checkLimits(fakeProbe({ files: all }), { ...needs, maxWorkers: 10 }))).toEqual([
      'ok limits of the kernel',
    ]);
  });
});

describe('disk', () => {
  it.each([
    [50 * 2 ** 30, 'ok'],
    [2 ** 30, 'warning'],
  ])('with %i bytes free', async (free, level) => {
    const [finding] = await checkDisk(fakeProbe({ free }), needs);
    expect(finding?.level).toBe(level);
  });
});

describe('the clock', () => {
  it.each([
    [{ 'timedatectl show': 'yes\n' }, 'ok'],
    [{ 'timedatectl show': 'no\n' }, 'warning'],
    [{ 'chronyc -n tracking': 'Stratum         : 3\nLeap status     : Normal\n' }, 'ok'],
    [{ 'chronyc -n tracking': 'Leap status     : Not synchronised\n' }, 'warning'],
    [{ 'timedatectl show': { code: 1, text: 'no bus' }, 'adjtimex --print': '       status: 8193\n' }, 'ok'],
    [{ 'adjtimex --print': '       status: 64\n' }, 'warning'],
    [{}, 'warning'],
  ])('by %j', async (programs, level) => {
    const [finding] = await checkClock(fakeProbe({ programs }));
    expect(finding?.level).toBe(level);
  });
});

describe('containerd', () => {
  const client = (version: string, plugins: readonly object[]): ContainerdClient =>
    ({
      version: { get: () => Promise.resolve({ version }) },
      introspection: { plugins: () => Promise.resolve(plugins) },
      close: () => undefined,
    }) as unknown as ContainerdClient;
  const plugins = [
    { type: 'io.containerd.snapshotter.v1', id: 'overlayfs', exports: {} },
    { type: 'io.containerd.runtime.v2', id: 'task', exports: {} },
    { type: 'io.containerd.transfer.v1', id: 'local', exports: {} },
  ];
  const here = fakeProbe({ files: { '/run/c.sock': '' } });

  it('that has everything', async () => {
    const findings = await checkContainerd(here, '/run/c.sock', () => client('v2.1.0', plugins));
    expect(new Set(findings.map(({ level }) => level))).toEqual(new Set(['ok']));
  });

  it('that is too old', async () => {
    const findings = await checkContainerd(here, '/run/c.sock', () => client('1.7.20', plugins));
    expect(findings).toMatchObject([{ level: 'problem', mend: 'upgrade containerd' }]);
  });

  it('without a working snapshotter', async () => {
    const broken = [{ ...plugins[0], error: 'no d_type' }, ...plugins.slice(1)];
    const findings = await checkContainerd(here, '/run/c.sock', () => client('2.1.0', broken));
    expect(findings.filter(({ level }) => level !== 'ok')).toMatchObject([
      { level: 'problem', what: 'containerd plugin overlayfs', message: 'no d_type' },
    ]);
  });

  it('somewhere else', async () => {
    const probe = fakeProbe({ files: { '/run/k3s/containerd/containerd.sock': '' } });
    const findings = await checkContainerd(probe, '/run/c.sock', () => client('2.1.0', plugins));
    expect(mends(findings)).toBe('give the agent --containerd-socket /run/k3s/containerd/containerd.sock');
  });

  it('that does not answer', async () => {
    const silent = client('', []);
    const connect = (): ContainerdClient => ({
      ...silent,
      version: { get: () => Promise.reject(new Error('connect ECONNREFUSED')) },
    });
    const findings = await checkContainerd(here, '/run/c.sock', connect);
    expect(findings).toMatchObject([
      {
        level: 'problem',
        message: expect.stringContaining('ECONNREFUSED'),
        mend: expect.stringContaining('systemctl'),
      },
    ]);
  });
});

describe('the init of workers', () => {
  const path = '/usr/lib/esb/init';
  const usage = { code: 125, text: 'init: the socket or the program is missing\nusage: init --socket PATH' };

  it.each([
    [{}, {}, 'problem'],
    [{ [path]: '' }, { [path]: usage }, 'ok'],
    [{ [path]: '' }, { [path]: 'another one' }, 'problem'],
  ] as const)('of %j %j is a %3$s', async (files, programs, level) => {
    expect(short(await checkInit(fakeProbe({ files, programs }), path))).toEqual([`${level} init of workers`]);
  });

  it('for another processor is told as that', async () => {
    const probe = { ...fakeProbe({ files: { [path]: '' } }), run: () => Promise.reject(new Error('spawn ENOEXEC')) };
    const [finding] = await checkInit(probe, path);
    expect(finding).toMatchObject({ level: 'problem', message: `${path} does not run here: spawn ENOEXEC` });
  });
});

describe('runc', () => {
  const runc = (text: string): Promise<Finding[]> =>
    checkRunc(fakeProbe({ programs: { 'runc --version': text, 'containerd-shim-runc-v2': '' } }));

  it.each([
    ['runc version 1.2.0\nlibseccomp: 2.5.4\n', 'ok'],
    ['runc version 1.1.9\nlibseccomp: 2.5.4\n', 'warning'],
    ['runc version 1.2.0\nspec: 1.2.0\n', 'problem'],
  ])('that says %j', async (text, level) => {
    expect(short(await runc(text))).toEqual([`${level} runc`, 'ok shim']);
  });

  it('that is not there', async () => {
    expect(short(await checkRunc(fakeProbe({})))).toEqual(['problem runc', 'warning shim']);
  });

  it('cannot be seen from a Pod, where containerd still has it', async () => {
    const files = { '/var/run/secrets/kubernetes.io/serviceaccount': '' };
    expect(short(await checkRunc(fakeProbe({ files })))).toEqual(['warning runc', 'warning shim']);
  });
});

describe('CNI plugins', () => {
  const configFile = '/etc/esb.conflist';
  const config = JSON.stringify({
    cniVersion: '1.1.0',
    name: 'esb',
    plugins: [
      {
        type: 'bridge',
        bridge: 'esb0',
        isDefaultGateway: true,
        portIsolation: true,
        ipam: { type: 'host-local', ranges: [[{ subnet: '10.234.0.0/16' }]] },
      },
    ],
  });
  const check = (node: FakeNode): Promise<Finding[]> =>
    checkPlugins(fakeProbe({ ...node, files: { [configFile]: config, ...node.files } }), {
      pluginFolder: '/opt/cni/bin',
      configFile,
    });
  const there = { '/opt/cni/bin/bridge': '', '/opt/cni/bin/host-local': '' };
  const speaks = (...versions: readonly string[]): string => JSON.stringify({ supportedVersions: versions });

  it('that are there', async () => {
    const programs = {
      '/opt/cni/bin/bridge --version': { code: 1, text: 'CNI bridge plugin v1.9.1\n' },
      '/opt/cni/bin': speaks('1.0.0', '1.1.0'),
    };
    const findings = await check({ files: there, programs });
    expect(short(findings)).toEqual(['ok network configuration', 'ok CNI plugin bridge', 'ok CNI plugin host-local']);
    expect(findings[1]?.message).toBe('1.9.1');
  });

  it('that are too old, missing, or no plugins', async () => {
    expect(short(await check({ files: there, programs: { '/opt/cni/bin': speaks('0.4.0') } }))).toContain(
      'problem CNI plugin bridge',
    );
    expect(short(await check({}))).toContain('problem CNI plugin host-local');
    expect(short(await check({ files: there, programs: { '/opt/cni/bin': 'hello' } }))).toContain(
      'problem CNI plugin bridge',
    );
  });

  it('of a configuration that is none', async () => {
    expect(short(await check({ files: { [configFile]: '{' } }))).toEqual(['problem network configuration']);
  });
});

describe('the packet filter', () => {
  it.each([
    [{ 'nft --check': '' }, 'ok'],
    [{ 'nft --check': { code: 1, text: 'Error: Could not process rule: No such file or directory' } }, 'problem'],
    [{}, 'problem'],
  ])('by %j', async (programs, level) => {
    const [finding] = await checkPacketFilter(fakeProbe({ programs }), network);
    expect(finding?.level).toBe(level);
  });

  const ruleset = (...extra: readonly object[]): string =>
    JSON.stringify({
      nftables: [
        { chain: { family: 'ip', table: 'filter', name: 'FORWARD', hook: 'forward', policy: 'drop' } },
        { chain: { family: 'inet', table: 'esb', name: 'forward', hook: 'forward', policy: 'accept' } },
        ...extra,
      ],
    });
  const accept = {
    rule: {
      family: 'ip',
      table: 'filter',
      chain: 'DOCKER-USER',
      expr: [{ match: { op: '==', left: { meta: { key: 'iifname' } }, right: 'esb*' } }, { accept: null }],
    },
  };

  it('that drops what is forwarded, with the rule to add', async () => {
    const findings = await checkForwarding(fakeProbe({ programs: { 'nft --json': ruleset() } }), network);
    expect(short(findings)).toEqual(['problem forwarding']);
    expect(mends(findings)).toContain('iptables -I FORWARD -i esb+ -j ACCEPT');
    expect(mends(findings)).toContain('DOCKER-USER');
  });

  it('that drops it except for workers', async () => {
    const probe = fakeProbe({ programs: { 'nft --json': ruleset(accept) } });
    expect(short(await checkForwarding(probe, network))).toEqual(['ok forwarding']);
  });

  it('whose older half drops it', async () => {
    const programs = {
      'nft --json': '{"nftables": []}',
      'iptables-legacy --list-rules': '-P FORWARD DROP\n',
    };
    const findings = await checkForwarding(fakeProbe({ programs }), network);
    expect(mends(findings)).toContain('iptables-legacy -I FORWARD -i esb+ -j ACCEPT');
  });
});

describe('the subnet', () => {
  const header = 'Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n';
  const route = (name: string, destination: string): string =>
    `${name}\t${destination}\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n`;

  it.each([
    ['nobody has', '', [], ['ok subnet']],
    ['a route has', route('eth1', '0000EA0A'), [], ['problem subnet']],
    ['our own bridge has', route('esb0', '0000EA0A'), [], ['ok subnet']],
    ['the cluster has', '', ['10.234.128.0/20'], ['problem subnet']],
  ])('that %s', async (_who, routes, serviceCidr, expected) => {
    const probe = fakeProbe({ files: { '/proc/net/route': `${header}${routes}` } });
    expect(short(await checkSubnet(probe, { ...network, serviceCidr }))).toEqual(expected);
  });

  it('that is none', async () => {
    expect(short(await checkSubnet(fakeProbe({}), { ...network, subnet: 'ten' }))).toEqual(['problem subnet']);
  });
});
