import { type CallOptions, withDeadline } from '../../common/deadline.ts';
import type { ErrorCode } from '../../common/error-codes.ts';
import { EsbError, errnoOf, messageOf } from '../../common/errors.ts';
import type { CommandRequest, CommandResult, CommandRunner } from '../../common/exec/command-runner.ts';

export interface NodeCommandOptions extends CallOptions, Pick<CommandRequest, 'input' | 'maxOutputBytes'> {
  /** Code of the error when it fails. */
  readonly errorCode: ErrorCode;
}

const DEFAULT_DEADLINE_MS = 10_000;
/** Packages of programs that are not of iproute2. */
const packages: Readonly<Record<string, string>> = { nft: 'nftables', unshare: 'util-linux' };

/**
 * Runs a program of the operating system (`ip`, `nft`, `unshare`) to its success.
 *
 * @throws {EsbError} with `errorCode`, retryable, with the output of the program or the name of its package
 */
export async function runNodeCommand(
  runner: CommandRunner,
  program: string,
  args: readonly string[],
  options: NodeCommandOptions,
): Promise<string> {
  const { input, maxOutputBytes } = options;
  let result: CommandResult;
  try {
    result = await withDeadline(
      `${program} ${args.join(' ')}`,
      options.deadlineMs ?? DEFAULT_DEADLINE_MS,
      options.signal,
      (signal) =>
        runner.run({
          program,
          args,
          signal,
          ...(input === undefined ? {} : { input }),
          ...(maxOutputBytes === undefined ? {} : { maxOutputBytes }),
        }),
    );
  } catch (error) {
    if (error instanceof EsbError) {
      throw error;
    }
    const why =
      errnoOf(error) === 'ENOENT'
        ? `the program is not installed (Debian package ${packages[program] ?? 'iproute2'})`
        : messageOf(error);
    throw new EsbError(`cannot run ${program}: ${why}`, { code: options.errorCode, retryable: true, cause: error });
  }
  if (result.code !== 0) {
    const said = (result.stderr || result.stdout).replaceAll(/\s+/g, ' ').trim();
    throw new EsbError(`${program} ${args.join(' ')} failed: ${said.slice(0, 500) || 'it said nothing'}`, {
      code: options.errorCode,
      retryable: true,
    });
  }
  return result.stdout;
}
