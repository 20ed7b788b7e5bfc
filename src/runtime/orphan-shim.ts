import { readdir, readFile, readlink, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../common/clock.ts';
import { sleep } from '../common/deadline.ts';
import { EsbError, errnoOf } from '../common/errors.ts';

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

/**
 * Shims that containerd lost: killed while it starts one, it leaves a process that it does not find again, together
 * with the socket it listens on.
 */
export class OrphanShims {
  readonly #options: OrphanShimsOptions;
  readonly #proc: string;

  constructor(options: OrphanShimsOptions) {
    this.#options = options;
    this.#proc = options.procFolder ?? '/proc';
  }

  /** Ends the shims of a container that containerd knows no task of, and removes their sockets. Returns how many. */
  async end(containerId: string): Promise<number> {
    const pids = await this.#find(containerId);
    for (const pid of pids) {
      const sockets = await this.#sockets(pid);
      try {
        process.kill(pid, 'SIGKILL');
      } catch (error) {
        if (errnoOf(error) !== 'ESRCH') {
          throw error;
        }
      }
      await this.#gone(pid, containerId);
      await Promise.all(sockets.map((path) => rm(path, { force: true })));
    }
    return pids.length;
  }

  async #find(containerId: string): Promise<number[]> {
    const found: number[] = [];
    for (const entry of await readdir(this.#proc)) {
      if (/^\d+$/.test(entry) && isShimOf(await this.#commandLine(entry), this.#options, containerId)) {
        found.push(Number(entry));
      }
    }
    return found;
  }

  async #commandLine(pid: number | string): Promise<readonly string[]> {
    try {
      return (await readFile(join(this.#proc, String(pid), 'cmdline'), 'utf8')).split('\0');
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

  async #gone(pid: number, containerId: string): Promise<void> {
    const { clock } = this.#options;
    const end = clock.monotonic() + EXIT_DEADLINE_MS;
    while (isShimOf(await this.#commandLine(pid), this.#options, containerId)) {
      if (clock.monotonic() > end) {
        throw new EsbError(`the shim ${pid} of ${containerId} does not end`, {
          code: 'RuntimeUnavailable',
          retryable: true,
        });
      }
      await sleep(clock, 5);
    }
  }
}

/** Whether a command line is that of a container's running shim (not of the short-lived one that starts or deletes it). */
export function isShimOf(
  commandLine: readonly string[],
  owner: { readonly socketPath: string; readonly namespace: string },
  containerId: string,
): boolean {
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
