import { readFileSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { errnoOf } from '../../common/errors.ts';

/** The containerd that a shim belongs to; each shim names both on its command line. */
export interface ShimOwner {
  /** Socket of containerd. */
  readonly socketPath: string;
  readonly namespace: string;
}

export type CommandLine = readonly string[];

/** Processes that are read in one turn of the event loop; each takes some ten microseconds. */
const PROCESSES_PER_TURN = 64;

/** Every process of the machine with its command line, over several turns of the event loop. */
export async function* commandLines(proc: string): AsyncGenerator<readonly [number, CommandLine]> {
  const pids = (await readdir(proc)).filter((name) => /^\d+$/.test(name)).map(Number);
  yield* inTurns(pids, (pid) => [pid, commandLineOf(proc, pid)] as const);
}

/** Reads a file of each process, over several turns of the event loop. */
export async function* inTurns<T>(pids: readonly number[], read: (pid: number) => T): AsyncGenerator<T> {
  for (const [index, pid] of pids.entries()) {
    yield read(pid);
    if (index % PROCESSES_PER_TURN === PROCESSES_PER_TURN - 1) {
      await turn();
    }
  }
}

/** Empty for a process that has ended. Synchronous: a copy out of memory. */
export function commandLineOf(proc: string, pid: number): CommandLine {
  return readProcessFile(proc, pid, 'cmdline').split('\0');
}

/** The parent of a process; undefined for one that has ended. Synchronous: a copy out of memory. */
export function parentOfProcess(proc: string, pid: number): number | undefined {
  return parentOf(readProcessFile(proc, pid, 'stat'));
}

/** The parent in `/proc/<pid>/stat`. The name of the program, in brackets before it, may hold anything. */
export function parentOf(stat: string): number | undefined {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const parent = Number(fields[1]);
  return Number.isInteger(parent) && parent > 0 ? parent : undefined;
}

/** The container that a command line is the lasting shim of; undefined for every other command line. */
export function shimOf(commandLine: CommandLine, owner: ShimOwner): string | undefined {
  // `… start` and `… delete` run for moments only.
  const isLasting = !commandLine.includes('start') && !commandLine.includes('delete');
  return isLasting ? containerOf(commandLine, owner) : undefined;
}

/** The container of a shim by its command line: one that starts, serves or deletes it; undefined for every other. */
export function containerOf(commandLine: CommandLine, owner: ShimOwner): string | undefined {
  const value = (flag: string): string | undefined => {
    const index = commandLine.indexOf(flag);
    return index < 0 ? undefined : commandLine[index + 1];
  };
  const isOurs =
    (commandLine[0] ?? '').includes('containerd-shim') &&
    value('-namespace') === owner.namespace &&
    value('-address') === owner.socketPath;
  return isOurs ? value('-id') : undefined;
}

/** Empty for a process that has ended. */
function readProcessFile(proc: string, pid: number, file: string): string {
  try {
    return readFileSync(join(proc, String(pid), file), 'utf8');
  } catch {
    return '';
  }
}

/**
 * Whether a path leads another process to the same folder as this one. Where machines run in containers (kind, k3d),
 * their processes show in our process table and have a containerd of the same name; only their mounts differ. True
 * where unknown.
 *
 * Synchronous: two reads of memory.
 *
 * @param proc folder of `/proc`
 */
export function seesSameFolder(proc: string, pid: number, folder: string): boolean {
  const root = join(proc, String(pid), 'root');
  try {
    const own = statSync(folder);
    statSync(root);
    const other = statSync(join(root, folder), { throwIfNoEntry: false });
    return other !== undefined && other.dev === own.dev && other.ino === own.ino;
  } catch (error) {
    // Folder or process are gone, or may not be read.
    const code = errnoOf(error);
    if (code === 'ENOENT' || code === 'EACCES' || code === 'EPERM' || code === 'ESRCH') {
      return true;
    }
    throw error;
  }
}

/** Kills a process; one that has ended is success. */
export function killProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') {
      throw error;
    }
  }
}
