import { readFileSync } from 'node:fs';
import { access, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { EsbError, errnoOf } from '../../common/errors.ts';
import { parentOf, shimOf } from './leftovers.ts';
import { seesSameFolder } from './mount-namespace.ts';
import { SharedLook } from './shared-look.ts';

export interface OrphanShimsOptions {
  /** Socket of the containerd whose shims these are; each shim names it on its command line. */
  readonly socketPath: string;
  readonly namespace: string;
  readonly clock: Clock;
  /** Default `/proc`. */
  readonly procFolder?: string;
}

/** A killed process is gone within moments unless it is stuck in the kernel. */
const EXIT_DEADLINE_MS = 5000;
/** containerd clears up after a shim that died: it runs one that deletes, unmounts and removes a folder. */
const CLEANUP_DEADLINE_MS = 10_000;
/** After a reboot a thousand removals look at a thousand processes. */
const LOOKS_APART_MS = 1_000;
/** Command lines read in one turn of the event loop; each takes some ten microseconds. */
const PROCESSES_PER_TURN = 64;

/** Command lines by process. */
type ProcessTable = ReadonlyMap<number, readonly string[]>;

/**
 * Shims that containerd lost: killed while it starts one, it leaves a process that it does not find again, together
 * with the socket it listens on.
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
   * Ends the shims of a container that containerd knows no task of, and removes their sockets. One that was started for it
   * and serves others by now is let be. Returns how many.
   */
  async end(containerId: string): Promise<number> {
    const processes = await this.#processes.take();
    const settled = (await this.#cleanedUp(containerId, processes))
      ? await this.#processes.take()
      : processes;
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
   * Ends the shims that do not answer for a container, whomever else they serve.
   *
   * @param processes those of the container: the shim that serves it is the parent of one of them
   */
  async endOf(containerId: string, processes: readonly number[]): Promise<number> {
    const parents = new Set<number>();
    for (const pid of processes) {
      parents.add(parentOf(await this.#stat(pid)) ?? 0);
    }
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
      try {
        process.kill(pid, 'SIGKILL');
      } catch (error) {
        if (errnoOf(error) !== 'ESRCH') {
          throw error;
        }
      }
      await this.#gone(pid);
      await Promise.all(sockets.map((path) => rm(path, { force: true })));
    }
  }

  /** Whether it has children in a control group of another container. Those in its own are runc, at work for a moment. */
  async #servesOthers(shim: number, containerId: string): Promise<boolean> {
    const own = await this.#cgroup(shim);
    for (const entry of await readdir(this.#proc)) {
      if (!/^\d+$/.test(entry) || parentOf(await this.#stat(entry)) !== shim) {
        continue;
      }
      const cgroup = await this.#cgroup(entry);
      if (cgroup !== '' && cgroup !== own && !cgroup.includes(containerId)) {
        return true;
      }
    }
    return false;
  }

  async #stat(pid: number | string): Promise<string> {
    return await readFile(join(this.#proc, String(pid), 'stat'), 'utf8').catch(() => '');
  }

  async #cgroup(pid: number | string): Promise<string> {
    return await readFile(join(this.#proc, String(pid), 'cgroup'), 'utf8').catch(() => '');
  }

  /**
   * Waits for the end of a cleanup of containerd's own. Cut off in the middle it leaves a folder in the way of the next
   * task of that name until containerd is started again.
   *
   * @returns whether there was one
   */
  async #cleanedUp(containerId: string, processes: ProcessTable): Promise<boolean> {
    const { clock } = this.#options;
    const end = clock.monotonic() + CLEANUP_DEADLINE_MS;
    let found = false;
    for (const [pid, commandLine] of processes) {
      if (!isCleanupOf(commandLine, this.#options, containerId)) {
        continue;
      }
      found = true;
      const bundle = commandLine[commandLine.indexOf('-bundle') + 1] ?? '';
      while (
        clock.monotonic() < end &&
        (isCleanupOf(this.#commandLine(pid), this.#options, containerId) || (await isThere(bundle)))
      ) {
        await sleep(clock, 5);
      }
    }
    return found;
  }

  #find(containerId: string, processes: ProcessTable): number[] {
    return [...processes]
      .filter(
        ([pid, commandLine]) =>
          isShimOf(commandLine, this.#options, containerId) &&
          seesSameFolder(this.#proc, pid, dirname(this.#options.socketPath)),
      )
      .map(([pid]) => pid);
  }

  async #readProcesses(): Promise<ProcessTable> {
    const found = new Map<number, readonly string[]>();
    for (const [index, entry] of (await readdir(this.#proc)).entries()) {
      if (/^\d+$/.test(entry)) {
        found.set(Number(entry), this.#commandLine(entry));
      }
      if (index % PROCESSES_PER_TURN === PROCESSES_PER_TURN - 1) {
        await turn();
      }
    }
    return found;
  }

  /** Synchronous: a copy out of memory. */
  #commandLine(pid: number | string): readonly string[] {
    try {
      return readFileSync(join(this.#proc, String(pid), 'cmdline'), 'utf8').split('\0');
    } catch {
      // Gone since the folder was read.
      return [];
    }
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
      // Only what a shim listens on lies in a folder `s` of a name made from its container's.
      return inodes.has(inode) && /\/s\/[0-9a-f]{64}$/.test(path) ? [path] : [];
    });
  }

  async #gone(pid: number): Promise<void> {
    const { clock } = this.#options;
    const end = clock.monotonic() + EXIT_DEADLINE_MS;
    while (shimOf(this.#commandLine(pid), this.#options) !== undefined) {
      if (clock.monotonic() > end) {
        throw new EsbError(`the shim ${pid} does not end`, {
          code: 'TaskStuck',
          retryable: true,
        });
      }
      await sleep(clock, 5);
    }
  }
}

interface ShimOwner {
  readonly socketPath: string;
  readonly namespace: string;
}

/** Whether a command line is that of a container's running shim (not of the short-lived one that starts or deletes it). */
export function isShimOf(commandLine: readonly string[], owner: ShimOwner, containerId: string): boolean {
  const isLasting = !commandLine.includes('start') && !commandLine.includes('delete');
  return isLasting && isForContainer(commandLine, owner, containerId);
}

/** Whether a command line is that of a shim that clears up after one of a container that died. */
export function isCleanupOf(commandLine: readonly string[], owner: ShimOwner, containerId: string): boolean {
  return commandLine.includes('delete') && isForContainer(commandLine, owner, containerId);
}

function isForContainer(commandLine: readonly string[], owner: ShimOwner, containerId: string): boolean {
  const value = (flag: string): string | undefined => {
    const index = commandLine.indexOf(flag);
    return index < 0 ? undefined : commandLine[index + 1];
  };
  return (
    (commandLine[0] ?? '').includes('containerd-shim') &&
    value('-namespace') === owner.namespace &&
    value('-id') === containerId &&
    value('-address') === owner.socketPath
  );
}

async function isThere(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
