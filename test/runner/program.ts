import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { repositoryRoot } from '../../local/common/repository.ts';

export interface ProgramResult {
  readonly ok: boolean;
  readonly how: string;
  /** End of the output. */
  readonly output: string;
}

export interface ProgramOptions {
  /** Longest duration; a program that runs longer hangs. */
  readonly minutes: number;
  /** Receives the output as whole lines. */
  readonly write: (text: string) => void;
  readonly env?: NodeJS.ProcessEnv;
}

export const root = repositoryRoot();
export const bin = join(root, 'node_modules', '.bin');
const KEPT_OUTPUT = 20_000;

/** Runs a program, shows its output and keeps the end of it. The whole process group of a program that hangs is killed. */
export async function runProgram(
  path: string,
  args: readonly string[],
  options: ProgramOptions,
): Promise<ProgramResult> {
  const child = spawn(path, args, {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    env: {
      ...process.env,
      ...options.env,
      PATH: `${bin}:${process.env.PATH ?? ''}:/usr/sbin:/sbin`,
    },
  });
  let output = '';
  const lines = wholeLines(options.write);
  const keep = (chunk: Buffer): void => {
    lines.add(chunk.toString());
    output = (output + chunk.toString()).slice(-KEPT_OUTPUT);
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  const killGroup = (): void => {
    if (child.pid !== undefined) {
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // Gone already.
      }
    }
  };
  let hung = false;
  const timer = setTimeout(() => {
    hung = true;
    killGroup();
  }, options.minutes * 60_000);
  process.once('exit', killGroup);
  const done = Promise.withResolvers<ProgramResult>();
  child.on('error', (error) => done.resolve({ ok: false, how: error.message, output }));
  child.on('close', (code, signal) => {
    const how = hung
      ? `still ran after ${options.minutes} minutes and was killed`
      : signal === null
        ? `exit code ${code ?? 0}`
        : `ended by ${signal}`;
    done.resolve({ ok: code === 0, how, output });
  });
  try {
    return await done.promise;
  } finally {
    clearTimeout(timer);
    process.removeListener('exit', killGroup);
    lines.flush();
  }
}

/** How long output is gathered, in milliseconds, so that the lines of one test file stay together. */
const GATHER_MS = 100;

/** Passes text on in whole lines, gathered while more of it comes. */
function wholeLines(write: (text: string) => void): { add(text: string): void; flush(): void } {
  let held = '';
  let timer: NodeJS.Timeout | undefined;
  const pass = (end: number): void => {
    timer = undefined;
    if (end > 0) {
      write(held.slice(0, end));
      held = held.slice(end);
    }
  };
  return {
    add(text) {
      held += text;
      timer ??= setTimeout(() => pass(held.lastIndexOf('\n') + 1), GATHER_MS);
    },
    flush() {
      clearTimeout(timer);
      if (held !== '' && !held.endsWith('\n')) {
        held += '\n';
      }
      pass(held.length);
    },
  };
}
