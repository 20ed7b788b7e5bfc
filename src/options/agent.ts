import { bytes, choice, list, type OptionsOf, requiredText, text, toggle, wholeNumber } from './flag.ts';
import { kubeconfig, logLevel, otlpEndpoint, systemNamespace } from './shared.ts';

/** Flags of `esb agent`. */
export const agentFlags = {
  server: {
    logLevel,
    listen: text('--listen <host:port>', 'where gateways call').or(':9443'),
    advertise: text('--advertise <host:port>', 'address that gateways are told; the first of the machine by default'),
    health: text('--health <host:port>', 'where /healthz, /readyz and /metrics are served').or(':9093'),
    workerMetrics: toggle(
      '--worker-metrics',
      'serve processor time and memory of each worker, by its name, at /metrics/workers of the same address',
    ),
    otlpEndpoint,
  },
  folders: {
    state: text('--state-dir <dir>', 'folder for what must outlive a restart').or('/var/lib/esb'),
    run: text('--run-dir <dir>', 'folder on tmpfs for what must not outlive a boot').or('/run/esb'),
  },
  cluster: {
    kubeconfig,
    systemNamespace,
    nodeName: requiredText('--node-name <name>', 'name of the node').env('ESB_NODE_NAME'),
  },
  runtime: {
    type: choice('--runtime-type <type>', 'what runs the workers', ['containerd', 'docker'])
      .or('containerd')
      .env('RUNTIME_TYPE'),
    containerdSocket: text('--containerd-socket <file>', 'socket of containerd').or('/run/containerd/containerd.sock'),
    dockerSocket: text('--docker-socket <file>', 'socket of the Docker engine').or('/var/run/docker.sock'),
    initProgram: text(
      '--init-program <file>',
      'program that is process 1 of workers with runtimeInterface Lambda; that of the image by default',
    ).or('/usr/lib/esb/init'),
    workersPerShim: wholeNumber(
      '--workers-per-shim <n>',
      'how many workers share a shim of containerd, and end with it',
      1,
      16,
    ).or(1),
  },
  capacity: {
    memoryMiB: wholeNumber(
      '--memory <MiB>',
      'memory that workers may be promised, with /tmp where that is memory; 70 % of what Pods may have by default, else of the machine',
      1,
    ),
    maxWorkers: wholeNumber('--max-workers <n>', 'how many workers may be here', 1).or(1000),
    maxHeldBytes: bytes(
      '--max-held <bytes>',
      'bytes of payloads and answers that calls hold; a quarter of the memory limit of the container by default, 256Mi at most',
    ),
    tmp: choice(
      '--tmp <medium>',
      'where /tmp of workers is: on the disk of --state-dir where that can be (auto), or in memory',
      ['auto', 'memory'],
    ).or('auto'),
  },
  images: {
    certsDir: text('--certs-dir <dir>', "containerd's registry configuration").or('/etc/containerd/certs.d'),
    credentialConfig: text(
      '--image-credential-provider-config <file>',
      "the kubelet's CredentialProviderConfig: programs that give credentials for registries; beside the folder below",
    ),
    credentialBinDir: text('--image-credential-provider-bin-dir <dir>', 'folder of these programs'),
    maxPulls: wholeNumber(
      '--max-pulls <n>',
      'how many images of one registry are pulled at the same time; four times as many in all, and twice as many for one namespace',
      1,
    ).or(3),
    gcHighPercent: wholeNumber(
      '--image-gc-high <percent>',
      'how full the disk of the images may be until unused ones are removed; 100 for never',
      1,
    ).or(80),
    gcLowPercent: wholeNumber('--image-gc-low <percent>', 'how full it may be until that ends', 0).or(75),
    gcMinAgeSeconds: wholeNumber(
      '--image-gc-min-age <seconds>',
      'how long an image is kept after its pull or last use in any case',
      0,
    ).or(120),
  },
  logs: {
    maxBytes: bytes('--log-max-size <bytes>', "size of one file of a worker's log").or(10 * 2 ** 20, '10Mi'),
    maxFiles: wholeNumber('--log-max-files <n>', "how many files of a worker's log are kept", 1).or(5),
  },
  network: {
    cniBinDir: text('--cni-bin-dir <dir>', 'folder of the CNI plugins').or('/opt/cni/bin'),
    cniConfig: text('--cni-config <file>', "network configuration; the program's own by default"),
    slots: wholeNumber('--slots <n>', 'network attachments prepared in advance', 0).or(4),
    subnet: text('--subnet <cidr>', 'addresses of the workers').or('10.234.0.0/16'),
    hostPorts: text('--host-ports <first-last>', 'ports of the node for workers in network mode Host').or(
      '25000-26999',
    ),
    serviceCidr: list('--service-cidr <cidr>', 'ranges of the cluster that the subnet may not meet'),
    denyCidr: list('--deny-cidr <cidr>', 'ranges that workers may not reach, DNS excepted'),
    egress: choice('--egress <class>', 'destinations of workers whose spec.network.egress is absent', [
      'All',
      'Internet',
      'Cluster',
      'None',
    ]).or('All'),
    allowCidr: list('--allow-cidr <cidr>', 'ranges that workers reach although a denied one has them'),
  },
  isolation: {
    cgroupDriver: choice('--cgroup-driver <driver>', 'what makes the control groups of the workers', [
      'cgroupfs',
      'systemd',
    ]).or('cgroupfs'),
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
      0,
      1000,
    ).or(950),
  },
  upkeep: {
    auditSeconds: wholeNumber(
      '--audit-period <seconds>',
      'time between two searches for what workers left behind',
      1,
    ).or(300),
    drainSeconds: wholeNumber(
      '--drain <seconds>',
      'how long calls that are in workers get to be answered when the agent stops; everybody is served meanwhile',
      0,
      3600,
    ).or(20),
  },
};

export type AgentConfig = OptionsOf<typeof agentFlags>;
