import { type Command, Option } from 'commander';
import type { CommandContext, InstanceOpener } from './cli/command-context.ts';
import type { NodeDoctorOptions } from './cli/doctor/node-doctor.ts';
import { command } from './command-run.ts';
import { agentFlags } from './options/agent.ts';
import { list, wholeNumber } from './options/flag.ts';
import { systemNamespace } from './options/shared.ts';

/** Adds the commands for operators, for the named cluster or else the instance that is opened. */
export function addCommands(program: Command, openInstance?: InstanceOpener): void {
  const run = (work: (context: CommandContext) => Promise<unknown>): Promise<void> => command(work, openInstance);

  program
    .commandsGroup('Functions and their workers:')
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
    .option('--stream', 'show the answer as the function streams it', false)
    .option('--tail', 'show the last lines that the function wrote during the call', false)
    .option('--client-context <json>', 'what the function finds as its client context; or @FILE')
    .action((functionName, payload, options) =>
      run(async (context) => {
        const { runInvoke } = await import('./cli/invoke.ts');
        return runInvoke({ ...options, functionName, payload }, context);
      }),
    );

  program
    .command('init')
    .description('write a first function, ready to be deployed; no file is written over')
    .argument('[folder]', 'where it goes; made where it is not there', '.')
    .addOption(
      new Option('--language <language>', 'what it is written in').choices(['python', 'node', 'go']).default('python'),
    )
    .action((folder, options) =>
      run(async (context) => {
        const { runInit } = await import('./cli/deploy/init.ts');
        return runInit({ ...options, folder }, context);
      }),
    );

  program
    .command('deploy')
    .description('make the image of a function from its folder, push it, and have it run as a LambdaFunction')
    .argument('[folder]', 'folder of the function', '.')
    .option('--base <image>', 'image that runs it; for Go none by default, else that of the local instance')
    .option('--handler <handler>', 'FILE.FUNCTION; the usual one of its language by default')
    .option('--name <name>', 'name of the function; that of the folder by default')
    .option('-n, --namespace <name>', 'namespace of the function', 'default')
    .option('--memory <quantity>', 'memory of a worker, such as 256Mi')
    .addOption(wholeNumber('--timeout <seconds>', 'how long a call may take', 1))
    .addOption(wholeNumber('--workers <n>', 'how many workers it has at least, be there calls or not', 0))
    .addOption(wholeNumber('--max-workers <n>', 'how many workers it grows to with its calls', 1))
    .addOption(
      new Option('--desired-state <state>', 'what a worker rests in; Paused for a new function').choices([
        'Running',
        'Paused',
        'Absent',
      ]),
    )
    .addOption(
      list('--unset <flag>', 'flag of an earlier deploy that holds no longer, such as memory; may be repeated'),
    )
    .option('--push <repository>', 'where the image goes; the registry of the local instance by default')
    .addOption(list('--pull-secret <name>', 'Secret with which nodes pull the image; may be repeated'))
    .addOption(
      new Option('--language <language>', 'what it is written in; by its files by default').choices([
        'python',
        'node',
        'go',
      ]),
    )
    .addOption(
      new Option('--architecture <name>', 'processor that it is made for; that of this machine by default').choices([
        'amd64',
        'arm64',
      ]),
    )
    .option('--python-version <version>', 'Python of the base, such as 3.13, where the base does not say')
    .option('--plain-http', 'speak HTTP without TLS with the registry of --push, as with one on this machine', false)
    .option('--force-conflicts', 'take over fields that something else has set', false)
    .addOption(wholeNumber('--wait <seconds>', 'how long to wait until it is up to date', 1).or(300))
    .option('--invoke <payload>', 'call it at the end: JSON, @FILE, or - for standard input')
    .option('--gateway <url>', 'address of the gateway; that of the local instance by default')
    .option('--kubeconfig <file>', 'how to reach the API server; that of the local instance by default')
    .action((folder, options) =>
      run(async (context) => {
        const { runDeploy } = await import('./cli/deploy/deploy.ts');
        return runDeploy({ ...options, folder }, context);
      }),
    );

  addRolloutCommands(program, run);

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
    .command('top')
    .description('show what workers use: processor and memory')
    .option('--kubeconfig <file>', 'how to reach the API server; that of the local instance by default')
    .option('-n, --namespace <name>', 'only workers of this namespace')
    .addOption(new Option('--sort <figure>', 'which comes first').choices(['cpu', 'memory']).default('cpu'))
    .option('--json', 'for programs', false)
    .action((options) =>
      run(async (context) => {
        const { runTop } = await import('./cli/top.ts');
        return runTop(options, context);
      }),
    );

  program
    .command('logs')
    .description('show what a function, or one of its workers, wrote')
    .argument('<name>', 'name of the worker, or of the function for all of its workers')
    .option('--kubeconfig <file>', 'how to reach the API server; that of the local instance by default')
    .option('-n, --namespace <name>', 'namespace of both', 'default')
    .addOption(wholeNumber('--tail <lines>', 'how many lines from the end, hidden ones included; 0 for all', 0).or(0))
    .option('-f, --follow', 'go on showing', false)
    .option('--since <time>', 'only what was written since: a duration such as 10m, or a date')
    .option('--request-id <id>', 'only what was written during this call')
    .option(
      '-p, --previous',
      'what the container wrote that failed to replace the present one, or else the one before',
      false,
    )
    .option('--emulator', 'show also what the emulator writes about itself, and its figures', false)
    .option('--through-agent', 'call the agent also where its files are on this machine', false)
    .action((worker, options) =>
      run(async (context) => {
        const { runLogs } = await import('./cli/logs.ts');
        return runLogs({ ...options, worker }, context);
      }),
    );

  program
    .commandsGroup('Nodes:')
    .command('retire')
    .description('have ESB leave nodes: their workers move or are taken away, and nothing of ours stays there')
    .argument('[node...]', 'names of the nodes')
    .option('--all', 'every node, and what ESB knows of each; for before it is uninstalled', false)
    .option(
      '--leftovers',
      'no node, but what ESB made in its own namespace; for after its controllers have ended',
      false,
    )
    .addOption(wholeNumber('--timeout <seconds>', 'how long to wait until the nodes are left', 1).or(240))
    .addOption(systemNamespace)
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

  const doctorNode = program
    .command('doctor')
    .description('look for what keeps ESB from working')
    // `--json` may stand before `node` as well as after it.
    .option('--json', 'for programs', false)
    .command('node')
    .description('look for what keeps an agent from working on this node; takes the options of the agent')
    .option('--json', 'for programs', false)
    .action((_options, self: Command) =>
      run(async (context) => {
        const { runNodeDoctor } = await import('./cli/doctor/node-doctor.ts');
        return runNodeDoctor(self.optsWithGlobals<NodeDoctorOptions>(), context);
      }),
    );
  const { capacity, folders, isolation, network, runtime } = agentFlags;
  for (const flag of [
    runtime.containerdSocket,
    runtime.initProgram,
    network.cniBinDir,
    network.cniConfig,
    folders.state,
    folders.run,
    network.subnet,
    network.serviceCidr,
    capacity.maxWorkers,
    isolation.cgroupDriver,
  ]) {
    doctorNode.addOption(flag);
  }
}

