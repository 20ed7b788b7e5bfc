#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { enableCompileCache, flushCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { isAborted } from './common/deadline.ts';
import { EsbError, messageOf } from './common/errors.ts';
import { createLogger } from './common/logger.ts';
import type { RoleContext } from './common/role-context.ts';

/** What a command ends with when it does not say. */
const exitCodes = { ok: 0, failed: 1, usage: 2 } as const;
/** Milliseconds after its start when a role has surely loaded everything. */
const flushAfterMs = 5_000;
const signalNumbers = { SIGINT: 2, SIGTERM: 15 } as const;

/** What a command of the command line is given beside its options. */
interface CommandContext {
  readonly signal: AbortSignal;
}

/** Options that every role takes. */
interface RoleFlags {
  readonly logLevel: string;
}

/** Ends with the process; the first SIGTERM or SIGINT fires `signal`, the second ends the process at once. */
function watchSignals(): { readonly signal: AbortSignal; readonly received: () => number | undefined } {
  const controller = new AbortController();
  let received: number | undefined;
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.on(name, () => {
      if (received !== undefined) {
        process.exit(128 + signalNumbers[name]);
      }
      received = signalNumbers[name];
      controller.abort(new EsbError(`received ${name}`, { code: 'Aborted' }));
    });
  }
  return { signal: controller.signal, received: () => received };
}

/** Runs a role until it ends. A role that was asked to stop and did has succeeded. */
function role<Flags extends RoleFlags>(
  name: string,
  run: (flags: Flags, context: RoleContext) => Promise<void>,
): (flags: Flags) => Promise<void> {
  return async (flags) => {
    const logger = createLogger(name, flags.logLevel);
    const { signal } = watchSignals();
    process.on('unhandledRejection', (error) => {
      logger.fatal({ err: error }, 'unhandled rejection');
      process.exit(exitCodes.failed);
    });
    setTimeout(flushCompileCache, flushAfterMs).unref();
    try {
      await run(flags, { signal, logger });
      process.exit(exitCodes.ok);
    } catch (error) {
      if (signal.aborted && isAborted(error)) {
        process.exit(exitCodes.ok);
      }
      logger.fatal({ err: error }, 'role failed');
      fail(error);
    }
  };
}

/** Runs a command for a person. A number that it returns is the exit code. */
async function command(run: (context: CommandContext) => Promise<unknown>): Promise<void> {
  const { signal, received } = watchSignals();
  try {
    const code = await run({ signal });
    const interrupted = received();
    const own = typeof code === 'number' ? code : exitCodes.ok;
    process.exit(interrupted === undefined ? own : 128 + interrupted);
  } catch (error) {
    const interrupted = received();
    if (interrupted !== undefined && isAborted(error)) {
      process.exit(128 + interrupted);
    }
    fail(error);
  }
}

