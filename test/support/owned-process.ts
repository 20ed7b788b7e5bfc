import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';

/** A program that a test started. The kernel kills it when the test's own process dies. */
export interface OwnedProcess {
  readonly pid: number;
  /** Whether it has ended by itself or been stopped. */
  ended(): boolean;
  /** Its output so far, both streams. */
  output(): string;
  signal(name: NodeJS.Signals): void;
  /** Kills it, also when it is stopped by a signal, and waits for its end. */
  kill(): Promise<void>;
}

export interface OwnedProcessOptions {
  readonly program: string;
  readonly args: readonly string[];
  /** File that takes both output streams. */
  readonly logFile: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

/**
 * Starts a program.
 *
 * @throws {Error} when it cannot be started
 */
export async function startOwnedProcess(options: OwnedProcessOptions): Promise<OwnedProcess> {
  const log = openSync(options.logFile, 'a');
  let child: ChildProcess;
  try {
    child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', options.program, ...options.args], {
      stdio: ['ignore', log, log],
      env: options.env ?? process.env,
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
  } finally {
    closeSync(log);
  }
  const exited = Promise.withResolvers<void>();
  const started = Promise.withResolvers<void>();
  child.once('spawn', () => started.resolve());
  child.once('error', (error) => started.reject(error));
  child.once('exit', () => exited.resolve());
  await started.promise;
  const { pid } = child;
  if (pid === undefined) {
    throw new Error(`${options.program} has no process id`);
  }
  const ended = (): boolean => child.exitCode !== null || child.signalCode !== null;
  return {
    pid,
    ended,
    output: () => readFileSync(options.logFile, 'utf8'),
    signal(name) {
      child.kill(name);
    },
    async kill() {
      if (!ended()) {
        child.kill('SIGKILL');
        await exited.promise;
      }
    },
  };
}
