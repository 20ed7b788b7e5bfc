import { type Command, InvalidArgumentError, Option } from 'commander';

/** Flags that each command had, with the sentence that tells what serves in their place. */
const GONE: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  agent: {
    '--prepared-workers': 'A worker that is to answer without a cold start rests Paused.',
    '--most-slots': 'The node prepares as many network attachments as --slots says.',
  },
};

/** Refuses flags that a command no longer has by a message that tells what serves now. Its help does not list them. */
export function refuseGoneFlags(command: Command): void {
  for (const [flag, instead] of Object.entries(GONE[command.name()] ?? {})) {
    const refuse = (): never => {
      throw new InvalidArgumentError(`The flag is gone. ${instead}`);
    };
    command.addOption(new Option(`${flag} <value>`).argParser(refuse).hideHelp());
  }
}
