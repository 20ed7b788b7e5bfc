import { Command } from 'commander';
import { addFlags, type FlagGroups, type OptionsOf, readOptions } from '../../src/options/flag.ts';

/** The options of a command that is given these arguments. */
export function optionsOf<Groups extends FlagGroups>(flags: Groups, args: readonly string[]): OptionsOf<Groups> {
  const command = new Command().exitOverride();
  addFlags(command, flags);
  return readOptions(flags, command.parse(args, { from: 'user' }).opts());
}
