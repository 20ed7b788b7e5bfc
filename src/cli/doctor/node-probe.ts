import { readdir, readFile, stat, statfs } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { errnoOf } from '../../common/errors.ts';
import { type CommandRunner, systemCommandRunner } from '../../common/exec/command-runner.ts';

/** What came of a program: undefined when it is not installed. */
export interface ProgramResult {
  readonly code: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** A node as the checks see it. Reads only: nothing that is asked here changes anything. */
export interface NodeProbe {
  /** Text of a file; undefined when there is none that can be read. */
  read(path: string): Promise<string | undefined>;
  /** Names in a folder; empty when there is none. */
  names(path: string): Promise<readonly string[]>;
  exists(path: string): Promise<boolean>;
  /** Bytes that are free and bytes in all of the file system of the nearest folder above that exists. */
  room(path: string): Promise<{ readonly free: number; readonly total: number }>;
  /** Where a program is on PATH or in the usual folders. */
  find(program: string): Promise<string | undefined>;
  run(
    program: string,
    args: readonly string[],
    options?: { readonly input?: string; readonly env?: Readonly<Record<string, string>> },
  ): Promise<ProgramResult | undefined>;
}

const PROGRAM_DEADLINE_MS = 15_000;
const USUAL_FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** The machine that this process runs on. */
export function systemProbe(signal: AbortSignal, runner: CommandRunner = systemCommandRunner): NodeProbe {
  const exists = async (path: string): Promise<boolean> => {
    try {
      await stat(path);
      return true;
    } catch {
      return false;
    }
  };
  return {
    async read(path) {
      try {
        return await readFile(path, 'utf8');
      } catch {
        return undefined;
      }
    },
    async names(path) {
      try {
        return await readdir(path);
      } catch {
        return [];
      }
    },
    exists,
    async room(path) {
      let folder = path;
      while (folder !== '/' && !(await exists(folder))) {
        folder = join(folder, '..');
      }
      const { bavail, blocks, bsize } = await statfs(folder);
      return { free: bavail * bsize, total: blocks * bsize };
    },
    async find(program) {
      for (const folder of [...(process.env.PATH ?? '').split(delimiter), ...USUAL_FOLDERS]) {
        const path = join(folder, program);
        if (folder !== '' && (await exists(path))) {
          return path;
        }
      }
      return undefined;
    },
    async run(program, args, options = {}) {
      try {
        return await runner.run({
          program,
          args,
          signal: AbortSignal.any([signal, AbortSignal.timeout(PROGRAM_DEADLINE_MS)]),
          ...options,
        });
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') {
          return undefined;
        }
        throw error;
      }
    },
  };
}

/** A mount of `/proc/self/mountinfo` (proc_pid_mountinfo(5)). */
export interface MountEntry {
  readonly point: string;
  readonly type: string;
  /** Whether what is mounted below it is seen by its peers, and theirs here. */
  readonly shared: boolean;
}

export function parseMounts(table: string): readonly MountEntry[] {
  return table.split('\n').flatMap((line) => {
    const fields = line.split(' ');
    const dash = fields.indexOf('-');
    const [point, type] = [fields[4], fields[dash + 1]];
    if (dash < 6 || point === undefined || type === undefined) {
      return [];
    }
    const shared = fields.slice(6, dash).some((field) => field.startsWith('shared:'));
    return [{ point: point.replaceAll('\\040', ' '), type, shared }];
  });
}

/** The mount that a path lies on: of several at one place the last is on top. */
export function mountOf(path: string, mounts: readonly MountEntry[]): MountEntry | undefined {
  return mounts
    .filter(({ point }) => path === point || path.startsWith(point === '/' ? '/' : `${point}/`))
    .reduce<MountEntry | undefined>(
      (best, each) => (best === undefined || each.point.length >= best.point.length ? each : best),
      undefined,
    );
}

/** Compares the numbers at the beginnings of two versions: negative when `a` is older. */
export function compareVersions(a: string, b: string): number {
  const numbers = (text: string): readonly number[] =>
    (/\d+(\.\d+)*/.exec(text)?.[0] ?? '0').split('.').map(Number);
  const [left, right] = [numbers(a), numbers(b)];
  for (let index = 0; index < Math.max(left.length, right.length); index += 1) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0);
    if (difference !== 0) {
      return difference;
    }
  }
  return 0;
}