/** Adds `rollout` with its commands. */
function addRolloutCommands(
  program: Command,
  run: (work: (context: CommandContext) => Promise<unknown>) => Promise<void>,
): void {
  const rollout = program.command('rollout').description('follow, list and undo changes of the template of a function');
  const about = (name: string, description: string) =>
    rollout
      .command(name)
      .description(description)
      .argument('<function>', 'name of the LambdaFunction')
      .option('-n, --namespace <name>', 'namespace of the function', 'default')
      .option('--kubeconfig <file>', 'how to reach the API server; that of the local instance by default');

  about('status', 'tell how far the latest change is, and wait for its end; exits with 1 where the change has stopped')
    .option('--no-watch', 'do not wait')
    .addOption(wholeNumber('--timeout <seconds>', 'how long to wait; 0 for no limit', 0).or(0))
    .action((name, options) =>
      run(async (context) => {
        const { runStatus } = await import('./cli/rollout/status.ts');
        return runStatus({ ...options, name }, context);
      }),
    );
  about('history', 'list the templates that are kept')
    .addOption(wholeNumber('--revision <n>', 'show the template of this number', 1))
    .action((name, options) =>
      run(async (context) => {
        const { runHistory } = await import('./cli/rollout/history.ts');
        return runHistory({ ...options, name }, context);
      }),
    );
  about('undo', 'go back to an earlier template')
    .addOption(wholeNumber('--to-revision <n>', 'number of the template; by default the one before', 1))
    .action((name, options) =>
      run(async (context) => {
        const { runUndo } = await import('./cli/rollout/undo.ts');
        return runUndo({ ...options, name }, context);
      }),
    );
}
