import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** A program of this folder that runs. */
export interface Program {
  readonly pid: number;
  /** The first line of its output. */
  readonly line: string;
  stop(): void;
}

/** Starts a program of this folder, and waits for the line that says where it listens. */
export async function startProgram(file: string, args: readonly string[] = []): Promise<Program> {
  return await firstLine(
    spawn(process.execPath, [join(import.meta.dirname, file), ...args], { stdio: ['ignore', 'pipe', 'inherit'] }),
  );
}

/** Waits for the first line of a process, whose output is a pipe. */
export async function firstLine(child: ChildProcess): Promise<Program> {
  if (child.stdout !== null) {
    for await (const line of createInterface({ input: child.stdout })) {
      return { pid: child.pid ?? 0, line, stop: () => child.kill('SIGKILL') };
    }
  }
  throw new Error('a program of the benchmark ended before it listened');
}
