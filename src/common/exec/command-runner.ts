import { type ChildProcess, spawn } from 'node:child_process';
import { AbortedError } from '../deadline.ts';
import { errnoOf } from '../errors.ts';

export interface CommandRequest {
  /** Path, or a name to be found on PATH. */
  readonly program: string;
  readonly args: readonly string[];
  /** Folder that it runs in. Default: that of this process. */
  readonly cwd?: string;
  /** The whole environment. Default: that of this process. */
  readonly env?: Readonly<Record<string, string>>;
  /** Written to its standard input. Default: nothing to read. */
  readonly input?: string;
  /** Bytes of each output that are kept; the rest is cut off. Default 1 MiB. */
  readonly maxOutputBytes?: number;
  /** When it fires, the program and every child of it is killed. */
  readonly signal?: AbortSignal | undefined;
}

export interface CommandResult {
  /** Undefined when it was ended by a signal. */
  readonly code: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the programs outside of this process. */
export interface CommandRunner {
  /**
   * Runs a program to its end, with any exit code.
   *
   * @throws {Error} the system error (`ENOENT`, `EACCES`, `ETXTBSY` …) when it cannot be started
   * @throws {AbortedError} when the signal fired, once the program is gone
   */
  run(request: CommandRequest): Promise<CommandResult>;
}

/** Bound of an output where a request has none, above that of any plugin. */
const MAX_OUTPUT_BYTES = 1024 * 1024;
/** Bound for lists that grow with a cluster: chains and rules of the packet filter, interfaces. */
export const LONG_OUTPUT_BYTES = 64 * 1024 * 1024;
/** For a pipe that a child of the program still holds, and for a killed program that the kernel cannot end yet. */
export const LINGER_MS = 2000;

/**
 * Runs programs on this machine, as children of this process. Starting one holds the process up for as long as the
 * kernel takes to copy its page tables: a large process uses a `Spawner`.
 */
export const systemCommandRunner: CommandRunner = { run: (request) => runProgram(request) };

/**
 * Runs a program as a child of this process, in a process group of its own so that its children end with it.
 *
 * @param onStarted called with the number of the process, which is also that of its group
 */
export function runProgram(request: CommandRequest, onStarted?: (pid: number) => void): Promise<CommandResult> {
  if (request.signal?.aborted === true) {
    return Promise.reject(new AbortedError(request.program, request.signal.reason));
  }
  const child = spawn(request.program, request.args, {
    detached: true,
    stdio: [request.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    ...(request.cwd === undefined ? {} : { cwd: request.cwd }),
    ...(request.env === undefined ? {} : { env: request.env }),
  });
  if (child.pid !== undefined) {
    onStarted?.(child.pid);
  }
  return outcomeOf(child, request);
}

/** Runs every program inside a network namespace, with the mounts of this process. */
export function inNetworkNamespace(runner: CommandRunner, path: string): CommandRunner {
  return {
    run: (request) =>
      runner.run({ ...request, program: 'nsenter', args: [`--net=${path}`, '--', request.program, ...request.args] }),
  };
}

function outcomeOf(child: ChildProcess, request: CommandRequest): Promise<CommandResult> {
  const done = Promise.withResolvers<CommandResult>();
  const { maxOutputBytes = MAX_OUTPUT_BYTES } = request;
  const stdout = collect(child.stdout, maxOutputBytes);
  const stderr = collect(child.stderr, maxOutputBytes);
  let linger: NodeJS.Timeout | undefined;
  const finish = (code: number | null): void => {
    clearTimeout(linger);
    request.signal?.removeEventListener('abort', kill);
    child.stdout?.destroy();
    child.stderr?.destroy();
    if (request.signal?.aborted === true) {
      done.reject(new AbortedError(request.program, request.signal.reason));
    } else {
      done.resolve({ code: code ?? undefined, stdout: stdout(), stderr: stderr() });
    }
  };
  const kill = (): void => {
    if (child.pid !== undefined) {
      killGroup(child.pid);
    }
    linger ??= setTimeout(() => finish(null), LINGER_MS);
  };
  request.signal?.addEventListener('abort', kill, { once: true });
  child.on('error', (error) => {
    clearTimeout(linger);
    request.signal?.removeEventListener('abort', kill);
    done.reject(error);
  });
  child.on('exit', (code) => {
    linger ??= setTimeout(() => finish(code), LINGER_MS);
  });
  child.on('close', finish);
  // A program that exits before it has read all input closes the pipe; its exit code is the answer.
  child.stdin?.on('error', () => undefined);
  child.stdin?.end(request.input);
  return done.promise;
}

/**
 * Kills every process of a group.
 *
 * @returns whether there was one
 */
export function killGroup(pid: number): boolean {
  try {
    return process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') {
      throw error;
    }
    return false;
  }
}

function collect(stream: NodeJS.ReadableStream | null, maxBytes: number): () => string {
  const chunks: Buffer[] = [];
  let size = 0;
  stream?.on('data', (chunk: Buffer) => {
    if (size < maxBytes) {
      chunks.push(chunk);
      size += chunk.length;
    }
  });
  stream?.on('error', () => undefined);
  return () => Buffer.concat(chunks).subarray(0, maxBytes).toString();
}
