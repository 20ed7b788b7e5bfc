import { type Command, Option } from 'commander';
import { ACCESS_KEYS_SECRET } from './api/name.ts';
import { role } from './command-run.ts';
import { keepHeapSmall } from './common/small-heap.ts';
import { byteSize, repeated, wholeNumber } from './option-value.ts';

const otlpHelp =
  'where spans of calls are sent: a receiver of OTLP over HTTP; OTEL_EXPORTER_OTLP_ENDPOINT by default, and nowhere without it';

function roleCommand(program: Command, name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .option('--kubeconfig <file>', 'how to reach the API server; without it, the service account of the Pod')
    .option('--system-namespace <name>', 'where Leases and the client authority are kept', 'esb-system')
    .addOption(logLevelOption());
}

function logLevelOption() {
  return new Option('--log-level <level>', 'least severe messages to log')
    .choices(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const)
    .default('info' as const)
    .env('ESB_LOG_LEVEL');
}

/** Adds the roles: controller, gateway and agent, and what holds memory for them. */
export function addRoles(program: Command): void {
  roleCommand(program, 'controller', 'assign workers to nodes and look after both (leader-elected)')
    .option('--health <host:port>', 'where /healthz, /readyz and /metrics are served', ':9091')
    .option('--identity <name>', 'name in the leader election; host name and process id by default')
    .option(
      '--hold-image <image>',
      "this program's image, for the Pod that stands for the memory of a node's workers; no such Pods without it",
    )
    .addOption(
      new Option('--hold-pull-policy <policy>', 'when that image is pulled')
        .choices(['Always', 'IfNotPresent', 'Never'] as const)
        .default('IfNotPresent' as const),
    )
    .option('--hold-priority-class <name>', 'priority class of those Pods')
    .action(
      role('controller', async (options, context) => {
        keepHeapSmall();
        const { runController } = await import('./controller/main.ts');
        await runController(options, context);
      }),
    );

  roleCommand(program, 'gateway', 'serve the Lambda Invoke API for one namespace')
    .option('--namespace <name>', 'namespace whose functions are served', 'default')
    .option('--listen <host:port>', 'where the Lambda API is served', '127.0.0.1:9080')
    .option('--health <host:port>', 'where /healthz, /readyz and /metrics are served', ':9092')
    .option('--state-dir <dir>', 'folder for what must outlive a restart', '/var/lib/esb-gateway')
    .addOption(
      new Option('--authentication <on|off>', 'whether callers have to prove who they are')
        .choices(['on', 'off'] as const)
        .default('on' as const),
    )
    .option(
      '--access-keys <name>',
      'Secret with the access keys, in the namespace; empty for none',
      ACCESS_KEYS_SECRET,
    )
    .option(
      '--token-audience <name>',
      'audience that bearer tokens have to be for, in place of esb-gateway.NAMESPACE and esb-gateway; may be repeated',
      repeated,
      [],
    )
    .option(
      '--access-cache <seconds>',
      'how long an answer of the API server about a caller is good for',
      wholeNumber(1),
      60,
    )
    .option(
      '--access-grace <seconds>',
      'how much longer the last answer does while the API server is away',
      wholeNumber(0),
      3600,
    )
    .option(
      '--stranger-rate <n>',
      'questions a second to the API server about callers of one address who are not known; 0 for no limit',
      wholeNumber(0),
      100,
    )
    .option('--tls-cert <file>', 'certificate of the Lambda API; it is served without TLS else')
    .option('--tls-key <file>', 'key of that certificate')
    .option('--client-ca <file>', 'authorities whose clients are known by their certificate')
    .option('--max-requests <n>', 'requests under way before further ones are refused', wholeNumber(1), 8192)
    .option('--max-held <bytes>', 'bytes of bodies and answers held before that', byteSize, 512 * 2 ** 20)
    .option('--max-connections <n>', 'connections before further ones are closed', wholeNumber(1), 16384)
    .option(
      '--max-connections-per-address <n>',
      'connections of one address before further ones are closed; half of all by default',
      wholeNumber(1),
    )
    .option(
      '--max-loop-delay <ms>',
      'how late the program may be before requests are refused',
      wholeNumber(10),
      3000,
    )
    .option(
      '--max-heap <percent>',
      'how full the heap may be before requests are refused',
      wholeNumber(1, 100),
      85,
    )
    .option(
      '--max-queue-wait <seconds>',
      'how long a call waits until its function has a place for it',
      wholeNumber(0),
      300,
    )
    .option(
      '--caller-rate <n>',
      'requests a second of each caller, or of each address without authentication; 0 for no limit',
      wholeNumber(0),
      0,
    )
    .option(
      '--caller-burst <n>',
      "requests that a caller may make at once after a rest; a second's worth by default",
      wholeNumber(1),
    )
    .addOption(
      new Option(
        '--event-store <kind>',
        'where calls of type Event are kept: a file in the state folder, or a database that gateways share',
      )
        .choices(['sqlite', 'postgres'] as const)
        .default('sqlite' as const),
    )
    .option(
      '--event-database-file <file>',
      'file with the connection string of that database; else it is in ESB_EVENT_DATABASE',
    )
    .option(
      '--max-events <n>',
      'events kept before further ones are refused; a function has at most what stays free',
      wholeNumber(1),
      100_000,
    )
    .option('--max-event-bytes <bytes>', 'bytes of their payloads before that', byteSize, 2 ** 30)
    .option(
      '--event-destination <host|cidr>',
      'where records of failure may be posted: a host, *.domain, address or range; may be repeated. Without it anywhere; loopback, link-local, metadata and own addresses only where a range names them',
      repeated,
      [],
    )
    .option('--no-timing-headers', 'answers do not tell what a call found and how long it took where')
    .option('--access-log', 'log a line for each request', false)
    .option('--otlp-endpoint <url>', otlpHelp)
    .option(
      '--metrics-functions <n>',
      'most functions with metrics of their own; the others share theirs',
      wholeNumber(0),
      100,
    )
    .action(
      role('gateway', async (options, context) => {
        const { runGateway } = await import('./gateway/main.ts');
        await runGateway(options, context);
      }),
    );

  roleCommand(program, 'agent', "run this node's workers")
    .addOption(
      new Option('--node-name <name>', 'name of the node').env('ESB_NODE_NAME').makeOptionMandatory(),
    )
    .addOption(
      new Option('--runtime-type <type>', 'what runs the workers')
        .choices(['containerd', 'docker'])
        .default('containerd')
        .env('RUNTIME_TYPE'),
    )
    .option('--containerd-socket <file>', 'socket of containerd', '/run/containerd/containerd.sock')
    .option('--docker-socket <file>', 'socket of the Docker engine', '/var/run/docker.sock')
    .option('--cni-bin-dir <dir>', 'folder of the CNI plugins', '/opt/cni/bin')
    .option('--cni-config <file>', "network configuration; the program's own by default")
    .option('--state-dir <dir>', 'folder for what must outlive a restart', '/var/lib/esb')
    .option('--run-dir <dir>', 'folder on tmpfs for what must not outlive a boot', '/run/esb')
    .option('--certs-dir <dir>', "containerd's registry configuration", '/etc/containerd/certs.d')
    .option(
      '--max-pulls <n>',
      'how many images of one registry are pulled at the same time; four times as many in all, and twice as many for one namespace',
      wholeNumber(1),
      3,
    )
    .option(
      '--image-gc-high <percent>',
      'how full the disk of the images may be until unused ones are removed; 100 for never',
      wholeNumber(1),
      80,
    )
    .option('--image-gc-low <percent>', 'how full it may be until that ends', wholeNumber(0), 75)
    .option(
      '--image-gc-min-age <seconds>',
      'how long an image is kept after its pull or last use in any case',
      wholeNumber(0),
      120,
    )
    .option('--listen <host:port>', 'where gateways call', ':9443')
    .option('--advertise <host:port>', 'address that gateways are told; the first of the machine by default')
    .option('--health <host:port>', 'where /healthz, /readyz and /metrics are served', ':9093')
    .option(
      '--memory <MiB>',
      'memory that workers may be promised, /tmp included; 70 % of the machine by default',
      wholeNumber(1),
    )
    .option('--max-workers <n>', 'how many workers may be here', wholeNumber(1), 1000)
    .option(
      '--max-held <bytes>',
      'bytes of payloads and answers that calls hold; a quarter of the memory limit of the container by default, 256Mi at most',
      byteSize,
    )
    .option('--slots <n>', 'network attachments prepared in advance', wholeNumber(0), 4)
    .option(
      '--workers-per-shim <n>',
      'how many workers share a shim of containerd, and end with it',
      wholeNumber(1, 16),
      1,
    )
    .option(
      '--prepared-workers <n>',
      'workers resting Absent whose container is made in advance and not started, at about 8 MiB each',
      wholeNumber(0),
      0,
    )
    .option('--log-max-size <bytes>', "size of one file of a worker's log", byteSize, 10 * 2 ** 20)
    .option('--log-max-files <n>', "how many files of a worker's log are kept", wholeNumber(1), 5)
    .option('--subnet <cidr>', 'addresses of the workers', '10.234.0.0/16')
    .option('--host-ports <first-last>', 'ports of the node for workers in network mode Host', '25000-26999')
    .option('--service-cidr <cidr>', 'ranges of the cluster that the subnet may not meet', repeated, [])
    .option('--deny-cidr <cidr>', 'ranges that workers may not reach, DNS excepted', repeated, [])
    .option('--allow-cidr <cidr>', 'ranges that workers reach although a denied one has them', repeated, [])
    .addOption(
      new Option('--cgroup-driver <driver>', 'what makes the control groups of the workers')
        .choices(['cgroupfs', 'systemd'] as const)
        .default('cgroupfs' as const),
    )
    .option(
      '--cgroup-parent <path>',
      'control group above those of the workers; /esb by default, with systemd the slice esb.slice',
    )
    .option(
      '--user-namespaces <range>',
      "give each worker users of its own: FIRST:COUNT of the node's user ids, or auto for those that /etc/subuid has for esb",
    )
    .option(
      '--oom-score-adj <n>',
      'how early workers end when the node is short of memory, 0 to 1000',
      wholeNumber(0, 1000),
      950,
    )
    .option(
      '--audit-period <seconds>',
      'time between two searches for what workers left behind',
      wholeNumber(1),
      300,
    )
    .option(
      '--drain <seconds>',
      'how long calls that are in workers get to be answered when the agent stops; everybody is served meanwhile',
      wholeNumber(0, 3600),
      20,
    )
    .option('--otlp-endpoint <url>', otlpHelp)
    .action(
      role('agent', async (options, context) => {
        const { Spawner } = await import('./common/exec/spawner.ts');
        const spawner = new Spawner({ logger: context.logger });
        // Before anything else is loaded: this process is as small as it ever is, and both load at the same time.
        spawner.start();
        const { runAgent } = await import('./agent/main.ts');
        await runAgent(options, context, spawner);
      }),
    );

  program
    .command('hold')
    .description("wait for the end: the hold Pod of a node, which asks for its workers' memory")
    .addOption(logLevelOption())
    .action(
      role('hold', async (_options, context) => {
        const { runHold } = await import('./cli/hold.ts');
        await runHold(context);
      }),
    );
}
