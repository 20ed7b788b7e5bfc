import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { addCommands } from './person-commands.ts';
import { addRoles } from './role-commands.ts';

function version(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { readonly version: string }).version;
}

/** The whole command line. Every role and command is imported when it is run, and not before. */
export function createProgram(): Command {
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
  return program;
}
