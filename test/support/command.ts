import { spawn } from 'node:child_process';
import { patience } from './patience.ts';

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly input?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** Milliseconds until the command is killed, times {@link patience}. Default 120,000. */
  readonly timeoutMs?: number;
  /** Return instead of throwing when the command exits non-zero. */
  readonly mayFail?: boolean;
}

/** Runs a program to its end. Throws with its output when it fails, unless it may. */
export function run(program: string, args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const child = spawn(program, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    timeout: (options.timeoutMs ?? 120_000) * patience(),
    killSignal: 'SIGKILL',
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk));
  // A program that exits before it has read everything closes the pipe; its exit code tells the story.
  child.stdin?.on('error', () => undefined);
  child.stdin?.end(options.input);
  const done = Promise.withResolvers<CommandResult>();
  child.on('error', (error: NodeJS.ErrnoException) =>
    done.reject(
      error.code === 'ENOENT' && program === 'go'
        ? new Error('Go is not on PATH, and tests build programs with it: install it from https://go.dev/dl/', {
            cause: error,
          })
        : error,
    ),
  );
  child.on('close', (code, signal) => {
    const result: CommandResult = {
      code: code ?? 128,
      stdout: Buffer.concat(stdout).toString(),
      stderr: Buffer.concat(stderr).toString(),
    };
    if (code === 0 || options.mayFail === true) {
      done.resolve(result);
      return;
    }
    const how = signal === null ? `exited with ${code}` : `was ended by ${signal}`;
    done.reject(new Error(`${program} ${args.join(' ')} ${how}\n${result.stdout}${result.stderr}`));
  });
  return done.promise;
}
