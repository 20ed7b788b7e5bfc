import { readdir, readFile, stat, statfs } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { undefinedIfNoFile } from '../../common/errors.ts';
import {
  type CommandResult,
  type CommandRunner,
  LONG_OUTPUT_BYTES,
  systemCommandRunner,
} from '../../common/exec/command-runner.ts';

/** A node as the checks see it. Every method only reads. */
export interface NodeProbe {
  /** Text of a file; undefined when it cannot be read. */
  read(path: string): Promise<string | undefined>;
  /** Names in a folder; empty when there is none. */
  names(path: string): Promise<readonly string[]>;
  exists(path: string): Promise<boolean>;
  /** Free bytes and all bytes of the file system of the nearest folder above that exists. */
  room(path: string): Promise<{ readonly free: number; readonly total: number }>;
  /** Path of a program on PATH or in the usual folders. */
  find(program: string): Promise<string | undefined>;
  /** Result of a program; undefined when it is not installed. */
  run(
    program: string,
    args: readonly string[],
    options?: { readonly input?: string; readonly env?: Readonly<Record<string, string>> },
  ): Promise<CommandResult | undefined>;
}

const PROGRAM_DEADLINE_MS = 15_000;
const USUAL_FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** The machine that this process runs on. */
export function systemProbe(signal: AbortSignal, runner: CommandRunner = systemCommandRunner): NodeProbe {
  const exists = (path: string): Promise<boolean> =>
    stat(path).then(
      () => true,
      () => false,
    );
  return {
    read: (path) => readFile(path, 'utf8').catch(() => undefined),
    names: (path) => readdir(path).catch(() => []),
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
    run(program, args, options = {}) {
      const ended = AbortSignal.any([signal, AbortSignal.timeout(PROGRAM_DEADLINE_MS)]);
      const request = { program, args, signal: ended, maxOutputBytes: LONG_OUTPUT_BYTES, ...options };
      return undefinedIfNoFile(runner.run(request));
    },
  };
}

/** A mount of `/proc/self/mountinfo` (proc_pid_mountinfo(5)). */
export interface MountEntry {
  readonly point: string;
  readonly type: string;
  /** Whether mounts below it propagate to and from its peers. */
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

/** The mount of a path: of several mounts at one place the last is on top. */
export function mountOf(path: string, mounts: readonly MountEntry[]): MountEntry | undefined {
  return mounts
    .filter(({ point }) => path === point || path.startsWith(point === '/' ? '/' : `${point}/`))
    .reduce<MountEntry | undefined>(
      (best, each) => (best === undefined || each.point.length >= best.point.length ? each : best),
      undefined,
    );
}

/** Compares the leading numbers of two versions: negative when `a` is older. */
export function compareVersions(a: string, b: string): number {
  const numbers = (text: string): readonly number[] => (/\d+(\.\d+)*/.exec(text)?.[0] ?? '0').split('.').map(Number);
  const [left, right] = [numbers(a), numbers(b)];
  for (let index = 0; index < Math.max(left.length, right.length); index += 1) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0);
    if (difference !== 0) {
      return difference;
    }
  }
  return 0;
}
