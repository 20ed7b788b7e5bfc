import { type Command, Option } from 'commander';
import type { LocalInstance } from '../src/cli/command-context.ts';
import { createBareProgram } from '../src/command-line.ts';
import { command } from '../src/command-run.ts';
import { addCommands } from '../src/operator-commands.ts';
import { list, wholeNumber } from '../src/options/flag.ts';
import { addRoles } from '../src/role-commands.ts';
import type { DoctorOptions } from './commands/doctor.ts';

/** The command line of a clone. As in the image, a command is imported only when it runs. */
export function createLocalProgram(): Command {
  const program = createBareProgram();
  addInstanceCommands(program);
  addCommands(program, openInstance);
  addRoles(program);
  addDoctor(program);
  return program;
}

async function openInstance(): Promise<LocalInstance> {
  const [{ openHome }, { localInstance }] = await Promise.all([
    import('./common/home.ts'),
    import('./instance/local-instance.ts'),
  ]);
  return localInstance(openHome());
}

function addInstanceCommands(program: Command): void {
  program
    .commandsGroup('A local instance:')
    .command('up')
    .description('start a local instance: API server, containerd, ESB and a sample; resumes what is half done')
    .addOption(wholeNumber('--nodes <n>', 'number of nodes', 1).or(1))
    .addOption(wholeNumber('--gateways <n>', 'number of gateways', 1).or(1))
    .addOption(wholeNumber('--controllers <n>', 'number of controllers', 1).or(1))
    .option('--audit', 'have the API server keep an audit log', false)
    .addOption(
      list(
        '--agent-option <option>',
        'a further option of every agent, such as --agent-option=--slots=16; may be repeated',
      ),
    )
    .addOption(
      new Option(
        '--authentication <on|off>',
        'whether callers of the gateways have to prove who they are; as in an earlier up, or off',
      ).choices(['on', 'off'] as const),
    )
    .option('--no-sample', 'do not apply and call the sample')
    .action((options) =>
      command(async (context) => {
        const { runUp } = await import('./commands/up.ts');
        return runUp(options, context);
      }),
    );

  program
    .command('down')
    .description('end the local instance and remove everything that it made')
    .action((options) =>
      command(async (context) => {
        const { runDown } = await import('./commands/down.ts');
        return runDown(options, context);
      }),
    );

  program
    .command('status')
    .description('show the parts of the local instance and their health')
    .option('--json', 'for programs', false)
    .action((options) =>
      command(async (context) => {
        const { runStatus } = await import('./commands/status.ts');
        return runStatus(options, context);
      }),
    );
}

/** Without a subcommand, `doctor` looks at the local instance. */
function addDoctor(program: Command): void {
  program.commands
    .find((each) => each.name() === 'doctor')
    ?.description('look for what keeps a local instance from working on this machine')
    .action((options: DoctorOptions) =>
      command(async (context) => {
        const { runDoctor } = await import('./commands/doctor.ts');
        return runDoctor(options, context);
      }),
    );
}
