import { delimiter, resolve } from 'node:path';
import { type CallOptions, withDeadline } from '../../common/deadline.ts';
import { EsbError, errnoOf, messageOf } from '../../common/errors.ts';
import { type CommandRunner, systemCommandRunner } from '../../common/exec/command-runner.ts';

/** A run of a package manager or compiler of the user's machine. */
export interface ToolRun extends CallOptions {
  readonly program: string;
  readonly args: readonly string[];
  readonly cwd: string;
  /** Variables beside those of this process. */
  readonly env?: Readonly<Record<string, string>>;
  /** Advice to a user without the program. */
  readonly wayOut: string;
  /** Default: the programs of this machine. */
  readonly runner?: CommandRunner | undefined;
}

const DEADLINE_MS = 10 * 60_000;
const SHOWN_LINES = 20;
/** Programs of a clone of ours, which npm puts before those of the user. */
const ownPrograms = resolve(import.meta.dirname, '../../../node_modules/.bin');

/**
 * Runs a program of the user's to its end, ten minutes by default.
 *
 * @returns its standard output
 * @throws {EsbError} `ProgramMissing` with the way out, `CommandFailed` with its last lines
 */
export async function runTool({ wayOut, runner = systemCommandRunner, ...run }: ToolRun): Promise<string> {
  const { args, cwd, deadlineMs = DEADLINE_MS, env = {}, program, signal } = run;
  // Of `python3 -m pip` the module is what has failed.
  const what = [program, ...args.slice(0, args[0] === '-m' ? 2 : 1)].join(' ');
  try {
    const { code, stderr, stdout } = await withDeadline(what, deadlineMs, signal, (ended) =>
      runner.run({ program, args, cwd, env: { ...userEnvironment(process.env), ...env }, signal: ended }),
    );
    if (code === 0) {
      return stdout;
    }
    const said = `${stderr}${stderr.trim() === '' ? stdout : ''}`.trimEnd().split('\n').slice(-SHOWN_LINES).join('\n');
    throw new EsbError(`${what} failed (exit code ${code ?? 'none'}):\n${said}`, { code: 'CommandFailed' });
  } catch (error) {
    if (error instanceof EsbError) {
      throw error;
    }
    throw errnoOf(error) === 'ENOENT'
      ? new EsbError(`there is no program ${program}: ${wayOut}`, { code: 'ProgramMissing', cause: error })
      : new EsbError(`${program} cannot be run: ${messageOf(error)}`, { code: 'CommandFailed', cause: error });
  }
}

/** The environment without the programs of a clone on its PATH: a package manager then runs on the user's own Node.js. */
function userEnvironment(env: NodeJS.ProcessEnv): Record<string, string> {
  const defined = Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value] as const]));
  const path = (env.PATH ?? '').split(delimiter).filter((folder) => resolve(folder) !== ownPrograms);
  return { ...Object.fromEntries(defined), PATH: path.join(delimiter) };
}