function fail(error: unknown): never {
  if (error instanceof EsbError) {
    process.stderr.write(`esb: ${error.message}\n`);
    for (
      let { cause } = error;
      cause !== undefined;
      cause = cause instanceof Error ? cause.cause : undefined
    ) {
      const text = messageOf(cause);
      if (!error.message.includes(text)) {
        process.stderr.write(`  because: ${text}\n`);
      }
    }
  } else {
    process.stderr.write(`esb: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  }
  process.exit(exitCodes.failed);
}

function wholeNumber(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < least) {
      throw new InvalidArgumentError(`It must be a whole number of at least ${least}.`);
    }
    return value;
  };
}

function repeated(text: string, earlier: readonly string[]): readonly string[] {
  return [...earlier, ...text.split(',').filter((part) => part !== '')];
}

function roleCommand(program: Command, name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .option('--kubeconfig <file>', 'how to reach the API server; without it, the service account of the Pod')
    .option('--system-namespace <name>', 'where Leases and the client authority are kept', 'esb-system')
    .addOption(
      new Option('--log-level <level>', 'least severe messages to log')
        .choices(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
        .default('info')
        .env('ESB_LOG_LEVEL'),
    );
}

function addRoles(program: Command): void {
  roleCommand(program, 'controller', 'assign workers to nodes and look after both (leader-elected)')
    .option('--health <host:port>', 'where /healthz, /readyz and /metrics are served', ':9091')
    .option('--identity <name>', 'name in the leader election; host name and process id by default')
    .action(
      role('controller', async (options, context) => {
        const { runController } = await import('./controller/role.ts');
        await runController(options, context);
      }),
    );

  roleCommand(program, 'gateway', 'serve the Lambda Invoke API for one namespace')
    .option('--namespace <name>', 'namespace whose functions are served', 'default')
    .option('--listen <host:port>', 'where the Lambda API is served', '127.0.0.1:9080')
    .option('--health <host:port>', 'where /healthz, /readyz and /metrics are served', ':9092')
    .option('--state-dir <dir>', 'folder for what must outlive a restart', '/var/lib/esb-gateway')
    .action(
      role('gateway', async (options, context) => {
        const { runGateway } = await import('./gateway/role.ts');
        await runGateway(options, context);
      }),
    );

  roleCommand(program, 'agent', "run this node's workers")
    .addOption(
      new Option('--node-name <name>', 'name of the node').env('ESB_NODE_NAME').makeOptionMandatory(),
    )
    .addOption(
      new Option('--runtime-type <type>', 'what runs the workers')
        .choices(['containerd'])
        .default('containerd')
        .env('RUNTIME_TYPE'),
    )
    .option('--containerd-socket <file>', 'socket of containerd', '/run/containerd/containerd.sock')
    .option('--cni-bin-dir <dir>', 'folder of the CNI plugins', '/opt/cni/bin')
    .option('--cni-config <file>', "network configuration; the program's own by default")
    .option('--state-dir <dir>', 'folder for what must outlive a restart', '/var/lib/esb')
    .option('--run-dir <dir>', 'folder on tmpfs for what must not outlive a boot', '/run/esb')
    .option('--certs-dir <dir>', "containerd's registry configuration", '/etc/containerd/certs.d')
    .option('--listen <host:port>', 'where gateways call', ':9443')
    .option('--advertise <host:port>', 'address that gateways are told; the first of the machine by default')
    .option('--health <host:port>', 'where /healthz, /readyz and /metrics are served', ':9093')
    .option(
      '--memory <MiB>',
      'memory that workers may be promised; 70 % of the machine by default',
      wholeNumber(1),
    )
    .option('--max-workers <n>', 'how many workers may be here', wholeNumber(1), 1000)
    .option('--slots <n>', 'network attachments prepared in advance', wholeNumber(0), 4)
    .option('--subnet <cidr>', 'addresses of the workers', '10.234.0.0/16')
    .option('--service-cidr <cidr>', 'ranges of the cluster that the subnet may not meet', repeated, [])
    .option('--deny-cidr <cidr>', 'ranges that workers may not reach, DNS excepted', repeated, [])
    .option('--cgroup-parent <path>', 'control group above those of the workers', '/esb')
    .action(
      role('agent', async (options, context) => {
        const { runAgent } = await import('./agent/role.ts');
        await runAgent(options, context);
      }),
    );
}

function addCommands(program: Command): void {
  program
    .command('up')
    .description(
      'start a local instance: API server, containerd, ESB and a sample; resumes what is half done',
    )
    .option('--nodes <n>', 'number of nodes', wholeNumber(1), 1)
    .option('--gateways <n>', 'number of gateways', wholeNumber(1), 1)
    .option('--controllers <n>', 'number of controllers', wholeNumber(1), 1)
    .option('--audit', 'have the API server keep an audit log', false)
    .option('--no-sample', 'do not apply and call the sample')
    .action((options) =>
      command(async (context) => {
        const { runUp } = await import('./cli/up.ts');
        return runUp(options, context);
      }),
    );

  program
    .command('down')
    .description('end the local instance and remove everything that it made')
    .action((options) =>
      command(async (context) => {
        const { runDown } = await import('./cli/down.ts');
        return runDown(options, context);
      }),
    );

  program
    .command('status')
    .description('show the parts of the local instance and their health')
    .option('--json', 'for programs', false)
    .action((options) =>
      command(async (context) => {
        const { runStatus } = await import('./cli/status.ts');
        return runStatus(options, context);
      }),
    );

  program
    .command('invoke')
    .description('call a function')
    .argument('<function>', 'name of the function')
    .argument('[payload]', 'JSON, @FILE, or - for standard input', '{}')
    .option('--gateway <url>', 'address of the gateway; that of the local instance by default')
    .option('--type <type>', 'RequestResponse, Event or DryRun', 'RequestResponse')
    .option('--tail', 'show the last lines that the function wrote during the call', false)
    .action((functionName, payload, options) =>
      command(async (context) => {
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
      command(async (context) => {
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
    .option('--tail <lines>', 'how many lines from the end; 0 for all', wholeNumber(0), 0)
    .option('-f, --follow', 'go on showing', false)
    .action((worker, options) =>
      command(async (context) => {
        const { runLogs } = await import('./cli/logs.ts');
        return runLogs({ ...options, worker }, context);
      }),
    );

  program
    .command('doctor')
    .description('look for what keeps ESB from working on this machine')
    .option('--json', 'for programs', false)
    .action((options) =>
      command(async (context) => {
        const { runDoctor } = await import('./cli/doctor.ts');
        return runDoctor(options, context);
      }),
    );
}

function version(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { readonly version: string }).version;
}

// Halves the processor time of a start. Written at once, since roles are not always given the time to end in order.
enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/esb', import.meta.url)));
const program = new Command('esb')
  .description(
    'Runs AWS Lambda container images on containerd under Kubernetes control, frozen between calls.',
  )
  .version(version(), '--version', 'show the version')
  .helpCommand(false)
  .showHelpAfterError('(esb <command> --help shows what is possible)')
  .configureOutput({ outputError: (text, write) => write(text.replace(/^error:/, 'esb:')) })
  .exitOverride();
addRoles(program);
addCommands(program);
for (const each of program.commands) {
  each.exitOverride().copyInheritedSettings(program);
}

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) {
    throw error;
  }
  process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
}
