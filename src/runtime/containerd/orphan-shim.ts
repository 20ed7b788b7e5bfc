import { existsSync } from 'node:fs';
import { readdir, readFile, readlink, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import { SharedLook } from './shared-look.ts';
import {
  type CommandLine,
  commandLineOf,
  commandLines,
  containerOf,
  killProcess,
  parentOfProcess,
  type ShimOwner,
  seesSameFolder,
  shimOf,
} from './shim-process.ts';

export interface OrphanShimsOptions extends ShimOwner {
  readonly clock: Clock;
  /** Default `/proc`. */
  readonly procFolder?: string;
}

/** Time for a killed process to end; longer only when the process is stuck in the kernel. */
const EXIT_DEADLINE_MS = 5000;
/** Time for containerd's cleanup after a dead shim: a second shim deletes, unmounts and removes a folder. */
const CLEANUP_DEADLINE_MS = 10_000;
/** After a reboot a thousand removals look at a thousand processes. */
const LOOKS_APART_MS = 1_000;

type ProcessTable = ReadonlyMap<number, CommandLine>;

/**
 * Shims that containerd lost. A containerd that is killed while it starts a shim leaves that process and its socket,
 * and does not find them again.
 */
export class OrphanShims {
  readonly #options: OrphanShimsOptions;
  readonly #proc: string;
  readonly #processes: SharedLook<ProcessTable>;

  constructor(options: OrphanShimsOptions) {
    this.#options = options;
    this.#proc = options.procFolder ?? '/proc';
    this.#processes = new SharedLook(() => this.#readProcesses(), options.clock, LOOKS_APART_MS);
  }

  /**
   * Ends the shims of a container without a task in containerd, and removes their sockets. A shim that serves other
   * containers by now is left alone. Returns how many ended.
   */
  async end(containerId: string): Promise<number> {
    const processes = await this.#processes.take();
    const settled = (await this.#cleanedUp(containerId, processes)) ? await this.#processes.take() : processes;
    const pids: number[] = [];
    for (const pid of this.#find(containerId, settled)) {
      if (!(await this.#servesOthers(pid, containerId))) {
        pids.push(pid);
      }
    }
    await this.#end(pids);
    return pids.length;
  }

  /**
   * Ends the shims that do not answer for a container, with every container that they serve.
   *
   * @param processes of the container: its shim is the parent of one of them
   */
  async endOf(containerId: string, processes: readonly number[]): Promise<number> {
    const parents = new Set(processes.map((pid) => parentOfProcess(this.#proc, pid)));
    const table = await this.#processes.take();
    const pids = new Set(this.#find(containerId, table));
    for (const [pid, commandLine] of table) {
      if (parents.has(pid) && shimOf(commandLine, this.#options) !== undefined) {
        pids.add(pid);
      }
    }
    await this.#end([...pids]);
    return pids.size;
  }

  async #end(pids: readonly number[]): Promise<void> {
    for (const pid of pids) {
      const sockets = await this.#sockets(pid);
      killProcess(pid);
      await this.#gone(pid);
      await Promise.all(sockets.map((path) => rm(path, { force: true })));
    }
  }

  /** Whether a shim has children in another container's control group. Children in its own are runc, for a moment. */
  async #servesOthers(shim: number, containerId: string): Promise<boolean> {
    const own = await this.#cgroup(shim);
    for await (const [pid] of commandLines(this.#proc)) {
      const cgroup = parentOfProcess(this.#proc, pid) === shim ? await this.#cgroup(pid) : '';
      if (cgroup !== '' && cgroup !== own && !cgroup.includes(containerId)) {
        return true;
      }
    }
    return false;
  }

  async #cgroup(pid: number): Promise<string> {
    return await readFile(join(this.#proc, String(pid), 'cgroup'), 'utf8').catch(() => '');
  }

  /**
   * Waits for the end of containerd's own cleanup. A cleanup that is cut off leaves a folder in the way of the next
   * task of that name until containerd starts again.
   *
   * @returns whether there was one
   */
  async #cleanedUp(containerId: string, processes: ProcessTable): Promise<boolean> {
    const { clock } = this.#options;
    const end = clock.monotonic() + CLEANUP_DEADLINE_MS;
    const isCleanup = (line: CommandLine): boolean =>
      line.includes('delete') && containerOf(line, this.#options) === containerId;
    const cleanups = [...processes].filter(([, commandLine]) => isCleanup(commandLine));
    for (const [pid, commandLine] of cleanups) {
      const bundle = commandLine[commandLine.indexOf('-bundle') + 1] ?? '';
      while (clock.monotonic() < end && (isCleanup(commandLineOf(this.#proc, pid)) || existsSync(bundle))) {
        await sleep(clock, 5);
      }
    }
    return cleanups.length > 0;
  }

  #find(containerId: string, processes: ProcessTable): number[] {
    const folder = dirname(this.#options.socketPath);
    const own = [...processes].filter(([, commandLine]) => shimOf(commandLine, this.#options) === containerId);
    return own.map(([pid]) => pid).filter((pid) => seesSameFolder(this.#proc, pid, folder));
  }

  async #readProcesses(): Promise<ProcessTable> {
    const found = new Map<number, CommandLine>();
    for await (const [pid, commandLine] of commandLines(this.#proc)) {
      found.set(pid, commandLine);
    }
    return found;
  }

  /** Paths of the Unix sockets that a process has open. */
  async #sockets(pid: number): Promise<readonly string[]> {
    const folder = join(this.#proc, String(pid), 'fd');
    const inodes = new Set<string>();
    for (const entry of await readdir(folder).catch(() => [])) {
      const target = await readlink(join(folder, entry)).catch(() => '');
      const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
      if (inode !== undefined) {
        inodes.add(inode);
      }
    }
    const table = await readFile(join(this.#proc, String(pid), 'net', 'unix'), 'utf8').catch(() => '');
    return table.split('\n').flatMap((line) => {
      const fields = line.trim().split(/\s+/);
      const [inode, path] = [fields[6] ?? '', fields[7] ?? ''];
      // Only sockets of shims lie in a folder `s`, under a hash of their container's name.
      return inodes.has(inode) && /\/s\/[0-9a-f]{64}$/.test(path) ? [path] : [];
    });
  }

  async #gone(pid: number): Promise<void> {
    const { clock } = this.#options;
    const end = clock.monotonic() + EXIT_DEADLINE_MS;
    while (shimOf(commandLineOf(this.#proc, pid), this.#options) !== undefined) {
      if (clock.monotonic() > end) {
        throw new EsbError(`the shim ${pid} does not end`, { code: 'TaskStuck' });
      }
      await sleep(clock, 5);
    }
  }
}
