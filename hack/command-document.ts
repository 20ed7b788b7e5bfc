import type { Argument, Command, Option } from 'commander';
import { createLocalProgram } from '../local/command-line.ts';
import { code, table, withoutTags } from './markdown.ts';
import type { Product } from './product.ts';

const introduction = `# Command line

Every command and flag of \`esb\`. \`esb <command> --help\` shows the same. \`source .esb/env\` puts \`esb\` on the PATH of a
local instance; before there is one it is \`node hack/esb.mjs\` in a clone. In the image \`esb\` is the entrypoint; \`up\`,
\`down\`, \`status\` and \`doctor\` without \`node\` are about the local instance of a clone, and are not in the image.

A flag with a variable is read from the environment where it is not given. A command ends with 0 when it has done what
it was asked for, with 1 when it has not, and with 2 when it was called wrongly; a role that is told to end (\`SIGTERM\`)
and does has ended with 0.

This page is made from the source by \`npm run generate\`.
`;

/** The reference of the command line, as the program itself has it. */
export function commandDocument(): readonly Product[] {
  const commands = createLocalProgram().commands.flatMap((command) => withSubcommands(command, ''));
  const text = [introduction, overview(commands), ...commands.map(section)].join('\n');
  return [{ path: 'docs/reference/command-line.md', text }];
}

/** A command and its name with those of the commands above it. */
interface NamedCommand {
  readonly name: string;
  readonly command: Command;
}

function withSubcommands(command: Command, above: string): readonly NamedCommand[] {
  const name = `${above}${command.name()}`;
  return [{ name, command }, ...command.commands.flatMap((each) => withSubcommands(each, `${name} `))];
}

function overview(commands: readonly NamedCommand[]): string {
  const rows = commands.map(({ name, command }) => [
    `[\`esb ${name}\`](#esb-${name.replaceAll(' ', '-')})`,
    withoutTags(command.description()),
  ]);
  return `${table(['command', 'what it does'], rows)}\n`;
}

function section({ name, command }: NamedCommand): string {
  const words = command.registeredArguments.map((argument) =>
    argument.required ? `<${argument.name()}>` : `[${argument.name()}]`,
  );
  const usage = ['esb', name, ...(command.options.length > 0 ? ['[options]'] : []), ...words].join(' ');
  const parts = [`## esb ${name}\n\n${sentence(withoutTags(command.description()))}\n\n\`\`\`text\n${usage}\n\`\`\`\n`];
  if (command.registeredArguments.length > 0) {
    parts.push(`${table(['argument', 'default', 'meaning'], command.registeredArguments.map(argumentRow))}\n`);
  }
  const options = command.options.filter((option) => !option.hidden);
  if (options.length > 0) {
    parts.push(`${table(['flag', 'default', 'meaning'], options.map(optionRow))}\n`);
  }
  return parts.join('\n');
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function argumentRow(argument: Argument): readonly string[] {
  return [code(argument.name()), defaultOf(argument.defaultValue), withoutTags(argument.description)];
}

function optionRow(option: Option): readonly string[] {
  const facts = [
    ...(option.mandatory ? ['has to be given'] : []),
    ...(option.argChoices === undefined ? [] : [`one of ${option.argChoices.map(code).join(', ')}`]),
    ...(option.envVar === undefined ? [] : [`variable ${code(option.envVar)}`]),
  ];
  return [
    code(option.flags),
    // A flag that takes something away is on where it is not given.
    option.negate || option.defaultValue === false
      ? ''
      : defaultOf(option.defaultValueDescription ?? option.defaultValue),
    [withoutTags(option.description), ...facts].join('; '),
  ];
}

function defaultOf(value: unknown): string {
  if (value === undefined || (Array.isArray(value) && value.length === 0)) {
    return '';
  }
  return code(typeof value === 'string' ? value : JSON.stringify(value));
}
