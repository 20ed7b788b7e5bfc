import { type Command, InvalidArgumentError, Option, type OptionValues } from 'commander';
import { parseQuantity } from '../api/quantity.ts';

/** A log of smaller files would be rotated all the time. */
const LEAST_BYTES = 64 * 1024;

/** A flag of a command: how it is written, its default, its variable of the environment, its help and its check. */
export class Flag<Value> extends Option {
  /** The type of the value; no object has the field. */
  declare readonly value: Value;

  /**
   * The flag with a default.
   *
   * @param shown the default as people write it
   */
  or(byDefault: Exclude<Value, undefined>, shown?: string): Flag<Exclude<Value, undefined>> {
    return (this as unknown as Flag<Exclude<Value, undefined>>).default(byDefault, shown);
  }

  /** A copy under a heading of the help text: commands share flags, each under its own heading. */
  under(heading: string): Flag<Value> {
    return Object.assign(new Flag<Value>(this.flags, this.description), this).helpGroup(heading);
  }
}

/** The flags of one subject, by the names that the program has for them. */
export type FlagGroup = Readonly<Record<string, Flag<unknown>>>;

/** The flags of a command by subject. The subject is the heading of these flags in the help text. */
export type FlagGroups = Readonly<Record<string, FlagGroup>>;

export type GroupOptions<Group extends FlagGroup> = {
  readonly [Name in keyof Group]: Group[Name]['value'];
};

/** The options that a command is given, by subject and name. */
export type OptionsOf<Groups extends FlagGroups> = {
  readonly [Subject in keyof Groups]: GroupOptions<Groups[Subject]>;
};

export function text(flags: string, help: string): Flag<string | undefined> {
  return new Flag(flags, help);
}

/** A text without which the command does not run. */
export function requiredText(flags: string, help: string): Flag<string> {
  return new Flag<string>(flags, help).makeOptionMandatory();
}

export function wholeNumber(
  flags: string,
  help: string,
  least: number,
  most = Number.MAX_SAFE_INTEGER,
): Flag<number | undefined> {
  return new Flag<number | undefined>(flags, help).argParser((given) => {
    const value = Number(given);
    if (!/^\d+$/.test(given) || !Number.isSafeInteger(value) || value < least || value > most) {
      const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`;
      throw new InvalidArgumentError(`It must be a whole number ${range}.`);
    }
    return value;
  });
}

/** A number of bytes, given as Kubernetes writes a quantity, such as `10Mi`. */
export function bytes(flags: string, help: string): Flag<number | undefined> {
  return new Flag<number | undefined>(flags, help).argParser((given) => {
    const size = parseQuantity(given);
    if (size === undefined || size < LEAST_BYTES) {
      throw new InvalidArgumentError('It must be a size of at least 64Ki, such as 10Mi.');
    }
    return Math.floor(size);
  });
}

export function choice<const Choice extends string>(
  flags: string,
  help: string,
  choices: readonly Choice[],
): Flag<Choice | undefined> {
  return new Flag<Choice | undefined>(flags, help).choices(choices);
}

/** A flag that may be given several times, or once with commas. */
export function list(flags: string, help: string): Flag<readonly string[]> {
  return new Flag<readonly string[]>(flags, help)
    .default([])
    .argParser((given: string, earlier: readonly string[]) => [
      ...earlier,
      ...given.split(',').filter((item) => item !== ''),
    ]);
}

/** A flag without a value: off by default, and on by default where its name begins with `--no-`. */
export function toggle(flags: string, help: string): Flag<boolean> {
  const flag = new Flag<boolean>(flags, help);
  return flag.default(flag.negate);
}

/** Adds flags to a command; the subjects become headings of its help text. */
export function addFlags(command: Command, groups: FlagGroups): void {
  for (const [subject, group] of Object.entries(groups)) {
    for (const flag of Object.values(group)) {
      command.addOption(flag.under(`${subject.charAt(0).toUpperCase()}${subject.slice(1)}:`));
    }
  }
}

/** The options of a command from what its command line gave. */
export function readOptions<Groups extends FlagGroups>(groups: Groups, given: OptionValues): OptionsOf<Groups> {
  return Object.fromEntries(
    Object.entries(groups).map(([subject, group]) => [
      subject,
      Object.fromEntries(Object.entries(group).map(([name, flag]) => [name, given[flag.attributeName()] as unknown])),
    ]),
  ) as OptionsOf<Groups>;
}

/** The options of a group where no flag of it is given. */
export function defaultsOf<Group extends FlagGroup>(group: Group): GroupOptions<Group> {
  return Object.fromEntries(
    Object.entries(group).map(([name, flag]) => [name, flag.defaultValue as unknown]),
  ) as GroupOptions<Group>;
}
