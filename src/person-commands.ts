import { type Command, Option } from 'commander';
import type { CommandContext, InstanceOpener } from './cli/command-context.ts';
import type { NodeDoctorOptions } from './cli/doctor/node-doctor.ts';
import { command } from './command-run.ts';
import { repeated, wholeNumber } from './option-value.ts';

/** Adds the commands that people run, against the cluster that they name or else the instance that is opened. */
export function addCommands(program: Command, openInstance?: InstanceOpener): void {
  const run = (work: (context: CommandContext) => Promise<unknown>): Promise<void> =>
    command(work, openInstance);

  program
    .command('invoke')
    .description('call a function')
    .argument('<function>', 'name of the function')
    .argument('[payload]', 'JSON, @FILE, or - for standard input', '{}')
    .option('--gateway <url>', 'address of the gateway; that of the local instance by default')
    .addOption(
      new Option('--type <type>', 'how it is called')
        .choices(['RequestResponse', 'Event', 'DryRun'])
        .default('RequestResponse'),
    )
    .option('--event', 'short for --type Event: the call is accepted, and runs in the background', false)
    .option('--tail', 'show the last lines that the function wrote during the call', false)
    .option('--client-context <json>', 'what the function finds as its client context; or @FILE')
    .action((functionName, payload, options) =>
      run(async (context) => {
        const { runInvoke } = await import('./cli/invoke.ts');
        return runInvoke({ ...options, functionName, payload }, context);
      }),
    );

  program
    .command('ps')
    .description('list the workers and where they are')
    .option('--kubeconfig <file>', 'how to reach the API server; that of the local instance by default')
    .option('-n, --namespace <name>', 'only workers of this namespace')
    .option('--json', 'for programs', false)
    .action((options) =>
      run(async (context) => {
        const { runPs } = await import('./cli/ps.ts');
        return runPs(options, context);
      }),
    );

  program
    .command('logs')
    .description('show what a worker wrote')
    .argument('<worker>', 'name of the worker')
    .option('--kubeconfig <file>', 'how to reach the API server; that of the local instance by default')
    .option('-n, --namespace <name>', 'namespace of the worker', 'default')
    .option(
      '--tail <lines>',
      'how many lines from the end, hidden ones included; 0 for all',
      wholeNumber(0),
      0,
    )
    .option('-f, --follow', 'go on showing', false)
    .option('--since <time>', 'only what was written since: a duration such as 10m, or a date')
    .option('--request-id <id>', 'only what was written during this call')
    .option('-p, --previous', 'what the container before the present one wrote', false)
    .option('--emulator', 'show also what the emulator writes about itself, and its figures', false)
    .option('--through-agent', 'call the agent also where its files are on this machine', false)
    .action((worker, options) =>
      run(async (context) => {
        const { runLogs } = await import('./cli/logs.ts');
        return runLogs({ ...options, worker }, context);
      }),
    );

  program
    .command('retire')
    .description(
      'have ESB leave nodes: their workers move or are taken away, and nothing of ours stays there',
    )
    .argument('[node...]', 'names of the nodes')
    .option('--all', 'every node, and what ESB knows of each; for before it is uninstalled', false)
    .option(
      '--leftovers',
      'no node, but what ESB made in its own namespace; for after its controllers have ended',
      false,
    )
    .option('--timeout <seconds>', 'how long to wait until the nodes are left', wholeNumber(1), 240)
    .option('--system-namespace <name>', 'where Leases and the client authority are kept', 'esb-system')
    .option(
      '--kubeconfig <file>',
      'how to reach the API server; in a Pod its service account by default, else that of the local instance or of kubectl',
    )
    .action((nodes, options) =>
      run(async (context) => {
        const { runRetire } = await import('./cli/retire.ts');
        return runRetire({ ...options, nodes }, context);
      }),
    );

  program
    .command('doctor')
    .description('look for what keeps ESB from working')
    // Before `node` as well as after it.
    .option('--json', 'for programs', false)
    .command('node')
    .description('look for what keeps an agent from working on this node; takes the options of the agent')
    .option('--json', 'for programs', false)
    .option('--containerd-socket <file>', 'socket of containerd', '/run/containerd/containerd.sock')
    .option('--cni-bin-dir <dir>', 'folder of the CNI plugins', '/opt/cni/bin')
    .option('--cni-config <file>', "network configuration; the program's own by default")
    .option('--state-dir <dir>', 'folder for what must outlive a restart', '/var/lib/esb')
    .option('--run-dir <dir>', 'folder on tmpfs for what must not outlive a boot', '/run/esb')
    .option('--subnet <cidr>', 'addresses of the workers', '10.234.0.0/16')
    .option('--service-cidr <cidr>', 'ranges of the cluster that the subnet may not meet', repeated, [])
    .option('--max-workers <n>', 'how many workers are to be here', wholeNumber(1), 1000)
    .addOption(
      new Option('--cgroup-driver <driver>', 'what makes the control groups of the workers')
        .choices(['cgroupfs', 'systemd'] as const)
        .default('cgroupfs' as const),
    )
    .action((_options, self: Command) =>
      run(async (context) => {
        const { runNodeDoctor } = await import('./cli/doctor/node-doctor.ts');
        return runNodeDoctor(self.optsWithGlobals<NodeDoctorOptions>(), context);
      }),
    );
}
