import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { type CallOptions, withDeadline } from '../../src/common/deadline.ts';
import { EsbError, errnoOf } from '../../src/common/errors.ts';

/** Options of a run. */
export interface CommandOptions extends CallOptions {
  readonly cwd?: string;
  /** The whole environment; by default that of this process. */
  readonly env?: NodeJS.ProcessEnv;
  /** Written to standard input, which is then closed. */
  readonly input?: string | Buffer;
  /** Called with every line that the program writes to standard error. */
  readonly onErrorLine?: (line: string) => void;
  /** Exit codes that are no failure. Default: only 0. */
  readonly allowedExitCodes?: readonly number[];
}

/** Result of a program that ended. */
export interface CommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Milliseconds that a program may take by default. */
const DEFAULT_DEADLINE_MS = 60_000;
const KEPT_ERROR_BYTES = 64 * 1024;
/** Where programs come from that no Debian package brings as new as they have to be. */
const WAYS_OUT: Readonly<Record<string, string>> = {
  go: ' on PATH, which builds programs that ESB needs: install Go from https://go.dev/dl/',
};

/**
 * Runs a command to its end, or kills it when the signal fires or the deadline (60,000 ms by default) passes.
 *
 * @throws {EsbError} `ProgramMissing` when there is no such program, `CommandFailed` when it exits with a code that is
 *   not allowed; the message ends with the last lines that it wrote
 */
export async function runCommand(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const deadlineMs = options.deadlineMs ?? DEFAULT_DEADLINE_MS;
  return withDeadline(`${program} ${args[0] ?? ''}`.trim(), deadlineMs, options.signal, (signal) =>
    run(program, args, options, signal),
  );
}

function run(
  program: string,
  args: readonly string[],
  options: CommandOptions,
  signal: AbortSignal,
): Promise<CommandResult> {
  const done = Promise.withResolvers<CommandResult>();
  const child = spawn(program, args, {
    cwd: options.cwd,
    env: options.env ?? process.env,
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    signal,
    killSignal: 'SIGKILL',
  });
  const stdout: Buffer[] = [];
  let stderr = '';
  child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk));
  if (child.stderr !== null) {
    createInterface({ input: child.stderr }).on('line', (line) => {
      stderr = `${stderr}${line}\n`.slice(-KEPT_ERROR_BYTES);
      options.onErrorLine?.(line);
    });
  }
  // A program that ends without reading its input is judged by its exit code.
  child.stdin?.on('error', () => undefined);
  child.stdin?.end(options.input);
  child.on('error', (error) => {
    const missing = errnoOf(error) === 'ENOENT';
    done.reject(
      new EsbError(
        missing ? `there is no program ${program}${WAYS_OUT[program] ?? ''}` : `${program}: ${error.message}`,
        {
          code: missing ? 'ProgramMissing' : 'CommandFailed',
          cause: error,
        },
      ),
    );
  });
  child.on('close', (code, killedBy) => {
    const result = { exitCode: code ?? -1, stdout: Buffer.concat(stdout).toString('utf8'), stderr };
    if ((options.allowedExitCodes ?? [0]).includes(result.exitCode)) {
      done.resolve(result);
      return;
    }
    const how = killedBy === null ? `exit code ${result.exitCode}` : `killed by ${killedBy}`;
    const said = lastLines(`${stderr}${stderr === '' ? result.stdout : ''}`, 15);
    done.reject(
      new EsbError(`${[program, ...args].join(' ').slice(0, 200)} failed (${how})${said === '' ? '' : `:\n${said}`}`, {
        code: 'CommandFailed',
      }),
    );
  });
  return done.promise;
}

/** The last `count` lines of a text, without trailing white space. */
export function lastLines(text: string, count: number): string {
  return text.trimEnd().split('\n').slice(-count).join('\n');
}
