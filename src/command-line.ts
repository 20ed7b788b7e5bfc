import { Command, CommanderError } from 'commander';
import { exitCodes } from './command-run.ts';
import { programVersion } from './common/program-version.ts';
import { addCommands } from './operator-commands.ts';
import { addRoles } from './role-commands.ts';

/** The command line without any command. */
export function createBareProgram(): Command {
  return new Command('esb')
    .description('Runs AWS Lambda container images on containerd under Kubernetes control, frozen between calls.')
    .version(programVersion(), '--version', 'show the version')
    .helpCommand(false)
    .showHelpAfterError('(esb <command> --help shows what is possible)')
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error:/, 'esb:')) })
    .exitOverride();
}

/** The command line of the image. Every role and command is imported only when it runs. */
export function createProgram(): Command {
  const program = createBareProgram();
  addCommands(program);
  addRoles(program);
  return program;
}

/** Runs the command in the arguments of this process. */
export async function runProgram(program: Command): Promise<void> {
  try {
    await program.parseAsync();
  } catch (error) {
    if (!(error instanceof CommanderError)) {
      throw error;
    }
    process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  }
}
