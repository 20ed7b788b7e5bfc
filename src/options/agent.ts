import { bytes, choice, list, type OptionsOf, requiredText, text, wholeNumber } from './flag.ts';
import { kubeconfig, logLevel, otlpEndpoint, systemNamespace } from './shared.ts';

/** Flags of `esb agent`. */
export const agentFlags = {
  server: {
    logLevel,
    listen: text('--listen <host:port>', 'where gateways call', ':9443'),
    advertise: text(
      '--advertise <host:port>',
      'address that gateways are told; the first of the machine by default',
    ),
    health: text('--health <host:port>', 'where /healthz, /readyz and /metrics are served', ':9093'),
    otlpEndpoint,
  },
  folders: {
    state: text('--state-dir <dir>', 'folder for what must outlive a restart', '/var/lib/esb'),
    run: text('--run-dir <dir>', 'folder on tmpfs for what must not outlive a boot', '/run/esb'),
  },
  cluster: {
    kubeconfig,
    systemNamespace,
    nodeName: requiredText('--node-name <name>', 'name of the node').env('ESB_NODE_NAME'),
  },
  runtime: {
    type: choice(
      '--runtime-type <type>',
      'what runs the workers',
      ['containerd', 'docker'],
      'containerd',
    ).env('RUNTIME_TYPE'),
    containerdSocket: text(
      '--containerd-socket <file>',
      'socket of containerd',
      '/run/containerd/containerd.sock',
    ),
    dockerSocket: text('--docker-socket <file>', 'socket of the Docker engine', '/var/run/docker.sock'),
    workersPerShim: wholeNumber(
      '--workers-per-shim <n>',
      'how many workers share a shim of containerd, and end with it',
      { least: 1, most: 16 },
      1,
    ),
  },
  capacity: {
    memoryMiB: wholeNumber(
      '--memory <MiB>',
      'memory that workers may be promised, /tmp included; 70 % of the machine by default',
      { least: 1 },
    ),
    maxWorkers: wholeNumber('--max-workers <n>', 'how many workers may be here', { least: 1 }, 1000),
    maxHeldBytes: bytes(
      '--max-held <bytes>',
      'bytes of payloads and answers that calls hold; a quarter of the memory limit of the container by default, 256Mi at most',
    ),
    preparedWorkers: wholeNumber(
      '--prepared-workers <n>',
      'workers resting Absent whose container is made in advance and not started, at about 8 MiB each',
      { least: 0 },
      0,
    ),
  },
  images: {
    certsDir: text('--certs-dir <dir>', "containerd's registry configuration", '/etc/containerd/certs.d'),
    maxPulls: wholeNumber(
      '--max-pulls <n>',
      'how many images of one registry are pulled at the same time; four times as many in all, and twice as many for one namespace',
      { least: 1 },
      3,
    ),
    gcHighPercent: wholeNumber(
      '--image-gc-high <percent>',
      'how full the disk of the images may be until unused ones are removed; 100 for never',
      { least: 1 },
      80,
    ),
    gcLowPercent: wholeNumber(
      '--image-gc-low <percent>',
      'how full it may be until that ends',
      { least: 0 },
      75,
    ),
    gcMinAgeSeconds: wholeNumber(
      '--image-gc-min-age <seconds>',
      'how long an image is kept after its pull or last use in any case',
      { least: 0 },
      120,
    ),
  },
  logs: {
    maxBytes: bytes('--log-max-size <bytes>', "size of one file of a worker's log", '10Mi'),
    maxFiles: wholeNumber(
      '--log-max-files <n>',
      "how many files of a worker's log are kept",
      { least: 1 },
      5,
    ),
  },
  network: {
    cniBinDir: text('--cni-bin-dir <dir>', 'folder of the CNI plugins', '/opt/cni/bin'),
    cniConfig: text('--cni-config <file>', "network configuration; the program's own by default"),
    slots: wholeNumber('--slots <n>', 'network attachments prepared in advance', { least: 0 }, 4),
    subnet: text('--subnet <cidr>', 'addresses of the workers', '10.234.0.0/16'),
    hostPorts: text(
      '--host-ports <first-last>',
      'ports of the node for workers in network mode Host',
      '25000-26999',
    ),
    serviceCidr: list('--service-cidr <cidr>', 'ranges of the cluster that the subnet may not meet'),
    denyCidr: list('--deny-cidr <cidr>', 'ranges that workers may not reach, DNS excepted'),
    allowCidr: list('--allow-cidr <cidr>', 'ranges that workers reach although a denied one has them'),
  },
  isolation: {
    cgroupDriver: choice(
      '--cgroup-driver <driver>',
      'what makes the control groups of the workers',
      ['cgroupfs', 'systemd'],
      'cgroupfs',
    ),
    cgroupParent: text(
      '--cgroup-parent <path>',
      'control group above those of the workers; /esb by default, with systemd the slice esb.slice',
    ),
    userNamespaces: text(
      '--user-namespaces <range>',
      "give each worker users of its own: FIRST:COUNT of the node's user ids, or auto for those that /etc/subuid has for esb",
    ),
    oomScoreAdj: wholeNumber(
      '--oom-score-adj <n>',
      'how early workers end when the node is short of memory, 0 to 1000',
      { least: 0, most: 1000 },
      950,
    ),
  },
  upkeep: {
    auditSeconds: wholeNumber(
      '--audit-period <seconds>',
      'time between two searches for what workers left behind',
      { least: 1 },
      300,
    ),
    drainSeconds: wholeNumber(
      '--drain <seconds>',
      'how long calls that are in workers get to be answered when the agent stops; everybody is served meanwhile',
      { least: 0, most: 3600 },
      20,
    ),
  },
};

export type AgentConfig = OptionsOf<typeof agentFlags>;
